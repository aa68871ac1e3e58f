"""The master key in AWS KMS, through ``boto3``.

Credentials, region, proxies and endpoint come from boto3's own chain: environment, shared
configuration, container or instance role.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from compliance.crypto.providers.base import (
    ANSWER_SECONDS,
    CONNECT_SECONDS,
    Remote,
    altered,
    require_tls,
)
from compliance.errors import (
    AccessDenied,
    ComplianceError,
    ConfigurationError,
    KeyDestroyed,
    MissingExtra,
    StoreError,
)

_REFUSED = {
    "AccessDeniedException", "AccessDenied", "ExpiredTokenException", "ExpiredToken",
    "IncompleteSignature", "InvalidClientTokenId", "InvalidSignatureException",
    "MissingAuthenticationTokenException", "NotAuthorized", "OptInRequired",
    "SignatureDoesNotMatch", "UnrecognizedClientException",
}  # fmt: skip
_WRONG = {"NotFoundException", "InvalidArnException", "InvalidKeyUsageException",
          "ValidationException", "UnsupportedOperationException"}  # fmt: skip
_LOGIN = {"NoCredentialsError", "PartialCredentialsError", "CredentialRetrievalError",
          "TokenRetrievalError", "SSOTokenLoadError", "UnauthorizedSSOTokenError",
          "ProfileNotFound", "ConfigNotFound"}  # fmt: skip


class AwsKms(Remote):
    """A symmetric KMS key, by id, ARN or alias; the context is the encryption context.

    AWS writes the encryption context into CloudTrail in plain text: the tenant's name is there.
    """

    def __init__(self, key: str) -> None:
        """Name a key; nothing is contacted.

        Raises:
            ConfigurationError: no name.
            MissingExtra: ``boto3`` is not installed.
        """
        if not key:
            raise ConfigurationError("write the KMS key as aws-kms:KEY-ID-OR-ARN")
        self._key = key
        _boto3()
        super().__init__(f"aws-kms:{key}")

    def wrap(self, key: bytes, context: Mapping[str, str]) -> bytes:
        """Return a key encrypted by KMS."""
        bound = dict(context)
        return self._ask(
            lambda client: bytes(
                client.encrypt(KeyId=self._key, Plaintext=key, EncryptionContext=bound)[
                    "CiphertextBlob"
                ]
            )
        )

    def unwrap(self, wrapped: bytes, context: Mapping[str, str], wrapper: str | None) -> bytes:
        """Return a key decrypted by KMS, under this key and no other."""
        self._check(wrapper)
        bound = dict(context)
        return self._ask(
            lambda client: bytes(
                client.decrypt(KeyId=self._key, CiphertextBlob=wrapped, EncryptionContext=bound)[
                    "Plaintext"
                ]
            )
        )

    def _connect(self) -> Any:
        from botocore.config import Config

        config = Config(
            connect_timeout=CONNECT_SECONDS,
            read_timeout=ANSWER_SECONDS,
            retries={"mode": "standard", "total_max_attempts": 3},
        )
        # A session of our own: boto3's default one is shared, and not safe between threads.
        session = _boto3().session.Session()
        client = session.client("kms", region_name=_region(self._key), config=config)
        require_tls(client.meta.endpoint_url, "the endpoint of AWS KMS")
        if session.get_credentials() is None:
            raise self._no_login()
        return client

    def _explain(self, error: Exception) -> ComplianceError:
        from botocore import exceptions

        kind = type(error).__name__
        match error:
            case exceptions.ClientError():
                details = error.response.get("Error", {})
                return self._explain_code(details.get("Code", ""), details.get("Message", ""))
            case exceptions.NoRegionError():
                return ConfigurationError(
                    f"{self.name}: in which region? Set AWS_DEFAULT_REGION, or name the key by ARN"
                )
            case exceptions.ParamValidationError():
                return altered(self.name)
        if kind in _LOGIN:
            return self._no_login()
        return StoreError(f"{self.name}: AWS KMS cannot be reached ({kind}); run again")

    def _explain_code(self, code: str, message: str) -> ComplianceError:
        if code == "InvalidCiphertextException":
            return altered(self.name)
        if code == "IncorrectKeyException":
            return ConfigurationError(
                f"{self.name}: another KMS key wrapped this; if an alias was moved, "
                "name the key by its ARN"
            )
        if code in _REFUSED:
            return AccessDenied(
                f"{self.name}: AWS refuses ({code}); the caller needs kms:Encrypt and kms:Decrypt"
            )
        if code in _WRONG:
            return ConfigurationError(
                f"{self.name}: no symmetric key for encryption here ({code}); its keeper makes "
                "one with `aws kms create-key` in this account and region, or it was deleted"
            )
        return self._explain_state(code, message)

    def _explain_state(self, code: str, message: str) -> ComplianceError:
        if code == "DisabledException":
            return StoreError(f"{self.name}: the key is disabled; its keeper can enable it")
        if code == "KMSInvalidStateException" and "pending deletion" in message.lower():
            return KeyDestroyed(
                f"{self.name}: the key is pending deletion; until that day its keeper can cancel it"
            )
        return StoreError(f"{self.name}: AWS KMS cannot do it now ({code}); run again")

    def _no_login(self) -> AccessDenied:
        return AccessDenied(
            f"{self.name}: no AWS credentials; set AWS_PROFILE, or run `aws configure`, or give "
            "this machine a role"
        )


def _region(key: str) -> str | None:
    """Return the region that an ARN names (arn:aws:kms:REGION:ACCOUNT:key/ID)."""
    parts = key.split(":")
    return parts[3] if parts[0] == "arn" and len(parts) > 3 and parts[3] else None  # noqa: PLR2004 - an ARN's place of the region


def _boto3() -> Any:
    try:
        import boto3
    except ImportError:
        raise MissingExtra("aws", "boto3") from None
    return boto3
