"""The master key: where it lives, behind one Protocol.

========================  ==================================================================
``COMPLIANCE_MASTER``     what wraps the domain keys
========================  ==================================================================
``file``, ``file:PATH``   a local file of mode 0600 (default: ``HOME/keys/master.json``)
``keyring:NAME``          an entry of the operating system's keyring
``hpke:PATH``             an HPKE recipient: a private key in PEM
``vault:MOUNT/KEYNAME``   a transit key of the HashiCorp Vault at ``VAULT_ADDR``
``aws-kms:KEY``           an AWS KMS key, by id, ARN or alias
``gcp-kms:projects/...``  a Google Cloud KMS key
========================  ==================================================================
"""

from __future__ import annotations

import difflib
import hmac
import os
import secrets
from collections.abc import Callable
from pathlib import Path

from compliance.config import Settings
from compliance.crypto import master
from compliance.crypto.providers.base import MasterKey
from compliance.errors import ConfigurationError

__all__ = ["MasterKey", "create_master", "has_master", "master_path", "open_master"]
_CHECK = "compliance master key check"


def open_master(settings: Settings, *, passphrase: str | None = None) -> MasterKey:
    """Open the master key that the settings name; no server is contacted until it is used.

    Args:
        settings: ``master`` picks the provider.
        passphrase: default: ``COMPLIANCE_PASSPHRASE``; asked for only where one is needed.

    Raises:
        ConfigurationError: no such provider, or no master key there.
        DecryptionFailed: the passphrase is wrong.
        MissingExtra: the provider's client library is not installed.
    """
    scheme, rest = _parse(settings)
    return _OPEN[scheme](settings, rest, _asker(passphrase))


def create_master(settings: Settings, passphrase: str | None = None) -> MasterKey:
    """Make a master key where that is ours to do, and try it: wrap and unwrap a random key.

    A file, a keyring entry and an X25519 key pair are made here. Keys of Vault, AWS and Google
    are made by whoever keeps them, and the error says how.

    Raises:
        ConfigurationError: there is a file or entry already, or no key on the server.
        AccessDenied: the server does not permit the caller to encrypt and to decrypt.
    """
    scheme, rest = _parse(settings)
    ask = _asker(passphrase)
    make = _MAKE.get(scheme)
    if make:
        make(settings, rest, ask and ask())
    key = open_master(settings, passphrase=passphrase)
    _try(key, settings.tenant)
    return key


def has_master(settings: Settings) -> bool:
    """Say whether there is a master key to open; one on a server is taken to be there."""
    scheme, rest = _parse(settings)
    if scheme == "keyring":
        from compliance.crypto.providers.oskeyring import Entry

        return Entry(rest, settings.tenant).read() is not None
    path = master_path(settings)
    return path is None or os.path.lexists(path)


def master_path(settings: Settings) -> Path | None:
    """Return the file that holds the master key; None where no file of ours does."""
    scheme, rest = _parse(settings)
    if scheme == "file" and not rest:
        return settings.key_file
    return settings.root / rest if scheme in {"file", "hpke"} else None


def _parse(settings: Settings) -> tuple[str, str]:
    scheme, colon, rest = settings.master.partition(":")
    if scheme not in _OPEN:
        near = difflib.get_close_matches(scheme, _OPEN, 1)
        hint = f"did you mean {near[0]!r}?" if near else f"known: {', '.join(_OPEN)}"
        raise ConfigurationError(f"unknown master key provider {scheme!r}; {hint}")
    if not rest and (colon or scheme != "file"):
        raise ConfigurationError(f"the setting master lacks what follows {scheme}: in it")
    return scheme, rest


def _asker(passphrase: str | None) -> master.Passphrase | None:
    given = passphrase or os.environ.get("COMPLIANCE_PASSPHRASE")
    return (lambda: given) if given else None


def _try(key: MasterKey, tenant: str) -> None:
    context = {"tenant": tenant, "purpose": _CHECK}
    sample = secrets.token_bytes(master.BYTES)
    if not hmac.compare_digest(key.unwrap(key.wrap(sample, context), context, key.name), sample):
        raise ConfigurationError(
            f"{key.name}: it does not give back what it wrapped; do not use it"
        )


# -- one line for each provider -----------------------------------------------------------


def _file(settings: Settings, rest: str, ask: master.Passphrase | None) -> MasterKey:
    from compliance.crypto.providers.local import LocalFile

    return LocalFile(settings.root / rest if rest else settings.key_file, ask)


def _keyring(settings: Settings, rest: str, ask: master.Passphrase | None) -> MasterKey:
    from compliance.crypto.providers.oskeyring import OsKeyring

    return OsKeyring(rest, settings.tenant, _keyring_lock(settings), ask)


def _keyring_lock(settings: Settings) -> Path:
    return settings.home / "keys" / ".keyring.lock"


def _hpke(settings: Settings, rest: str, ask: master.Passphrase | None) -> MasterKey:
    from compliance.crypto.providers.hpke import HpkeRecipient

    return HpkeRecipient(settings.root / rest, ask)


def _vault(_settings: Settings, rest: str, _ask: master.Passphrase | None) -> MasterKey:
    from compliance.crypto.providers.vault import VaultTransit

    return VaultTransit(rest)


def _aws(_settings: Settings, rest: str, _ask: master.Passphrase | None) -> MasterKey:
    from compliance.crypto.providers.aws import AwsKms

    return AwsKms(rest)


def _gcp(_settings: Settings, rest: str, _ask: master.Passphrase | None) -> MasterKey:
    from compliance.crypto.providers.gcp import GcpKms

    return GcpKms(rest)


def _make_file(settings: Settings, rest: str, passphrase: str | None) -> None:
    master.create(settings.root / rest if rest else settings.key_file, passphrase)


def _make_keyring(settings: Settings, rest: str, passphrase: str | None) -> None:
    from compliance.crypto.providers.oskeyring import Entry

    Entry(rest, settings.tenant).create(_keyring_lock(settings), passphrase)


def _make_hpke(settings: Settings, rest: str, passphrase: str | None) -> None:
    """Make a key pair where there is none; one that is there came from somewhere else."""
    from compliance.crypto.providers import hpke

    if not os.path.lexists(settings.root / rest):
        hpke.generate(settings.root / rest, passphrase)


_Open = Callable[[Settings, str, master.Passphrase | None], MasterKey]
_OPEN: dict[str, _Open] = {
    "file": _file,
    "keyring": _keyring,
    "hpke": _hpke,
    "vault": _vault,
    "aws-kms": _aws,
    "gcp-kms": _gcp,
}
_MAKE = {"file": _make_file, "keyring": _make_keyring, "hpke": _make_hpke}
