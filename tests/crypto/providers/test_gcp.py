"""Google Cloud KMS: checksums, what it may answer, and what happens where nobody is logged in."""

import socket
import time

import pytest

from compliance.crypto.providers import gcp as module
from compliance.crypto.providers.gcp import GcpKms
from compliance.errors import (
    AccessDenied,
    ConfigurationError,
    DecryptionFailed,
    KeyDestroyed,
    StoreError,
)

CONTEXT = {"tenant": "bank", "purpose": "compliance domain key"}
DOMAIN = b"d" * 32
NAME = "projects/bank/locations/europe/keyRings/ring/cryptoKeys/domain"


@pytest.fixture
def key(gcp):
    return GcpKms(NAME)


@pytest.fixture
def wrapped(key):
    return key.wrap(DOMAIN, CONTEXT)


def _error(code, status, message="words of the server"):
    return code, {"error": {"code": code, "message": message, "status": status}}


_STATE = f"{NAME}/cryptoKeyVersions/1 is not enabled, current state is: "


@pytest.mark.parametrize(
    ("answer", "error", "match"),
    [
        (_error(403, "PERMISSION_DENIED"), AccessDenied, "cryptoKeyEncrypterDecrypter"),
        (_error(401, "UNAUTHENTICATED"), AccessDenied, "Google refuses"),
        (_error(404, "NOT_FOUND"), ConfigurationError, "gcloud kms keys create"),
        (_error(429, "RESOURCE_EXHAUSTED"), StoreError, "wait"),
        (_error(400, "INVALID_ARGUMENT"), DecryptionFailed, "altered"),
        (_error(400, "FAILED_PRECONDITION", _STATE + "DISABLED"), StoreError, "disabled"),
        (_error(400, "FAILED_PRECONDITION", _STATE + "DESTROYED"), KeyDestroyed, "destroyed"),
        (_error(400, "FAILED_PRECONDITION", _STATE + "DESTROY_SCHEDULED"), KeyDestroyed, "restore"),
        (_error(500, "INTERNAL"), StoreError, "run again"),
        ((200, []), StoreError, "run again"),
    ],
    ids=["403", "401", "404", "429", "400", "disabled", "destroyed", "scheduled", "500", "list"],
)
def test_what_kms_answers_is_told_without_its_words(gcp, key, wrapped, answer, error, match):
    gcp.fail = answer
    with pytest.raises(error, match=match) as caught:
        key.unwrap(wrapped, CONTEXT, key.name)
    assert "words of the server" not in str(caught.value)
    assert (caught.value.__cause__, caught.value.__context__) == (None, None)
    gcp.fail = None
    assert key.unwrap(wrapped, CONTEXT, key.name) == DOMAIN


def test_a_key_of_another_purpose_is_refused(gcp, key):
    gcp.fail = _error(400, "INVALID_ARGUMENT")
    with pytest.raises(ConfigurationError, match="ENCRYPT_DECRYPT"):
        key.wrap(DOMAIN, CONTEXT)


@pytest.mark.parametrize(
    "damage",
    [
        {"ciphertextCrc32c": "1"},
        {"verifiedPlaintextCrc32c": False},
        {"verifiedAdditionalAuthenticatedDataCrc32c": False},
        {"name": f"{NAME}2/cryptoKeyVersions/1"},
    ],
    ids=lambda damage: next(iter(damage)),
)
def test_an_encryption_that_was_damaged_on_the_way_is_not_kept(gcp, key, damage):
    gcp.damage = damage
    with pytest.raises(StoreError, match="damaged"):
        key.wrap(DOMAIN, CONTEXT)


def test_a_decryption_that_was_damaged_on_the_way_is_not_used(gcp, key, wrapped):
    gcp.damage = {"plaintextCrc32c": "1"}
    with pytest.raises(StoreError, match="damaged"):
        key.unwrap(wrapped, CONTEXT, key.name)


def test_a_server_that_is_overloaded_is_asked_again_for_a_bounded_time(
    gcp, key, wrapped, monkeypatch
):
    monkeypatch.setattr(module, "ANSWER_SECONDS", 1)
    gcp.fail = _error(503, "UNAVAILABLE")
    asked, started = len(gcp.requests), time.monotonic()
    with pytest.raises(StoreError, match="run again"):
        key.unwrap(wrapped, CONTEXT, key.name)
    assert time.monotonic() - started < 4
    assert len(gcp.requests) - asked > 1


def test_a_server_that_is_gone_is_told_at_once(gcp, key, wrapped):
    gcp.stop()
    started = time.monotonic()
    with pytest.raises(StoreError, match="ConnectionError"):
        GcpKms(NAME).unwrap(wrapped, CONTEXT, key.name)
    assert time.monotonic() - started < 5


def test_an_endpoint_where_keys_would_travel_in_the_clear_is_refused(monkeypatch):
    monkeypatch.setenv("CLOUDSDK_API_ENDPOINT_OVERRIDES_CLOUDKMS", "http://kms.test/")
    with pytest.raises(ConfigurationError, match="https://"):
        GcpKms(NAME)


def test_credentials_that_are_no_credentials_are_told_and_not_shown(gcp, monkeypatch, tmp_path):
    (tmp_path / "account.json").write_text('{"type": "service_account", "private_key": "hush"}')
    with pytest.raises(AccessDenied, match="GOOGLE_APPLICATION_CREDENTIALS") as caught:
        GcpKms(NAME).wrap(DOMAIN, CONTEXT)
    assert "hush" not in str(caught.value)


def test_a_metadata_server_that_does_not_answer_stalls_nobody(monkeypatch):
    """A socket that connects and says nothing stands for an address that swallows packets."""
    monkeypatch.delenv("GOOGLE_APPLICATION_CREDENTIALS", raising=False)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        monkeypatch.setenv("GCE_METADATA_IP", f"127.0.0.1:{silent.getsockname()[1]}")
        started = time.monotonic()
        with pytest.raises(AccessDenied, match="no Google credentials"):
            GcpKms(NAME).wrap(DOMAIN, CONTEXT)
        assert time.monotonic() - started < 5
