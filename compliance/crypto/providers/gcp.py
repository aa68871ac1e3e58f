"""The master key in Google Cloud KMS, through ``google-cloud-kms``.

Credentials come from Application Default Credentials. The REST transport is used: gRPC's
threads do not survive a fork, and loaders of training data fork.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from typing import Any

from compliance.crypto.providers.base import (
    ANSWER_SECONDS,
    Remote,
    altered,
    encode_context,
    require_tls,
)
from compliance.errors import (
    AccessDenied,
    ComplianceError,
    ConfigurationError,
    DecryptionFailed,
    KeyDestroyed,
    MissingExtra,
    StoreError,
)

_KEY = re.compile(r"projects/[\w.:-]+/locations/[\w-]+/keyRings/[\w-]+/cryptoKeys/[\w-]+")
_ENDPOINT = "CLOUDSDK_API_ENDPOINT_OVERRIDES_CLOUDKMS"
_SCOPE = "https://www.googleapis.com/auth/cloudkms"
_METADATA_SECONDS = 2


class GcpKms(Remote):
    """A symmetric Cloud KMS key; the context is its additional authenticated data."""

    def __init__(self, key: str) -> None:
        """Name a key; nothing is contacted.

        Raises:
            ConfigurationError: no such name.
            MissingExtra: ``google-cloud-kms`` or ``google-crc32c`` is not installed.
        """
        if not _KEY.fullmatch(key):
            raise ConfigurationError(
                "write the KMS key as gcp-kms:projects/PROJECT/locations/LOCATION/"
                "keyRings/RING/cryptoKeys/NAME"
            )
        self._key = key
        self._endpoint = os.environ.get(_ENDPOINT, "").rstrip("/")
        if self._endpoint:
            require_tls(self._endpoint, _ENDPOINT)
        _kms()
        super().__init__(f"gcp-kms:{key}")

    def wrap(self, key: bytes, context: Mapping[str, str]) -> bytes:
        """Return a key encrypted by KMS; checksums tell that nothing changed on the way.

        Source: Google, "Verifying end-to-end data integrity" (Cloud KMS).
        """
        bound = encode_context(context)
        request = {
            "name": self._key,
            "plaintext": key,
            "plaintext_crc32c": _crc(key),
            "additional_authenticated_data": bound,
            "additional_authenticated_data_crc32c": _crc(bound),
        }
        try:
            answer = self._ask(lambda client: client.encrypt(request=request, **_limits()))
        except DecryptionFailed:  # nothing was decrypted: Google calls the request itself wrong
            raise ConfigurationError(
                f"{self.name}: this key cannot encrypt; its purpose must be ENCRYPT_DECRYPT"
            ) from None
        self._whole(
            answer.verified_plaintext_crc32c
            and answer.verified_additional_authenticated_data_crc32c
            and answer.name.startswith(f"{self._key}/")
            and answer.ciphertext_crc32c == _crc(answer.ciphertext)
        )
        return bytes(answer.ciphertext)

    def unwrap(self, wrapped: bytes, context: Mapping[str, str], wrapper: str | None) -> bytes:
        """Return a key decrypted by KMS."""
        self._check(wrapper)
        bound = encode_context(context)
        request = {
            "name": self._key,
            "ciphertext": wrapped,
            "ciphertext_crc32c": _crc(wrapped),
            "additional_authenticated_data": bound,
            "additional_authenticated_data_crc32c": _crc(bound),
        }
        answer = self._ask(lambda client: client.decrypt(request=request, **_limits()))
        self._whole(answer.plaintext_crc32c == _crc(answer.plaintext))
        return bytes(answer.plaintext)

    def _whole(self, right: object) -> None:
        if not right:
            raise StoreError(f"{self.name}: the request or its answer was damaged; run again")

    def _connect(self) -> Any:
        return _kms().KeyManagementServiceClient(
            transport="rest",
            credentials=_credentials(),
            client_options={"api_endpoint": self._endpoint} if self._endpoint else None,
        )

    def _explain(self, error: Exception) -> ComplianceError:
        from google.api_core import exceptions as api
        from google.auth import exceptions as auth

        match error:
            case auth.DefaultCredentialsError():
                return AccessDenied(
                    f"{self.name}: no Google credentials; set GOOGLE_APPLICATION_CREDENTIALS, or "
                    "run `gcloud auth application-default login`"
                )
            case auth.RefreshError() | api.Forbidden() | api.Unauthorized():
                return AccessDenied(
                    f"{self.name}: Google refuses; the caller needs the role "
                    "roles/cloudkms.cryptoKeyEncrypterDecrypter on the key"
                )
            case api.NotFound():
                return ConfigurationError(
                    f"{self.name}: no such key; its keeper makes it with `gcloud kms keys create`"
                )
            case api.TooManyRequests():
                return StoreError(f"{self.name}: Google refuses so many requests; wait")
            case api.BadRequest() | api.PreconditionFailed():
                return self._explain_state(error.message)
        kind = type(error).__name__
        return StoreError(f"{self.name}: Cloud KMS cannot do it now ({kind}); run again")

    def _explain_state(self, message: str) -> ComplianceError:
        if "DESTROY" in message:  # DESTROYED or DESTROY_SCHEDULED
            return KeyDestroyed(
                f"{self.name}: the version of the key that wrapped this is destroyed or about to "
                "be; until the scheduled day its keeper can restore it"
            )
        if "not enabled" in message or "DISABLED" in message:
            return StoreError(f"{self.name}: the key is disabled; its keeper can enable it")
        return altered(self.name)


def _limits() -> dict[str, Any]:
    """Bound the library's own retries, which would go on for a minute."""
    from google.api_core import exceptions, retry

    passing = retry.if_exception_type(exceptions.ServiceUnavailable, exceptions.GatewayTimeout)
    return {
        "retry": retry.Retry(predicate=passing, initial=0.2, maximum=2.0, timeout=ANSWER_SECONDS),
        "timeout": ANSWER_SECONDS,
    }


def _credentials() -> Any:
    """Return Application Default Credentials, without waiting long for a metadata server."""
    import google.auth
    from google.auth import exceptions
    from google.auth.transport.requests import Request

    class Brief(Request):
        """The probe for a metadata server: one short try, where the library makes three long."""

        answered = False

        def __call__(self, *args: Any, **options: Any) -> Any:
            probes = "metadata-flavor" in map(str.lower, options.get("headers") or ())
            if self.answered or not probes:
                return super().__call__(*args, **options)  # type: ignore[no-untyped-call]  # no types there
            try:
                answer = super().__call__(*args, **options | {"timeout": _METADATA_SECONDS})  # type: ignore[no-untyped-call]  # no types there
            except exceptions.TransportError:
                raise exceptions.DefaultCredentialsError("none") from None  # type: ignore[no-untyped-call]  # no types there
            self.answered = True
            return answer

    credentials, _project = google.auth.default(scopes=[_SCOPE], request=Brief())
    return credentials


def _crc(data: bytes) -> int:
    import google_crc32c

    return int(google_crc32c.value(data))


def _kms() -> Any:
    try:
        import google_crc32c  # noqa: F401 - checked here so that its lack is told at once
        from google.cloud import kms_v1
    except ImportError:
        raise MissingExtra("gcp", "google-cloud-kms") from None
    return kms_v1
