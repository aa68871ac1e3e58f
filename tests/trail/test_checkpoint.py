"""Signed notes and checkpoints, as C2SP specifies them."""

import base64
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from compliance.crypto.signing import Signer, Verifier
from compliance.errors import IntegrityError, TrailCorrupt
from compliance.trail import checkpoint
from compliance.trail.checkpoint import Checkpoint

ROOT = bytes(range(32))
BASE64_ROOT = base64.b64encode(ROOT).decode()


@pytest.fixture(scope="module")
def key():
    return Signer("example.com/log", bytes(32))


@pytest.fixture(scope="module")
def note(key):
    return checkpoint.sign(Checkpoint(key.name, 7, ROOT), key)


# -- the example of the specification ---------------------------------------------


def test_the_example_of_the_specification_verifies(data):
    """Its text is a plain message and no checkpoint: it gets past the signature, and no further."""
    text = (data / "crypto/c2sp/signed-note.md").read_text("utf-8")
    vkey = re.search(r"example\.com/foo\+530d903a\+\S+", text)[0]
    note = re.search(r"This is an example message\.\n\n— example\.com/foo \S+\n", text)[0]
    verifier = Verifier(*checkpoint.parse_vkey(vkey))
    with pytest.raises(TrailCorrupt, match="three lines"):
        checkpoint.open_note(note, verifier)
    with pytest.raises(IntegrityError, match="not of example"):
        checkpoint.open_note(note.replace("message", "massage"), verifier)


def test_the_specifications_vkey_is_written_as_it_was_read(data):
    text = (data / "crypto/c2sp/signed-note.md").read_text("utf-8")
    vkey = re.search(r"example\.com/foo\+530d903a\+\S+", text)[0]
    assert checkpoint.vkey(*checkpoint.parse_vkey(vkey)) == vkey


# -- signing and opening -----------------------------------------------------------


@given(st.integers(0, 2**62), st.binary(min_size=32, max_size=32))
def test_what_was_signed_is_what_is_opened(size, root):
    key = Signer("example.com/log", bytes(32))
    signed = Checkpoint(key.name, size, root)
    assert checkpoint.open_note(checkpoint.sign(signed, key), key) == signed


@given(st.data())
def test_any_changed_character_is_noticed(draw):
    key = Signer("example.com/log", bytes(32))
    note = checkpoint.sign(Checkpoint(key.name, 7, ROOT), key)
    where = draw.draw(st.integers(0, len(note) - 1))
    new = draw.draw(st.characters().filter(lambda c: c != note[where]))
    changed = note[:where] + new + note[where + 1 :]
    try:
        opened = checkpoint.open_note(changed, key)
    except IntegrityError:
        return
    # Base64 may write the unused bits of its last character in several ways.
    assert opened == Checkpoint(key.name, 7, ROOT)
    assert changed.partition("\n\n")[0] == note.partition("\n\n")[0]


def test_a_note_by_another_key_is_refused_also_under_the_same_name(key, note):
    with pytest.raises(TrailCorrupt, match="expected key"):
        checkpoint.open_note(note, Signer(key.name, bytes([1] * 32)))
    with pytest.raises(TrailCorrupt, match="expected key"):
        checkpoint.open_note(note, Signer("example.com/other", bytes(32)))


def test_signatures_of_unknown_keys_are_passed_over(key, note):
    text, _, own = note.rpartition("\n\n")
    stranger = f"— stranger {base64.b64encode(bytes(68)).decode()}\n"
    opened = checkpoint.open_note(f"{text}\n\n{stranger * 15}{own}", key)
    assert opened.size == 7


def test_a_wrong_signature_of_a_known_key_rejects_the_whole_note(key, note):
    text, _, own = note.rpartition("\n\n")
    wrong = base64.b64encode(checkpoint.key_id(key.name, key.public_key) + bytes(64)).decode()
    with pytest.raises(IntegrityError):
        checkpoint.open_note(f"{text}\n\n— {key.name} {wrong}\n{own}", key)


@pytest.mark.parametrize(
    "break_it",
    [
        lambda note: "",
        lambda note: note.encode(),
        lambda note: None,
        lambda note: note.partition("\n\n")[0] + "\n",
        lambda note: note[:-1],
        lambda note: note.replace("— ", "- "),
        lambda note: note.replace("— ", "—  "),
        lambda note: note + "\n",
        lambda note: note + "x" * 1_000_001,
        lambda note: note.replace("\n", "\r\n"),
        lambda note: "\x00" + note,
        lambda note: "\ud800" + note,
    ],
)
def test_a_malformed_note_is_refused(key, note, break_it):
    with pytest.raises(TrailCorrupt):
        checkpoint.open_note(break_it(note), key)


# -- the text of a checkpoint ---------------------------------------------------------


def test_extension_lines_are_read_over():
    assert Checkpoint.parse(f"log\n3\n{BASE64_ROOT}\nmore\n") == Checkpoint("log", 3, ROOT)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "log\n3\n",
        f"log\n3\n{BASE64_ROOT}",
        f"\n3\n{BASE64_ROOT}\n",
        f"log\n\n{BASE64_ROOT}\n",
        "log\n3\n\n",
        f"log\n03\n{BASE64_ROOT}\n",
        f"log\n+3\n{BASE64_ROOT}\n",
        f"log\n-3\n{BASE64_ROOT}\n",
        f"log\n٣\n{BASE64_ROOT}\n",
        f"log\n3 \n{BASE64_ROOT}\n",
        f"log\n{10**19}\n{BASE64_ROOT}\n",
        "log\n3\n!!!!\n",
        f"log\n3\n{BASE64_ROOT[:-4]}\n",
        f"log\n3\n{BASE64_ROOT}\n\nmore\n",
    ],
)
def test_a_malformed_checkpoint_is_refused(text):
    with pytest.raises(TrailCorrupt):
        Checkpoint.parse(text)


# -- verifier keys ---------------------------------------------------------------------


def test_a_vkey_comes_back_as_name_and_key(key):
    text = checkpoint.vkey(key.name, key.public_key)
    assert checkpoint.parse_vkey(f" {text}\n") == (key.name, key.public_key)


@pytest.mark.parametrize(
    "break_it",
    [
        lambda text: "",
        lambda text: text.replace("log", "lag"),
        lambda text: text[:-4],
        lambda text: text.replace("+A", "+B"),
        lambda text: text.replace("+", "-"),
        lambda text: text + "ö",
        lambda text: checkpoint.vkey("", bytes(32)),
    ],
)
def test_a_vkey_whose_parts_do_not_agree_is_refused(key, break_it):
    with pytest.raises(TrailCorrupt):
        checkpoint.parse_vkey(break_it(checkpoint.vkey(key.name, key.public_key)))
