"""Vault transit: what the server may answer, and what it must not be allowed to do."""

import os
import time

import pytest
import requests
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from compliance.crypto import providers
from compliance.crypto.providers.vault import VaultTransit
from compliance.errors import AccessDenied, ConfigurationError, KeyDestroyed, StoreError

CONTEXT = {"tenant": "bank", "purpose": "compliance domain key"}
DOMAIN = b"d" * 32


@pytest.fixture
def key(vault):
    return VaultTransit("transit/domain")


@pytest.fixture
def wrapped(key):
    return key.wrap(DOMAIN, CONTEXT)


def test_the_name_is_address_mount_and_key_without_user_and_password(monkeypatch):
    monkeypatch.setenv("VAULT_ADDR", "https://ana:hunter2@vault.test:8200/?x=1")
    monkeypatch.setenv("VAULT_NAMESPACE", "team/a/")
    key = VaultTransit("kms/transit/domain")
    assert key.name == "vault:https://vault.test:8200/team/a/kms/transit/domain"
    assert "hunter2" not in repr(key)


def test_a_key_of_another_mount_is_reached_there(vault, key):
    with pytest.raises(ConfigurationError, match="no transit engine"):
        VaultTransit("other/domain").wrap(DOMAIN, CONTEXT)


def test_what_an_earlier_version_of_the_key_wrapped_opens(vault, key, wrapped):
    vault.keys["domain"].append(AESGCM(os.urandom(32)))
    assert key.unwrap(wrapped, CONTEXT, key.name) == DOMAIN
    assert key.wrap(DOMAIN, CONTEXT).startswith(b"vault:v2:")


def test_a_retired_version_says_how_it_may_come_back(vault, key, wrapped):
    vault.least = 2
    with pytest.raises(KeyDestroyed, match="min_decryption_version"):
        key.unwrap(wrapped, CONTEXT, key.name)


def test_a_deleted_key_is_told(vault, key, wrapped):
    del vault.keys["domain"]
    with pytest.raises(KeyDestroyed, match="not on the server any more"):
        key.unwrap(wrapped, CONTEXT, key.name)


def test_a_key_that_is_not_there_is_never_made_by_the_way(vault, at):
    before = set(vault.keys)
    with pytest.raises(ConfigurationError, match="vault write -f transit/keys/domian"):
        providers.create_master(at("vault:transit/domian"))
    assert set(vault.keys) == before


def test_a_key_that_cannot_bind_a_context_is_refused(vault, key):
    vault.kind = "rsa-2048"
    with pytest.raises(ConfigurationError, match="does not bind a context"):
        key.wrap(DOMAIN, CONTEXT)


def test_a_server_that_ignores_the_context_is_found_out(vault, key):
    vault.knows_associated_data = False
    with pytest.raises(ConfigurationError, match="does not bind a context"):
        key.wrap(DOMAIN, CONTEXT)


def test_a_derived_key_is_refused(vault, key):
    vault.fail = (400, {"errors": ["missing 'context' for key derivation; derived key"]})
    with pytest.raises(ConfigurationError, match="underived key"):
        key.wrap(DOMAIN, CONTEXT)


@pytest.mark.parametrize(
    ("answer", "error", "match"),
    [
        ((403, {"errors": ["permission denied"]}), AccessDenied, "transit/decrypt/domain"),
        ((401, {"errors": ["no"]}), AccessDenied, "the token may not"),
        ((429, {"errors": ["slow"]}), StoreError, "wait"),
        ((503, {"errors": ["Vault is sealed"]}), StoreError, "unseal"),
        ((500, {"errors": ["internal secret-of-the-server"]}), StoreError, "its log says why"),
        ((500, {}), StoreError, "the server failed"),
        ((200, {"data": {}}), StoreError, "cannot be reached"),
        ((200, []), StoreError, "cannot be reached"),
        ((200, {"data": {"plaintext": "!"}}), StoreError, "cannot be reached"),
    ],
    ids=["403", "401", "429", "503", "500", "empty", "no-data", "list", "no-base64"],
)
def test_what_the_server_answers_is_told_without_its_words(
    vault, key, wrapped, answer, error, match
):
    vault.fail = answer
    with pytest.raises(error, match=match) as caught:
        key.unwrap(wrapped, CONTEXT, key.name)
    text = str(caught.value)
    assert "hvs." not in text
    assert "secret-of-the-server" not in text
    assert (caught.value.__cause__, caught.value.__context__) == (None, None)
    vault.fail = None
    assert key.unwrap(wrapped, CONTEXT, key.name) == DOMAIN


def test_a_server_that_is_gone_is_told_at_once(vault, key, wrapped):
    vault.stop()
    started = time.monotonic()
    with pytest.raises(StoreError, match="cannot be reached"):
        VaultTransit("transit/domain").unwrap(wrapped, CONTEXT, key.name)
    assert time.monotonic() - started < 2


def test_a_wrong_token_is_refused_and_not_shown(vault, monkeypatch):
    monkeypatch.setenv("VAULT_TOKEN", "hvs.wrong")
    with pytest.raises(AccessDenied) as caught:
        VaultTransit("transit/domain").wrap(DOMAIN, CONTEXT)
    assert "hvs." not in str(caught.value)


def test_without_a_token_nothing_is_asked(vault, monkeypatch):
    monkeypatch.delenv("VAULT_TOKEN")
    with pytest.raises(AccessDenied, match="vault login"):
        VaultTransit("transit/domain").wrap(DOMAIN, CONTEXT)
    assert vault.requests == []


@pytest.mark.parametrize(
    "address",
    ["http://vault.test:8200", "vault.test:8200", "ftp://127.0.0.1", "https://", "http://["],
)
def test_an_address_where_keys_would_travel_in_the_clear_is_refused(monkeypatch, address):
    monkeypatch.setenv("VAULT_ADDR", address)
    with pytest.raises(ConfigurationError, match="https://"):
        VaultTransit("transit/domain")


def test_no_redirect_leads_from_tls_to_plain_http(vault, monkeypatch):
    plain = vault.url
    monkeypatch.setenv("VAULT_ADDR", plain.replace("http:", "https:"))
    session = VaultTransit("transit/domain")._client().session
    with pytest.raises(requests.exceptions.InvalidSchema):
        session.post(f"{plain}/v1/transit/encrypt/domain", json={})
    assert vault.requests == []


def test_without_an_address_it_says_which_variable(monkeypatch):
    monkeypatch.delenv("VAULT_ADDR", raising=False)
    with pytest.raises(ConfigurationError, match="VAULT_ADDR"):
        VaultTransit("transit/domain")
