"""Scanning files and folders: everything is read or accounted for."""

import dataclasses
import json
import os

import pyarrow as pa
import pytest
from pyarrow import parquet

from compliance.errors import InputError
from compliance.findings import Verdict
from compliance.pii.folders import walk
from compliance.pii.scan import FOLDER, UNREAD, scan_path
from compliance.policy import PIIRule

MAIL = "".join(f"{i},u{i}@example.org\n" for i in range(20))


@pytest.fixture
def lake(tmp_path):
    """A folder with one of everything."""
    (tmp_path / "deep" / "er").mkdir(parents=True)
    (tmp_path / "people.csv").write_text("id,mail\n" + MAIL)
    (tmp_path / "plain.csv").write_text("id,colour\n1,red\n2,blue\n")
    table = pa.table({"ssn": [536221000 + i for i in range(20)]})
    parquet.write_table(table, tmp_path / "deep" / "staff.PARQUET")
    events = [{"id": i, "who": {"tags": [f"u{i}@example.org"]}} for i in range(20)]
    (tmp_path / "deep" / "er" / "e.jsonl").write_text("\n".join(map(json.dumps, events)))
    (tmp_path / "broken.parquet").write_bytes(b"PAR1 not really")
    (tmp_path / "empty.csv").write_text("")
    (tmp_path / "latin.csv").write_bytes("id,town\n1,Z\xfcrich\n".encode("latin-1") + b"\xff\xfe\n")
    (tmp_path / "twice.csv").write_text("ada,ada\n1,2\n")
    (tmp_path / "notes.txt").write_text("u1@example.org")
    (tmp_path / ".hidden.csv").write_text("id,mail\n" + MAIL)
    (tmp_path / ".git").mkdir()
    (tmp_path / ".git" / "x.csv").write_text("id,mail\n" + MAIL)
    (tmp_path / "loop").symlink_to(tmp_path, target_is_directory=True)
    (tmp_path / "link.csv").symlink_to(tmp_path / "people.csv")
    return tmp_path


def test_a_folder_is_read_to_its_end_and_what_was_not_read_is_said(lake):
    outcomes = list(scan_path(lake))
    found = {(f.place.source.removeprefix(f"{lake}/"), f.place.column, f.kind)
             for o in outcomes for f in o.findings if f.check != UNREAD}  # fmt: skip
    assert found == {
        ("people.csv", "mail", "EMAIL_ADDRESS"),
        ("deep/staff.PARQUET", "ssn", "US_SSN"),
        ("deep/er/e.jsonl", "who", "EMAIL_ADDRESS"),
    }
    unread = {
        f.place.source.rpartition("/")[2] for o in outcomes for f in o.findings if f.check == UNREAD
    }
    assert unread >= {"broken.parquet", "empty.csv", "twice.csv"}
    assert outcomes[-1].check == FOLDER
    facts = outcomes[-1].facts
    assert facts["files"] == len(outcomes) - 1 == 8
    assert facts["unread"] == len(unread)
    assert {k: facts[k] for k in ("unsupported", "hidden", "symlinks", "folders_unread")} == {
        "unsupported": 1, "hidden": 2, "symlinks": 2, "folders_unread": 0,
    }  # fmt: skip


def test_unread_files_are_insufficient_evidence_and_never_a_pass(lake):
    unread = [o for o in scan_path(lake) if o.check == UNREAD]
    assert unread
    assert {o.verdict for o in unread} == {Verdict.INSUFFICIENT}
    assert all(o.facts["unread"] == 1 for o in unread)


def test_progress_goes_from_nothing_to_all(lake):
    told = []
    outcomes = list(scan_path(lake, progress=lambda *step: told.append(step)))
    total = len(outcomes) - 1
    assert [(done, of) for done, of, _ in told] == [(i, total) for i in range(total + 1)]


def test_a_folder_that_cannot_be_listed_is_reported(lake, monkeypatch):
    listing = os.scandir

    def refuse(path):
        if str(path).endswith("deep"):
            raise PermissionError(13, "Permission denied", str(path))
        return listing(path)

    monkeypatch.setattr(os, "scandir", refuse)
    outcomes = list(scan_path(lake))
    assert outcomes[-1].facts["folders_unread"] == 1
    assert [o.findings[0].place.source for o in outcomes if o.facts.get("unread") == 1][
        -1
    ].endswith("deep")


def test_a_folder_with_nothing_to_scan_is_no_pass(tmp_path):
    (tmp_path / "a.txt").write_text("x")
    (outcome,) = scan_path(tmp_path)
    assert outcome.verdict is Verdict.INSUFFICIENT
    assert outcome.facts["unsupported"] == 1


def test_personal_data_in_file_names_does_not_reach_the_outcome(tmp_path):
    folder = tmp_path / "ada@example.org and bob@example.org"
    folder.mkdir()
    (folder / "212-555-0199.csv").write_text("a\n1\n")
    (folder / "grace@example.org.parquet").write_text("broken")
    told = json.dumps([dataclasses.asdict(o) for o in scan_path(tmp_path)], default=str)
    assert not [w for w in ("ada@", "bob@", "grace@", "555-0199") if w in told]
    assert "<EMAIL_ADDRESS>" in told


def test_one_file_is_scanned_alone(lake):
    (outcome,) = scan_path(lake / "people.csv", rule=PIIRule(sample=5), declared={"id": ()})
    assert outcome.verdict is Verdict.FAIL
    assert outcome.findings[0].count == 5
    declared = {"mail": ("EMAIL_ADDRESS",)}
    (outcome,) = scan_path(str(lake / "people.csv"), declared=declared)
    assert outcome.verdict is Verdict.PASS


@pytest.mark.parametrize("name", ["missing.csv", "notes.txt", "broken.parquet", "empty.csv"])
def test_one_file_that_cannot_be_scanned_is_an_error(lake, name):
    with pytest.raises(InputError, match=name):
        list(scan_path(lake / name))


def test_walking_ends_in_a_loop_of_links_and_is_sorted(lake):
    found = walk(lake)
    assert list(found.files) == sorted(found.files)
    assert all(not f.is_symlink() for f in found.files)


def test_the_census_file_as_csv_holds_none(data, tmp_path):
    (tmp_path / "adult.csv").write_bytes((data / "fairness" / "adult.data").read_bytes())
    (outcome, _) = scan_path(tmp_path)
    assert outcome.verdict is Verdict.PASS
