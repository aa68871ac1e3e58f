"""YAML as norms: one meaning, found by line, and no document that harms its reader."""

import hashlib
import subprocess

import pytest
from pydantic import BaseModel, ConfigDict

from compliance import _yaml
from compliance.errors import PolicyError


class Inner(BaseModel):
    model_config = ConfigDict(extra="forbid")
    members: tuple[str, ...] = ()


class Outer(BaseModel):
    model_config = ConfigDict(extra="forbid")
    roles: dict[str, Inner] = {}
    count: int = 0


@pytest.fixture
def read(tmp_path):
    def parse(text, name="norms.yaml"):
        data = text if isinstance(text, bytes) else text.encode()
        (tmp_path / name).write_bytes(data)
        return _yaml.Source.read(tmp_path / name)

    return parse


def refused(read, text, match):
    with pytest.raises(PolicyError, match=match) as caught:
        read(text)
    return str(caught.value)


# -- what is read ---------------------------------------------------------------------


def test_the_bytes_that_are_hashed_are_those_that_were_parsed(read, tmp_path):
    source = read("a: 1\n")
    (tmp_path / "norms.yaml").write_text("a: 2\n")
    assert (source.values, source.data) == ({"a": 1}, b"a: 1\n")


@pytest.mark.parametrize("text", ["", "\n", "# nothing\n", "\ufeff"])
def test_an_empty_file_says_nothing(read, text):
    assert read(text).values == {}


def test_a_byte_order_mark_is_no_part_of_the_first_key(read):
    assert read("\ufeffa: 1\n").values == {"a": 1}


# -- what is refused, and where ----------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("a: 1\nb:\n\tc: 1\n", 3),
        ("a: 1\nb: [1\n", 3),
        ("a: 1\nb: 'x\n", 3),
        ("a: 1\n b: 2\n", 2),
        ("a: @x\n", 1),
        ("a: 1\n---\nb: 2\n", 2),
        ("a: !!python/object/apply:os.system [true]\n", 1),
        ("a: 1\nb: !!python/name:os.system\n", 2),
        ("a: !custom x\n", 1),
        ("a: {[x]: 1}\n", 1),
    ],
)
def test_a_syntax_error_is_named_by_line(read, text, line):
    refused(read, text, rf"norms\.yaml:{line}: ")


def test_a_python_object_is_not_made(read, tmp_path):
    mark = tmp_path / "made"
    refused(read, f"a: !!python/object/apply:os.system ['touch {mark}']\n", "could not determine")
    assert not mark.exists()


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("a: 1\na: 2\n", 2),
        ("x:\n  a: 1\n  b: 2\n  a: 3\n", 4),
        ("x: {a: 1, a: 2}\n", 1),
        ("x:\n- a: 1\n  'a': 2\n", 3),
        ('x: {"a": 1, !!str a: 2}\n', 1),
        ("<<: {a: 1}\n", 1),
        ("x:\n  <<: {a: 1}\n  b: 2\n", 2),
    ],
)
def test_a_repeated_or_merged_key_is_named_by_line(read, text, line):
    refused(read, text, rf"norms\.yaml:{line}: key .* is repeated or merged")


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("a: &x 1\n", 1),
        ("a: 1\nb: &x [1]\nc: *x\n", 2),
        ("a: &x {b: *x}\n", 1),
        ("? &k a\n: 1\n", 1),
        ("&top\na: 1\n", 1),
    ],
)
def test_an_anchor_or_alias_is_refused_by_line(read, text, line):
    refused(read, text, rf"norms\.yaml:{line}: anchors and aliases")


def test_a_billion_laughs_are_refused_before_the_first(read):
    lines = ["l0: &l0 [lol, lol]"]
    lines += [f"l{n}: &l{n} [{', '.join([f'*l{n - 1}'] * 10)}]" for n in range(1, 30)]
    refused(read, "\n".join(lines), "anchors and aliases")


@pytest.mark.parametrize("text", ["[" * 3_000_000, "- " * 1_000_000, "a: " + "{a: " * 500_000])
def test_nesting_without_end_does_not_end_the_process(read, text):
    refused(read, text, "nested deeper than 50")


def test_a_huge_file_is_refused_without_being_read(read):
    refused(read, "# " + "x" * _yaml.MAX_BYTES, "larger than 4 MiB")


@pytest.mark.parametrize(
    "data", [b"a: \xff\n", b"\xfe\xff\x00", b"a: \x00\n", b"\x80", b"a: \x07\n"]
)
def test_bytes_that_are_no_text_are_refused(read, data):
    refused(read, data, "norms.yaml:")


@pytest.mark.parametrize("text", ["[1, 2]", "text", "7", "- a\n- b\n"])
def test_a_top_level_that_is_no_mapping_is_refused(read, text):
    refused(read, text, "keys and values at the top level")


@pytest.mark.parametrize(
    "scalar",
    [
        '!!int ""',
        "!!int x",
        "!!float x",
        "!!bool maybe",
        "!!timestamp x",
        "2024-99-99",
        "!!binary 'ä'",
        "!!set [a]",
        "!!map x",
        "1" * 5_000,
    ],
)
def test_a_scalar_that_does_not_fit_its_tag_is_a_clear_error(read, scalar):
    refused(read, f"a: {scalar}\n", "norms.yaml")


def test_a_file_that_is_not_there_is_a_clear_error(tmp_path):
    with pytest.raises(PolicyError, match="cannot be read"):
        _yaml.Source.read(tmp_path / "missing.yaml")
    with pytest.raises(PolicyError, match="cannot be read"):
        _yaml.Source.read(tmp_path)


# -- folders --------------------------------------------------------------------------------


def test_a_folder_is_read_by_name_and_hidden_files_are_none(tmp_path):
    for name in ("b.yaml", "a.yaml", ".hidden.yaml", "notes.txt"):
        (tmp_path / name).write_text("x: 1\n")
    assert [source.name for source in _yaml.read_folder(tmp_path)] == ["a.yaml", "b.yaml"]


@pytest.mark.parametrize("name", [None, "notes.txt", ".hidden.yaml"])
def test_a_folder_without_norms_is_refused(tmp_path, name):
    if name:
        (tmp_path / name).write_text("x: 1\n")
    with pytest.raises(PolicyError, match="compliance init"):
        _yaml.read_folder(tmp_path)
    with pytest.raises(PolicyError, match="compliance init"):
        _yaml.read_folder(tmp_path / "missing")


def test_a_file_that_would_not_be_in_force_is_pointed_out(tmp_path):
    (tmp_path / "a.yaml").write_text("x: 1\n")
    (tmp_path / "roles.yml").write_text("y: 1\n")
    with pytest.raises(
        PolicyError, match=r"roles\.yml: would not be read; rename it to roles\.yaml"
    ):
        _yaml.read_folder(tmp_path)


def test_the_digest_is_what_an_auditor_gets_in_a_shell(tmp_path):
    for name in ("b.yaml", "a.yaml", "Z.yaml", "a-b.yaml", ".hidden.yaml"):
        (tmp_path / name).write_text(f"{name[0]}: 1\n")
    script = "export LC_ALL=C; sha256sum *.yaml | sha256sum"
    wanted = subprocess.check_output(["sh", "-c", script], cwd=tmp_path, text=True).split()[0]
    assert _yaml.digest(_yaml.read_folder(tmp_path)) == wanted


def test_the_digest_changes_with_a_byte_and_with_a_name(tmp_path):
    def digest(name, text):
        return _yaml.digest([_yaml.Source(tmp_path / name, name, text, None, {})])

    digests = {digest("a", b"x"), digest("a", b"x "), digest("b", b"x")}
    assert len(digests) == 3
    assert hashlib.sha256().hexdigest() not in digests


# -- validation --------------------------------------------------------------------------------


def test_files_are_merged_by_their_top_level_keys(read):
    merged = _yaml.validate(Outer, [read("count: 3\n"), read("roles: {a: {}}\n", "b.yaml")])
    assert (merged.count, list(merged.roles)) == (3, ["a"])


def test_a_key_in_two_files_is_refused_in_the_second(read):
    sources = [read("count: 3\n"), read("\ncount: 3\n", "b.yaml")]
    with pytest.raises(PolicyError, match=r"b\.yaml:2: 'count' stands elsewhere"):
        _yaml.validate(Outer, sources)


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("cuont: 3\n", r"norms\.yaml:1: cuont: unknown key; did you mean 'count'\?"),
        ("roles:\n  a:\n    membres: []\n", r"norms\.yaml:3: roles\.a\.membres: .*'members'"),
        ("count: 1\nroles:\n  a:\n    members:\n    - x\n    - 7\n", r"norms\.yaml:6: roles\.a\.m"),
        ("roles:\n  a: 7\n", r"norms\.yaml:2: roles\.a: "),
        ("roles: {7: {}}\n", r"norms\.yaml:1: roles"),
        ("zzz: 1\n", r"known: count, members, roles"),
        ("digest: x\n", r"norms\.yaml:1: 'digest' stands elsewhere"),
        ("7: x\n", r"norms\.yaml:1: "),
    ],
)
def test_a_wrong_key_or_value_is_named_by_file_line_and_nearest_key(read, text, match):
    with pytest.raises(PolicyError, match=match):
        _yaml.validate(Outer, [read(text)])


def test_a_value_is_not_quoted(read):
    with pytest.raises(PolicyError) as caught:
        _yaml.validate(Outer, [read("count: hunter2\n")])
    assert "hunter2" not in str(caught.value)


def test_many_faults_are_listed_up_to_ten(read):
    text = "".join(f"key{number}: 1\n" for number in range(30))
    with pytest.raises(PolicyError) as caught:
        _yaml.validate(Outer, [read(text)])
    assert len(str(caught.value).splitlines()) == 10
