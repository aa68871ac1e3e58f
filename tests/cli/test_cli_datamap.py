"""``compliance datamap``: a draft for people to review, and what the databases say to it."""

import json

import pytest
import sqlalchemy as sa
import yaml

from compliance.policy import Store
from compliance.simulate.bank import create_database


def test_a_draft_is_yaml_that_the_policy_takes(cli, office):
    answer = cli("datamap", "discover", office.url, "--name", "bank")
    draft = yaml.safe_load(answer.out)["stores"]["bank"]
    assert answer.code == 0
    assert Store.model_validate(draft).url == office.url
    assert "customer" in {s["table"] for s in draft["subjects"]}
    assert "links have no meaning yet" in answer.err
    assert "0 tables are not listed" in answer.err


def test_a_password_does_not_enter_the_draft(cli, outside, postgres_url):
    create_database(postgres_url, customers=400)
    url = sa.make_url(postgres_url).set(password="hunter2").render_as_string(hide_password=False)
    answer = cli("datamap", "discover", url, "--name", "my-bank")
    assert answer.code == 0
    assert yaml.safe_load(answer.out)["stores"]["my-bank"]["url"] == "env:MY_BANK_URL"
    assert "MY_BANK_URL" in answer.err
    assert "hunter2" not in answer.all


def test_the_url_may_stand_in_the_environment(cli, office, monkeypatch):
    monkeypatch.setenv("BANK_URL", office.url)
    answer = cli("datamap", "discover", "env:BANK_URL")
    assert yaml.safe_load(answer.out)["stores"]["store"]["url"] == "env:BANK_URL"


@pytest.mark.parametrize(
    ("url", "code"),
    [
        ("sqlite:///missing.db", 4),
        ("postgresql://u:hunter2@127.0.0.1:1/db", 4),
        ("hunter2", 2),
        ("env:NOT_SET", 2),
    ],
)
def test_a_database_that_is_not_there_is_no_draft(cli, outside, url, code):
    answer = cli("datamap", "discover", url)
    assert (answer.code, answer.out) == (code, "")
    assert "hunter2" not in answer.err
    assert list(outside.iterdir()) == []


def test_a_map_that_fits_passes(cli, office):
    answer = cli("datamap", "check", "-f", "json")
    assert (answer.code, answer.err) == (0, "Data map: pass, 0 findings\n")
    assert json.loads(answer.out)["outcomes"][0]["title"] == "Data map: bank"


def test_a_new_table_that_links_to_a_person_fails(cli, office):
    engine = sa.create_engine(office.url)
    with engine.begin() as connection:
        connection.exec_driver_sql(
            "CREATE TABLE visit (id INTEGER PRIMARY KEY, "
            "customer_id INTEGER REFERENCES customer (customer_id))"
        )
    engine.dispose()
    answer = cli("datamap", "check")
    assert answer.code == 1
    assert "visit" in answer.out


def test_an_empty_map_is_no_pass(cli, project):
    assert cli("datamap", "check").code == 3


def test_one_dead_store_keeps_nothing_from_the_others(cli, office):
    path = office.folder.parent / "policies/rights.yaml"
    rights = yaml.safe_load(path.read_text())
    dead = json.loads(json.dumps(rights["stores"]["bank"]))
    dead["url"] = "postgresql://u:hunter2@127.0.0.1:1/db"
    rights["stores"] = {"archive": dead, **rights["stores"]}
    path.write_text(yaml.safe_dump(rights, sort_keys=False))
    answer = cli("datamap", "check", "-f", "json")
    assert answer.code == 4
    outcomes = json.loads(answer.out)["outcomes"]
    assert [o["check"] for o in outcomes] == ["audit.unfinished", "datamap.check"]
    assert "hunter2" not in answer.all


@pytest.mark.parametrize("options", [("-f", "x"), ("-o", "no/such/file")])
def test_a_wrong_option_is_a_2(cli, office, options):
    answer = cli("datamap", "check", *options)
    assert (answer.code, answer.out) == (2, "")
