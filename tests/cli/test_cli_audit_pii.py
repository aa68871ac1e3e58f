"""``compliance audit pii``: files, folders, databases; what stdout holds, what never appears."""

import csv
import io
import json
import shutil
import sqlite3
from xml.etree import ElementTree as ET

import pytest
import sqlalchemy as sa

from compliance.audit import checks
from compliance.policy import PIIRule
from compliance.simulate.bank import create_database


def _personal(exports):
    """Return every personal value of the careless export."""
    with (exports / "contacts.csv").open() as file:
        return {
            row[name] for row in csv.DictReader(file) for name in ("name", "email", "phone")
        } - {""}


def test_a_careless_export_is_a_finding_and_no_value_is_shown(cli, exports, outside):
    answer = cli("audit", "pii", exports / "contacts.csv")
    assert answer.code == 1
    assert "EMAIL_ADDRESS" in answer.out
    assert [value for value in _personal(exports) if value in answer.all] == []
    assert answer.err == (
        "not recorded: no project here (`compliance init` makes one)\nPII audit: fail, 3 findings\n"
    )


def test_totals_in_which_nobody_can_be_found_pass(cli, exports, outside):
    answer = cli("audit", "pii", exports / "clean.csv")
    assert answer.code == 0
    assert answer.out.startswith("PASS")


def test_adult_holds_no_pii(cli, data, tmp_path, outside):
    names = (
        "age,workclass,fnlwgt,education,education-num,marital-status,occupation,relationship,race,"
        "sex,capital-gain,capital-loss,hours-per-week,native-country,income"
    )
    rows = (data / "fairness/adult.data").read_text().splitlines()
    lines = [line.replace(", ", ",") for line in rows if line.strip()]
    path = tmp_path / "adult.csv"
    path.write_text("\n".join([names, *lines]) + "\n")
    answer = cli("audit", "pii", path, "-f", "json")
    assert answer.code == 0, answer.out
    facts = json.loads(answer.out)["outcomes"][0]["facts"]
    assert (facts["rows"], facts["columns"]) == (32_561, 15)


# -- kinds of source -----------------------------------------------------------------------


def _written(exports, folder, kind):
    from pyarrow import csv as arrow
    from pyarrow import parquet

    table = arrow.read_csv(exports / "contacts.csv")
    path = folder / f"contacts.{kind}"
    if kind == "parquet":
        parquet.write_table(table, path)
    else:
        path.write_text("".join(json.dumps(row) + "\n" for row in table.to_pylist()))
    return path


@pytest.mark.parametrize("kind", ["parquet", "jsonl"])
def test_every_kind_of_file_gives_the_same_findings(cli, exports, outside, kind):
    def found(path):
        answer = cli("audit", "pii", path, "-f", "json")
        assert answer.code == 1
        findings = json.loads(answer.out)["outcomes"][0]["findings"]
        return [(f["kind"], f["place"]["column"], f["count"]) for f in findings]

    assert found(_written(exports, outside, kind)) == found(exports / "contacts.csv")


def test_a_folder_is_scanned_as_a_whole(cli, exports, outside):
    answer = cli("audit", "pii", exports, "-f", "json")
    assert answer.code == 1
    whole = json.loads(answer.out)["outcomes"][-1]
    assert (whole["check"], whole["facts"]["files"]) == ("pii.folder", 3)


def test_a_database_is_scanned_by_url(cli, office):
    answer = cli("audit", "pii", office.url, "-f", "json")
    assert answer.code == 1
    checked = [o["check"] for o in json.loads(answer.out)["outcomes"]]
    assert checked[-1] == "pii.database"


@pytest.mark.parametrize("server", ["postgres_url", "mariadb_url"])
def test_a_server_is_scanned_and_its_password_never_shown(request, cli, become, office, server):
    url = request.getfixturevalue(server)
    create_database(url, customers=400)
    secret = "hunter2secret"  # both servers of the tests trust whoever comes; ours must hide it
    with_password = sa.make_url(url).set(password=secret if server == "postgres_url" else None)
    become("grace")
    answer = cli("audit", "pii", with_password.render_as_string(hide_password=False), "-f", "json")
    assert answer.code == 1
    assert len(json.loads(answer.out)["outcomes"]) > 5
    assert secret not in answer.all
    assert secret not in cli("trail", "list", "-f", "json").out


def test_the_url_may_stand_in_the_environment(cli, office, monkeypatch):
    monkeypatch.setenv("BANK", office.url)
    assert cli("audit", "pii", "env:BANK").code == 1
    answer = cli("audit", "pii", "env:NOT_SET")
    assert answer.code == 2
    assert "NOT_SET" in answer.err


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://u:hunter2@127.0.0.1:1/db?sslpassword=hunter3",
        "mysql://u:hunter2@127.0.0.1:1/db?init_command=hunter3",
        "mariadb://u:hunter2@127.0.0.1:1/db",
    ],
    ids=["postgresql", "mysql", "mariadb"],
)
def test_a_dead_server_is_a_4_without_its_password(cli, project, url):
    answer = cli("audit", "pii", url, "-f", "json")
    assert answer.code == 4
    assert json.loads(answer.out)["verdict"] == "insufficient evidence"
    assert "check that the server runs" in answer.err
    entry = cli("trail", "list", "-f", "json")
    assert json.loads(entry.out)["outcome"] == "failed"
    assert "hunter" not in answer.all + entry.all


@pytest.mark.parametrize(
    "source",
    [
        "postgresql//u:hunter2@host/db",
        "nonsense://u:hunter2@host/db",
        "postgresql://u:hunter2@host:port/db",
        "mysql://u:hunter2@host/db?nonsense=hunter2",
    ],
)
def test_a_mistyped_url_is_a_usage_error_without_its_password(cli, outside, source):
    answer = cli("audit", "pii", source)
    assert (answer.code, answer.out) == (2, "")
    assert "hunter2" not in answer.err


# -- nothing, too little, unreadable -----------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "text"), [("header.csv", "a,b\n"), ("blank.csv", "a,b\n,\n"), ("folder", None)]
)
def test_nothing_audited_is_a_3(cli, outside, name, text):
    path = outside / name
    path.mkdir() if text is None else path.write_text(text)
    assert cli("audit", "pii", path).code == 3
    allowed = cli("audit", "pii", path, "--allow-insufficient", "-f", "json")
    assert allowed.code == 0
    assert (
        json.loads(allowed.out)["facts"]["insufficient evidence"]
        == "allowed by --allow-insufficient"
    )


def test_a_database_without_tables_is_a_3(cli, outside):
    (outside / "empty.db").touch()
    assert cli("audit", "pii", "sqlite:///empty.db").code == 3


@pytest.mark.parametrize("source", ["missing.csv", "missing", "sqlite:///missing.db", "notes.txt"])
def test_a_source_that_is_not_there_is_a_2(cli, outside, source):
    (outside / "notes.txt").write_text("x")
    answer = cli("audit", "pii", source)
    assert (answer.code, answer.out) == (2, "")
    assert source.removeprefix("sqlite:///") in answer.err
    assert {p.name for p in outside.iterdir()} == {"notes.txt"}


def test_a_file_that_cannot_be_read_is_a_4_and_the_others_are_scanned(cli, exports, outside):
    shutil.copy(exports / "clean.csv", outside)
    (outside / "broken.parquet").write_bytes(b"PAR1 no")
    answer = cli("audit", "pii", ".", "--allow-insufficient", "-f", "json")
    assert answer.code == 4
    assert [o["verdict"] for o in json.loads(answer.out)["outcomes"]] == [
        "insufficient evidence", "pass", "pass",
    ]  # fmt: skip


def test_what_was_found_outweighs_what_could_not_be_read(cli, exports, outside):
    shutil.copy(exports / "contacts.csv", outside)
    (outside / "broken.parquet").write_bytes(b"PAR1 no")
    assert cli("audit", "pii", ".").code == 1


# -- options -------------------------------------------------------------------------------------


def test_only_findings_of_the_severity_asked_for_fail(cli, exports, outside):
    codes = {
        level: cli("audit", "pii", exports / "contacts.csv", "--fail-on", level).code
        for level in ("note", "low", "medium", "high", "critical", "HIGH")
    }
    assert codes == {"note": 1, "low": 1, "medium": 1, "high": 1, "critical": 0, "HIGH": 1}


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("--format", "xml"),
        ("--fail-on", "serious"),
        ("--sample", "0"),
        ("--sample", "many"),
        ("--least-score", "2"),
        ("--least-share", "-1"),
        ("--least-score", "nan"),
    ],
)
def test_a_wrong_value_is_a_usage_error(cli, exports, outside, option, value):
    answer = cli("audit", "pii", exports / "clean.csv", option, value)
    assert (answer.code, answer.out) == (2, "")
    assert option.lstrip("-") in answer.err or value in answer.err


def test_equal_seeds_give_equal_reports_but_for_the_time(cli, exports, outside):
    def report(*options):
        out = cli("audit", "pii", exports / "contacts.csv", "-f", "json", *options).out
        return json.loads(out)["outcomes"]

    assert report("--sample", "20") == report("--sample", "20")
    assert report("--sample", "20")[0]["facts"]["sample"] == 20


# -- formats ---------------------------------------------------------------------------------------


def test_every_format_stands_alone_on_stdout(cli, exports, project):
    def out(kind):
        answer = cli("audit", "pii", exports / "contacts.csv", "-f", kind)
        assert answer.code == 1
        assert answer.err == "PII audit: fail, 3 findings\n"
        return answer.out

    assert json.loads(out("json"))["schema_version"] == 1
    assert json.loads(out("sarif"))["version"] == "2.1.0"
    assert ET.fromstring(out("junit")).tag == "testsuites"
    page = out("html")
    assert page.lower().startswith("<!doctype html>")
    assert page.rstrip().endswith("</html>")
    assert io.StringIO(out("text")).readline() == "FAIL: PII audit\n"


# -- one verdict everywhere ----------------------------------------------------------------------


@pytest.mark.parametrize("name", ["contacts.csv", "clean.csv", "applications.csv"])
def test_python_command_and_plan_agree(cli, exports, project, name):
    (project / "audits/one.yaml").write_text(
        f"title: One\nchecks:\n  - {{check: pii, source: {exports / name}}}\n"
    )
    [python] = checks.pii(str(exports / name), PIIRule())
    command = cli("audit", "pii", exports / name, "-f", "json")
    plan = cli("audit", "run", "one", "-f", "json")
    assert command.code == plan.code
    of_command, of_plan = json.loads(command.out), json.loads(plan.out)
    assert of_command["outcomes"] == of_plan["outcomes"]
    assert of_command["outcomes"][0]["verdict"] == python.verdict
    assert [f["fingerprint"] for f in of_plan["outcomes"][0]["findings"]] == [
        f.fingerprint for f in python.findings
    ]


@pytest.mark.parametrize(
    ("cell", "code", "allowed"),
    [(b"\x01" + bytes(40), 0, 0), (b"\xff" * 41, 3, 0)],
    ids=["sealed", "binary"],
)
def test_binary_columns_are_no_plain_pass_and_sealed_ones_are(
    cli, outside, tmp_path, cell, code, allowed
):
    with sqlite3.connect(tmp_path / "shop.db") as connection:
        connection.execute("CREATE TABLE people (id INTEGER PRIMARY KEY, secret BLOB)")
        connection.executemany("INSERT INTO people VALUES (?, ?)", [(n, cell) for n in range(9)])
    connection.close()
    url = f"sqlite:///{tmp_path / 'shop.db'}"
    answer = cli("audit", "pii", url)
    assert answer.code == code
    assert "1 column: secret" in " ".join(answer.out.split())
    assert cli("audit", "pii", url, "--allow-insufficient").code == allowed
