"""AWS KMS: what it may answer, and what happens where nobody is logged in."""

import time

import pytest

from compliance.crypto.providers.aws import AwsKms
from compliance.errors import (
    AccessDenied,
    ConfigurationError,
    DecryptionFailed,
    KeyDestroyed,
    StoreError,
)

CONTEXT = {"tenant": "bank", "purpose": "compliance domain key"}
DOMAIN = b"d" * 32
ARN = "arn:aws:kms:eu-west-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab"


@pytest.fixture
def key(aws):
    return AwsKms(ARN)


@pytest.fixture
def wrapped(key):
    return key.wrap(DOMAIN, CONTEXT)


def _error(code, message="words of the server"):
    return 400, {"__type": code, "message": message}


@pytest.mark.parametrize(
    ("answer", "error", "match"),
    [
        (_error("AccessDeniedException"), AccessDenied, "kms:Encrypt and kms:Decrypt"),
        (_error("ExpiredTokenException"), AccessDenied, "ExpiredTokenException"),
        (_error("InvalidCiphertextException"), DecryptionFailed, "altered"),
        (_error("IncorrectKeyException"), ConfigurationError, "by its ARN"),
        (_error("NotFoundException"), ConfigurationError, "aws kms create-key"),
        (_error("InvalidKeyUsageException"), ConfigurationError, "no symmetric key"),
        (_error("DisabledException"), StoreError, "disabled"),
        (_error("KMSInvalidStateException", f"{ARN} is pending deletion."), KeyDestroyed, "cancel"),
        (_error("KMSInvalidStateException", f"{ARN} is pending import."), StoreError, "run again"),
        (_error("ThrottlingException"), StoreError, "ThrottlingException"),
        ((500, {"__type": "KMSInternalException"}), StoreError, "KMSInternalException"),
        ((200, {}), StoreError, "cannot be reached"),
    ],
    ids=lambda value: value[1].get("__type", "empty") if isinstance(value, tuple) else "",
)
def test_what_kms_answers_is_told_without_its_words(aws, key, wrapped, answer, error, match):
    aws.fail = answer
    with pytest.raises(error, match=match) as caught:
        key.unwrap(wrapped, CONTEXT, key.name)
    assert "words of the server" not in str(caught.value)
    assert (caught.value.__cause__, caught.value.__context__) == (None, None)
    aws.fail = None
    assert key.unwrap(wrapped, CONTEXT, key.name) == DOMAIN


def test_throttling_is_tried_again_three_times_and_no_more(aws, key, wrapped):
    aws.fail = _error("ThrottlingException")
    asked = len(aws.requests)
    with pytest.raises(StoreError):
        key.unwrap(wrapped, CONTEXT, key.name)
    assert len(aws.requests) - asked == 3


def test_a_key_is_unwrapped_under_itself_and_no_other(aws, key, wrapped):
    other = AwsKms("alias/domain")
    aws_region = pytest.MonkeyPatch()
    aws_region.setenv("AWS_DEFAULT_REGION", "eu-west-1")
    try:
        with pytest.raises(DecryptionFailed):
            other.unwrap(wrapped, CONTEXT, other.name)
    finally:
        aws_region.undo()


def test_the_region_is_that_of_the_arn_or_has_to_be_said(aws, key):
    with pytest.raises(ConfigurationError, match="AWS_DEFAULT_REGION"):
        AwsKms("alias/domain").wrap(DOMAIN, CONTEXT)
    assert key._client().meta.region_name == "eu-west-1"


def test_a_server_that_is_gone_is_told_soon(aws, key, wrapped):
    aws.stop()
    started = time.monotonic()
    with pytest.raises(StoreError, match="cannot be reached"):
        AwsKms(ARN).unwrap(wrapped, CONTEXT, key.name)
    assert time.monotonic() - started < 10


def test_an_endpoint_where_keys_would_travel_in_the_clear_is_refused(aws, monkeypatch):
    monkeypatch.setenv("AWS_ENDPOINT_URL_KMS", "http://kms.test")
    with pytest.raises(ConfigurationError, match="https://"):
        AwsKms(ARN).wrap(DOMAIN, CONTEXT)


def test_without_credentials_it_says_so_and_asks_nobody(aws, monkeypatch):
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    with pytest.raises(AccessDenied, match="no AWS credentials"):
        AwsKms(ARN).wrap(DOMAIN, CONTEXT)
    assert aws.requests == []


def test_a_metadata_server_that_is_not_there_stalls_nobody(aws, monkeypatch, reached):
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_EC2_METADATA_DISABLED"):
        monkeypatch.delenv(name)
    started = time.monotonic()
    with pytest.raises(AccessDenied, match="no AWS credentials"):
        AwsKms(ARN).wrap(DOMAIN, CONTEXT)
    assert time.monotonic() - started < 5
    reached.clear()  # the library looked for a role of this machine
