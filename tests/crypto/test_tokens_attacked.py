"""The vault under attack: rows exchanged, altered and damaged; many at once; failures."""

import sqlite3
import subprocess
import sys
import threading

import pytest
from epochs import rotate
from tokenrows import change, rows

from compliance.crypto.keys import Keyring
from compliance.crypto.tokens import Vault
from compliance.errors import (
    DecryptionFailed,
    InputError,
    IntegrityError,
)
from compliance.store import Store

CARD = "4111-1111-1111-1111"


@pytest.fixture
def vault(any_ring):
    return Vault(any_ring, "people")


# -- sabotage ------------------------------------------------------------------------------


def swap(ring, tokens, *names):
    """Exchange columns of two rows."""
    first, second = ({r.token: r for r in rows(ring)}[token] for token in tokens)
    change(ring, tokens[0], digest="out of the way of the unique constraint")
    change(ring, tokens[1], **{name: getattr(first, name) for name in names})
    change(ring, tokens[0], **{"digest": first.digest} | {n: getattr(second, n) for n in names})


@pytest.mark.parametrize("names", [["sealed"], ["digest"], ["sealed", "digest"]], ids="+".join)
def test_two_rows_whose_parts_were_exchanged_are_refused(vault, any_ring, names):
    tokens = vault.tokenise(["ana", "ben"])
    swap(any_ring, tokens, *names)
    for token in tokens:
        with pytest.raises(DecryptionFailed):
            vault.detokenise([token])
    for value in ("ana", "ben"):
        with pytest.raises(DecryptionFailed):
            vault.tokenise([value])


def test_an_altered_digest_or_token_is_refused(ring):
    vault = Vault(ring, "people")
    first, second = vault.tokenise(["ana", "ben"])
    change(ring, first, digest="0" * 64)
    change(ring, second, token="tok_mine")
    with pytest.raises(DecryptionFailed):
        vault.detokenise([first])
    with pytest.raises(DecryptionFailed):
        vault.detokenise(["tok_mine"])
    with pytest.raises(DecryptionFailed):
        vault.tokenise(["ben"])


@pytest.mark.parametrize(
    "damage",
    [
        lambda s: s[:-1],
        lambda s: b"",
        lambda s: s[:20] + bytes([s[20] ^ 1]) + s[21:],
        lambda s: s * 2,
    ],
    ids=["cut", "empty", "flipped", "doubled"],
)
def test_a_damaged_row_is_refused(ring, damage):
    vault = Vault(ring, "people")
    (token,) = vault.tokenise(["ana"])
    change(ring, token, sealed=damage(bytes(rows(ring)[0].sealed)))
    for attempt in (lambda: vault.detokenise([token]), lambda: vault.tokenise(["ana"])):
        with pytest.raises(DecryptionFailed) as caught:
            attempt()
        assert "ana" not in str(caught.value)


def test_a_row_sealed_under_a_key_of_another_kind_is_refused(ring):
    vault = Vault(ring, "people")
    (token,) = vault.tokenise(["ana"])
    place = vault._place(token, rows(ring)[0].digest)
    for kind in ("column", "subject", "model"):
        change(ring, token, sealed=ring.seal(ring.named(kind, "people"), b"seve", place))
        with pytest.raises(DecryptionFailed, match="another kind or space"):
            vault.detokenise([token])


def test_a_row_that_answers_to_the_digest_of_another_value_is_refused(ring):
    """A forger who has the keys' use but not the value: the value itself is compared."""
    vault = Vault(ring, "people")
    (token,) = vault.tokenise(["ana"])
    digest = rows(ring)[0].digest
    forged = ring.seal(ring.named("token", "people"), b"seve", vault._place(token, digest))
    change(ring, token, sealed=forged)
    with pytest.raises(DecryptionFailed, match="altered"):
        vault.tokenise(["ana"])


def test_errors_and_reprs_show_no_value(ring):
    vault = Vault(ring, "people", form="digits")
    assert repr(vault) == "Vault('people')"
    assert "4111" not in repr(vault._entries([CARD], []))
    with pytest.raises(InputError) as caught:
        vault.tokenise(["ana"])
    assert "ana" not in str(caught.value)


@pytest.mark.parametrize(
    "token", ["", "tok_none", "a\0b", "\ud800", "ana", 7, "%", "x" * 10_000], ids=ascii
)
def test_what_is_no_token_is_refused_on_every_database(vault, token):
    vault.tokenise(["ana"])
    with pytest.raises(DecryptionFailed, match="1 tokens are not of this space"):
        vault.detokenise([token])
    assert vault.detokenise([token], forgotten="null") == [None]
    assert vault.forget(tokens=[token]) == 0


# -- at once ---------------------------------------------------------------------------------

CHILD = """
import sys
from pathlib import Path
from compliance.crypto.keys import Keyring
from compliance.crypto.tokens import Vault
from compliance.store import Store
vault = Vault(Keyring.open(Store.open(sys.argv[1]), Path(sys.argv[2])), "people", form=sys.argv[3])
values = [f"value {n:06}" if sys.argv[3] == "random" else f"{n:06}" for n in range(300)]
sys.stdin.read(1)
order = values if sys.argv[4] == "up" else values[::-1]
found = dict(zip(order, vault.tokenise(order), strict=True))
print("\\n".join(found[value] for value in values))
"""


@pytest.mark.parametrize("form", ["random", "digits"])
def test_processes_that_ask_at_once_get_the_same_tokens(url, key_file, form):
    store = Store.open(url)
    vault = Vault(Keyring.open(store, key_file), "people", form=form)
    command = [sys.executable, "-c", CHILD, url, str(key_file), form]
    children = [
        subprocess.Popen([*command, way], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for way in ("up", "down", "up")
    ]
    for child in children:
        child.stdin.write("x")
        child.stdin.flush()
    printed = [child.communicate()[0].split() for child in children]
    assert [child.returncode for child in children] == [0, 0, 0]
    assert printed[0] == printed[1] == printed[2]
    assert len(set(printed[0])) == len(vault.detokenise(printed[0])) == 300
    assert len(rows(vault._ring)) == 300
    store.close()


def test_threads_that_ask_at_once_get_the_same_tokens(any_ring):
    vault, found = Vault(any_ring, "people"), []
    vault.tokenise(["first"])
    threads = [
        threading.Thread(target=lambda: found.append(vault.tokenise(range(50)))) for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 4
    assert all(tokens == found[0] for tokens in found)


def test_a_transaction_that_fails_leaves_no_token(ring, monkeypatch):
    vault = Vault(ring, "people")
    vault.tokenise(["first"])
    seal, sealed = ring.seal, []

    def failing(*args):
        sealed.append(args)
        if len(sealed) == 3:
            raise IntegrityError("the third")
        return seal(*args)

    monkeypatch.setattr(ring, "seal", failing)
    with pytest.raises(IntegrityError):
        vault.tokenise(["ana", "ben", "eve"])
    assert len(rows(ring)) == 1


def test_the_database_takes_a_digest_once_also_past_the_lock(ring, sqlite_url):
    Vault(ring, "people").tokenise(["ana"])
    with sqlite3.connect(sqlite_url.removeprefix("sqlite:///")) as raw:
        copy = "INSERT INTO compliance_token SELECT 'tok_2', tenant, space, digest, sealed, created"
        with pytest.raises(sqlite3.IntegrityError):
            raw.execute(f"{copy} FROM compliance_token")
    raw.close()


# -- rotations that come in between -----------------------------------------------------------


def test_a_value_is_forgotten_also_where_its_index_key_rotates_meanwhile(
    vault, any_ring, monkeypatch
):
    vault.tokenise(["ana", "ben"])
    entries = vault._entries

    def overtaken(*arguments):
        found = entries(*arguments)
        monkeypatch.setattr(vault, "_entries", entries)
        rotate(any_ring, "index", "token:people")
        vault.reseal()
        return found

    monkeypatch.setattr(vault, "_entries", overtaken)
    assert vault.forget(column=["ana"]) == 1
    assert len(rows(any_ring)) == 1


def test_sealing_anew_starts_over_where_the_index_key_rotates_meanwhile(
    vault, any_ring, monkeypatch
):
    monkeypatch.setattr("compliance.crypto.tokens._CHUNK", 2)
    values = ["ana", "ben", "cem", "dan", "eve"]
    tokens = vault.tokenise(values)
    rotate(any_ring, "index", "token:people")
    epochs, calls = vault._epochs, []

    def rotating(*arguments):
        calls.append(arguments)
        if not arguments and len(calls) == 2:
            rotate(any_ring, "index", "token:people")
        return epochs(*arguments)

    monkeypatch.setattr(vault, "_epochs", rotating)
    vault.reseal()
    monkeypatch.setattr(vault, "_epochs", epochs)
    assert vault.reseal() == 0  # nothing was left under the epoch in between
    assert vault.tokenise(values) == tokens
