"""Who acts: an identity comes from a provider, never from a mere argument.

The operating-system user is the default. ``asserted:NAME`` takes the word of whoever
set it (a scheduler); the policy says for which actions that is enough.
"""

from __future__ import annotations

import os
import pwd
from dataclasses import dataclass

from compliance.config import Settings
from compliance.errors import ConfigurationError
from compliance.policy import Method


@dataclass(frozen=True, slots=True)
class Identity:
    """Who acts, how we know, and under which operating-system account.

    Attributes:
        actor: the person or service that really acts.
        method: how that was established.
        account: the operating-system account of this process.
        on_behalf_of: the principal whose rights are used instead; needs ``impersonate``.
    """

    actor: str
    method: Method
    account: str
    on_behalf_of: str | None = None

    @property
    def principal(self) -> str:
        """Return whose roles count."""
        return self.on_behalf_of or self.actor

    @property
    def person(self) -> str:
        """Return who counts as one person for separation of duties: the one who really acts."""
        return self.actor


def current(settings: Settings) -> Identity:
    """Return the identity that the settings name.

    Raises:
        ConfigurationError: an unknown provider, or ``asserted:`` without a name.
    """
    provider, _, name = settings.identity.partition(":")
    behalf = settings.acting_as or None
    account = account_name()
    if provider == "os" and not name:
        return Identity(account, Method.OS, account, behalf)
    if provider == "asserted" and name.strip():
        return Identity(name.strip(), Method.ASSERTED, account, behalf)
    raise ConfigurationError(
        f"identity {settings.identity!r} is not known; use 'os' or 'asserted:NAME'"
    )


def account_name() -> str:
    """Return the name of the process's effective user; the environment has no say in it."""
    uid = os.geteuid()
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"uid-{uid}"
