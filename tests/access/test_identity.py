"""Who acts comes from a provider, and the environment's word about the user counts for nothing."""

import getpass
import os
import pwd

import pytest

from compliance import config
from compliance.access import identity
from compliance.access.identity import Identity
from compliance.errors import ConfigurationError
from compliance.policy import Method


def of(tmp_path, **environ):
    return identity.current(config.load(tmp_path, environ=environ))


def test_the_operating_systems_account_is_the_default(tmp_path):
    name = pwd.getpwuid(os.geteuid()).pw_name
    assert of(tmp_path) == Identity(name, Method.OS, name)


def test_the_environment_cannot_change_the_account(tmp_path, monkeypatch):
    for name in ("USER", "LOGNAME", "LNAME", "USERNAME", "SUDO_USER"):
        monkeypatch.setenv(name, "mallory")
    assert getpass.getuser() == "mallory"  # what a careless tool would believe
    assert of(tmp_path).actor == of(tmp_path).account != "mallory"


def test_an_account_without_a_name_goes_by_its_number(monkeypatch):
    def unknown(_uid):
        raise KeyError

    monkeypatch.setattr(identity.pwd, "getpwuid", unknown)
    assert identity.account_name() == f"uid-{os.geteuid()}"


def test_an_asserted_name_is_recorded_as_asserted_beside_the_real_account(tmp_path):
    found = of(tmp_path, COMPLIANCE_IDENTITY="asserted: ana ")
    assert (found.actor, found.method) == ("ana", Method.ASSERTED)
    assert found.account == identity.account_name()


def test_a_file_may_name_the_identity_and_the_environment_overrides_it(tmp_path):
    (tmp_path / "compliance.toml").write_text('identity = "asserted:file"', "utf-8")
    assert of(tmp_path).actor == "file"
    assert of(tmp_path, COMPLIANCE_IDENTITY="asserted:environment").actor == "environment"


@pytest.mark.parametrize(
    "provider",
    ["asserted:", "asserted: ", "asserted", "token:x", "root", "", "os:ana", "OS", "osx"],
)
def test_an_unknown_provider_is_an_error_and_not_a_guess(tmp_path, provider):
    with pytest.raises(ConfigurationError, match="asserted:NAME"):
        of(tmp_path, COMPLIANCE_IDENTITY=provider)


def test_acting_for_another_lends_the_rights_and_not_the_person(tmp_path):
    found = of(tmp_path, COMPLIANCE_IDENTITY="asserted:ian", COMPLIANCE_ACTING_AS="tom")
    assert (found.principal, found.person) == ("tom", "ian")
    assert (of(tmp_path).principal, of(tmp_path).on_behalf_of) == (of(tmp_path).actor, None)
