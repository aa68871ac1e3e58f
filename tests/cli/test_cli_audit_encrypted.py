"""``compliance audit pii`` on encrypted Parquet: an answer and an exit code, never an abort."""

import json
import shutil

import pytest

NAMES = [
    "encrypt_columns_and_footer",
    "encrypt_columns_and_footer_aad",
    "encrypt_columns_and_footer_bloom_filter",
    "encrypt_columns_and_footer_ctr",
    "encrypt_columns_and_footer_disable_aad_storage",
    "encrypt_columns_plaintext_footer",
    "external_key_material_java",
    "uniform_encryption",
    "aes256/encrypt_columns_and_footer",
    "aes256/encrypt_columns_and_footer_ctr",
    "aes256/encrypt_columns_and_footer_disable_aad_storage",
    "aes256/encrypt_columns_plaintext_footer",
    "aes256/uniform_encryption",
]


@pytest.fixture
def foreign(data):
    return data / "crypto/parquet/data"


def test_every_foreign_file_is_asked_about(foreign):
    found = {str(path.relative_to(foreign)) for path in foreign.rglob("*.encrypted")}
    assert found == {f"{name}.parquet.encrypted" for name in NAMES}


@pytest.mark.parametrize("name", NAMES)
def test_a_foreign_encrypted_file_is_a_usage_error_that_says_what_to_do(
    shell, foreign, tmp_path, outside, name
):
    path = tmp_path / "x.parquet"
    shutil.copyfile(foreign / f"{name}.parquet.encrypted", path)
    answer = shell("audit", "pii", path)
    assert answer.code == 2
    assert answer.out == ""
    assert f"{path}: an encrypted Parquet file" in " ".join(answer.err.split())
    assert "compliance.crypto.parquet.read" in answer.err
    assert "another's with the tool that wrote it" in " ".join(answer.err.split())


def test_a_folder_with_encrypted_files_names_each_as_unread(shell, foreign, tmp_path, outside):
    for number, name in enumerate(NAMES):
        shutil.copyfile(foreign / f"{name}.parquet.encrypted", tmp_path / f"{number}.parquet")
    (tmp_path / "clean.csv").write_text("amount\n1\n2\n3\n")
    answer = shell("audit", "pii", tmp_path, "-f", "json")
    assert answer.code == 4  # it could not finish: files were not read
    outcomes = json.loads(answer.out)["outcomes"]
    unread = [o["findings"][0]["place"]["source"] for o in outcomes if o["check"] == "pii.unread"]
    assert sorted(unread) == sorted(str(tmp_path / f"{n}.parquet") for n in range(len(NAMES)))
    assert "clean.csv" in answer.out
    messages = {o["findings"][0]["message"] for o in outcomes if o["check"] == "pii.unread"}
    assert messages == {
        "It is an encrypted Parquet file, so nothing is known of it; the scan went on."
    }


@pytest.mark.parametrize("suffix", [".parquet.encrypted", ".enc", ""], ids=repr)
def test_encrypted_parquet_of_any_suffix_is_named_as_encrypted(
    cli, foreign, tmp_path, outside, suffix
):
    lake = tmp_path / "lake"
    lake.mkdir()
    for name in ("uniform_encryption", "encrypt_columns_plaintext_footer"):
        shutil.copyfile(foreign / f"{name}.parquet.encrypted", lake / f"{name}{suffix}")
    (lake / "notes.txt").write_text("nothing")
    answer = cli("audit", "pii", lake, "-f", "json")
    assert answer.code == 4
    *files, folder = json.loads(answer.out)["outcomes"]
    assert [o["findings"][0]["evidence"]["error"] for o in files] == ["encrypted"] * 2
    assert (folder["facts"]["unsupported"], folder["facts"]["unread"]) == (1, 2)
    answer = cli("audit", "pii", lake / f"uniform_encryption{suffix}")
    assert (answer.code, answer.out) == (2, "")
    assert "an encrypted Parquet file" in " ".join(answer.err.split())
