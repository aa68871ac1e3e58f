"""Whose a row is, and what happens to it: meanings, cycles, retention, rows of two people."""

import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rights.office import Database

from compliance.errors import InputError
from compliance.policy import Store
from compliance.rights import subject
from compliance.rights.connectors.sql import SqlConnector

PERSON = "CREATE TABLE person (id INTEGER PRIMARY KEY, email TEXT NOT NULL UNIQUE)"
PEOPLE = "INSERT INTO person VALUES (1, 'a1@x.example'), (2, 'b2@x.example'), (3, 'c3@x.example')"


def edge(child, parent, meaning):
    return {"child": child, "parent": parent, "meaning": meaning}


def connector(database, *edges, personal=(), impersonal=()):
    subjects = [{"table": "person", "key": "id", "identifiers": ["email"]}]
    store = Store(
        url=database.url,
        subjects=subjects,
        edges=edges,
        personal=dict(personal),
        impersonal=impersonal,
    )
    return SqlConnector("here", store)


def erase(sql, email="a1@x.example", retention=None):
    retention = retention or {}
    plan = sql.plan(subject.searches(sql.store, {"email": email}), retention, "erasure")
    sql.erase(plan, retention, commit=True)
    assert sql.verify(plan) == {}
    return plan


def keys(database, table):
    return {key[0] for key in database.snapshot()[table]}


def test_acted_links_are_let_go_of(sqlite_db):
    db = sqlite_db(
        PERSON,
        PEOPLE,
        "CREATE TABLE ticket (id INTEGER PRIMARY KEY, agent INTEGER REFERENCES person (id))",
        "INSERT INTO ticket VALUES (1, 1), (2, 2)",
    )
    plan = erase(connector(db, edge("ticket.agent", "person.id", "acted")))
    assert plan.counts() == {"ticket": {"detach": 1}, "person": {"delete": 1}}
    assert db.snapshot()["ticket"][(1,)]["agent"] is None


def test_an_acted_link_that_may_not_be_null_keeps_the_person_anonymous(sqlite_db):
    db = sqlite_db(
        PERSON,
        PEOPLE,
        "CREATE TABLE ticket (id INTEGER PRIMARY KEY, agent INTEGER NOT NULL REFERENCES person (id))",
        "INSERT INTO ticket VALUES (1, 1)",
    )
    link = edge("ticket.agent", "person.id", "acted")
    with pytest.raises(InputError, match="list under personal"):
        erase(connector(db, link))
    plan = erase(connector(db, link, personal={"person": ["email"]}.items()))
    assert plan.counts() == {"person": {"anonymise": 1}}
    assert "may not be NULL" in plan.steps[0].reason
    assert db.snapshot()["person"][(1,)]["email"].startswith("erased-")


def test_a_row_of_two_people_is_kept_and_let_go_of(sqlite_db):
    db = sqlite_db(
        PERSON,
        PEOPLE,
        """CREATE TABLE message (id INTEGER PRIMARY KEY, sender INTEGER REFERENCES person (id),
        receiver INTEGER REFERENCES person (id))""",
        "INSERT INTO message VALUES (1, 1, 2), (2, 1, NULL), (3, 2, 3), (4, 1, 1)",
    )
    sql = connector(
        db,
        edge("message.sender", "person.id", "owned"),
        edge("message.receiver", "person.id", "owned"),
    )
    access = sql.plan(subject.searches(sql.store, {"email": "a1@x.example"}), {}, "access")
    assert access.counts()["message"] == {"read": 2}
    erase(sql)
    rows = db.snapshot()["message"]
    assert {k[0]: (r["sender"], r["receiver"]) for k, r in rows.items()} == {
        1: (None, 2),
        3: (2, 3),
    }


@pytest.mark.parametrize("meaning", ["shared", "co_owned"])
def test_shared_rows_are_kept(sqlite_db, meaning):
    db = sqlite_db(
        PERSON,
        PEOPLE,
        "CREATE TABLE club (id INTEGER PRIMARY KEY, founder INTEGER REFERENCES person (id))",
        "INSERT INTO club VALUES (1, 1)",
    )
    erase(connector(db, edge("club.founder", "person.id", meaning)))
    assert db.snapshot()["club"] == {(1,): {"id": 1, "founder": None}}


def test_an_address_goes_when_nobody_else_lives_there(sqlite_db):
    db = sqlite_db(
        "CREATE TABLE address (id INTEGER PRIMARY KEY, street TEXT)",
        """CREATE TABLE person (id INTEGER PRIMARY KEY, email TEXT,
        address INTEGER REFERENCES address (id))""",
        "INSERT INTO address VALUES (10, 'alone'), (20, 'together')",
        "INSERT INTO person VALUES (1, 'a1@x.example', 10), (2, 'b2@x.example', 20),"
        " (3, 'c3@x.example', 20)",
    )
    sql = connector(db, edge("person.address", "address.id", "exclusive_parent"))
    erase(sql, "a1@x.example")
    assert keys(db, "address") == {20}
    erase(sql, "b2@x.example")
    assert keys(db, "address") == {20}
    erase(sql, "c3@x.example")
    assert keys(db, "address") == set()


NODE = "CREATE TABLE node (id INTEGER PRIMARY KEY, owner INTEGER REFERENCES person (id), up INTEGER {} REFERENCES node (id))"
OWNED = edge("node.owner", "person.id", "owned")


def test_a_long_chain_of_self_references_is_opened_at_once(sqlite_db):
    rows = ", ".join(f"({i}, 1, {i - 1 or 'NULL'})" for i in range(1, 1501))
    db = sqlite_db(PERSON, PEOPLE, NODE.format(""), f"INSERT INTO node VALUES {rows}")
    plan = erase(connector(db, OWNED, edge("node.up", "node.id", "owned")))
    assert [(s.table, s.action.value, s.rows) for s in plan.steps] == [
        ("node", "unlink", 1499),
        ("node", "delete", 1500),
        ("person", "delete", 1),
    ]
    assert plan.counts()["node"] == {"delete": 1500}


def test_a_self_reference_that_may_not_be_null_is_deleted_leaf_first(sqlite_db):
    db = sqlite_db(
        PERSON,
        PEOPLE,
        NODE.format("NOT NULL"),
        "INSERT INTO node VALUES (1, 1, 1), (2, 1, 1), (3, 1, 2), (9, 2, 9)",
    )
    plan = erase(connector(db, OWNED, edge("node.up", "node.id", "owned")))
    assert [s.rows for s in plan.steps] == [1, 1, 1, 1]
    assert keys(db, "node") == {9}


def cyclic(sqlite_db, null):
    deferred = "DEFERRABLE INITIALLY DEFERRED"
    return sqlite_db(
        PERSON,
        PEOPLE,
        f"CREATE TABLE a (id INTEGER PRIMARY KEY, owner INTEGER REFERENCES person (id),"
        f" b INTEGER {null} REFERENCES b (id) {deferred})",
        f"CREATE TABLE b (id INTEGER PRIMARY KEY, a INTEGER NOT NULL REFERENCES a (id) {deferred})",
        "INSERT INTO b VALUES (1, 1)",
        "INSERT INTO a VALUES (1, 1, 1)",
    )


CYCLE = (
    edge("a.owner", "person.id", "owned"),
    edge("b.a", "a.id", "owned"),
    edge("a.b", "b.id", "owned"),
)


def test_a_circle_is_opened_where_a_column_may_be_null(sqlite_db):
    db = cyclic(sqlite_db, "")
    assert erase(connector(db, *CYCLE)).counts() == {
        "a": {"delete": 1},
        "b": {"delete": 1},
        "person": {"delete": 1},
    }
    assert keys(db, "b") == set()


def test_a_circle_that_cannot_be_opened_is_said_to_be_one(sqlite_db):
    with pytest.raises(InputError, match="circle that cannot be opened"):
        erase(connector(cyclic(sqlite_db, "NOT NULL"), *CYCLE))


def test_a_retained_row_keeps_its_parts_and_only_what_it_needs(sqlite_db):
    db = sqlite_db(
        PERSON,
        PEOPLE,
        "CREATE TABLE bill (id INTEGER PRIMARY KEY, person INTEGER NOT NULL REFERENCES person (id), to_name TEXT)",
        "CREATE TABLE item (id INTEGER PRIMARY KEY, bill INTEGER NOT NULL REFERENCES bill (id))",
        "CREATE TABLE visit (id INTEGER PRIMARY KEY, person INTEGER NOT NULL REFERENCES person (id))",
        "INSERT INTO bill VALUES (1, 1, 'A'), (2, 2, 'B')",
        "INSERT INTO item VALUES (1, 1), (2, 2)",
        "INSERT INTO visit VALUES (1, 1), (2, 2)",
    )
    sql = connector(
        db,
        edge("bill.person", "person.id", "owned"),
        edge("item.bill", "bill.id", "owned"),
        edge("visit.person", "person.id", "owned"),
        personal={"person": ["email"], "bill": ["to_name"]}.items(),
    )
    plan = erase(sql, retention={"bill": "tax law"})
    assert plan.counts() == {
        "bill": {"anonymise": 1},
        "item": {"keep": 1},
        "person": {"anonymise": 1},
        "visit": {"delete": 1},
    }
    assert db.snapshot()["bill"] == {
        (1,): {"id": 1, "person": 1, "to_name": None},
        (2,): {"id": 2, "person": 2, "to_name": "B"},
    }


def test_a_retained_row_that_can_let_go_lets_the_person_go(sqlite_db):
    db = sqlite_db(
        PERSON,
        PEOPLE,
        "CREATE TABLE bill (id INTEGER PRIMARY KEY, person INTEGER REFERENCES person (id))",
        "INSERT INTO bill VALUES (1, 1)",
    )
    sql = connector(db, edge("bill.person", "person.id", "owned"))
    assert erase(sql, retention={"bill": "tax law"}).counts() == {
        "bill": {"detach": 1, "keep": 1},
        "person": {"delete": 1},
    }


def test_a_retention_rule_for_a_missing_table_protects_nothing_and_says_so(sqlite_db):
    with pytest.raises(InputError, match="names the table 'bill'"):
        erase(connector(sqlite_db(PERSON, PEOPLE)), retention={"bill": "tax law"})


def test_an_edge_without_a_meaning_makes_the_plan_refuse(sqlite_db):
    db = sqlite_db(
        PERSON,
        PEOPLE,
        "CREATE TABLE thing (id INTEGER PRIMARY KEY, x INTEGER REFERENCES person (id))",
    )
    with pytest.raises(InputError, match=r"thing\.x -> person\.id has no meaning"):
        erase(connector(db))
    assert keys(db, "person") == {1, 2, 3}


# -- any data --------------------------------------------------------------------------

row = st.tuples(
    st.sampled_from([1, 2, 3]),  # owner
    st.sampled_from([None, 1, 2, 3]),  # agent, acted
    st.sampled_from([None, 1, 2, 3]),  # friend, co-owned
    st.one_of(st.none(), st.integers(0, 9)),  # reply to, owned
)


@settings(max_examples=40)
@given(st.lists(row, max_size=10), st.booleans())
def test_whatever_the_rows_only_the_persons_own_go_and_no_reference_breaks(rows, keep):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "user.db"
        path.touch()
        db = Database(f"sqlite:///{path}", "sqlite")
        values = [
            f"INSERT INTO note VALUES ({i}, {o}, {a or 'NULL'}, {f or 'NULL'}, {'NULL' if r is None or r >= i else r})"
            for i, (o, a, f, r) in enumerate(rows)
        ]
        db.execute(
            PERSON,
            PEOPLE,
            """CREATE TABLE note (id INTEGER PRIMARY KEY, owner INTEGER NOT NULL REFERENCES person (id),
            agent INTEGER REFERENCES person (id), friend INTEGER REFERENCES person (id),
            reply INTEGER REFERENCES note (id))""",
            *values,
        )
        before = db.snapshot()["note"]
        sql = connector(
            db,
            edge("note.owner", "person.id", "owned"),
            edge("note.agent", "person.id", "acted"),
            edge("note.friend", "person.id", "co_owned"),
            edge("note.reply", "note.id", "shared"),
            personal={"person": ["email"]}.items(),
        )
        erase(sql, retention={"note": "law"} if keep else {})
        after = db.snapshot()
        assert db.scalar("SELECT count(*) FROM pragma_foreign_key_check") == 0
        gone = before.keys() - after["note"].keys()
        mine = {k for k, r in before.items() if r["owner"] == 1 and r["friend"] in {None, 1}}
        assert gone == (set() if keep else mine)
        assert keys(db, "person") >= {2, 3}
        for key, kept in after["note"].items():
            was = before[key]
            assert (kept["id"], kept["owner"]) == (was["id"], was["owner"])
            assert kept["agent"] == was["agent"] or (was["agent"] == 1 and kept["agent"] is None)
            assert kept["friend"] == was["friend"] or (
                was["friend"] == 1 and kept["friend"] is None
            )
