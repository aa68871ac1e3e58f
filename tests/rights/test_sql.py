"""Reference cases: exact counts on three engines, and every other row untouched."""

import dataclasses
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from rights.office import ANNA, BEN

from compliance.errors import InputError, StalePlanError, StoreError
from compliance.policy import Store
from compliance.rights import datamap, subject
from compliance.rights.connectors.sql import SqlConnector, _execute

CUSTOMER = "chinook-customer-1"
EMPLOYEE = "chinook-employee-2"
SIGNS = ("luisg@embraer", "Gonçalves", "GonÃ§alves", "Brigadeiro Faria Lima")


def named(database, counts):
    return {database.name(table): n for table, n in counts.items()}


def only(counts, action):
    return {table: actions[action] for table, actions in counts.items() if action in actions}


def without(snapshot, gone):
    return {
        t: {k: r for k, r in rows.items() if k not in gone.get(t, set())}
        for t, rows in snapshot.items()
    }


def removed(before, after):
    gone = {t: rows.keys() - after[t].keys() for t, rows in before.items()}
    return {t: keys for t, keys in gone.items() if keys}


def test_a_customer_is_erased_whole_and_nobody_else(chinook, office, go, cases):
    expected = cases[CUSTOMER]["requests"]["erase_full"]
    here = office(chinook=chinook)
    before = chinook.snapshot()
    request = go(here, {"email": cases[CUSTOMER]["subject"]["email"]}, until="planned")
    plan = here.requests.plan(ANNA, request)
    assert only(plan.counts()["chinook"], "delete") == named(chinook, expected["delete"])
    here.requests.approve(BEN, request)
    assert here.requests.run(ANNA, request).counts == plan.counts()
    here.requests.verify(ANNA, request)
    after = chinook.snapshot()
    gone = removed(before, after)
    assert {t: len(keys) for t, keys in gone.items()} == named(chinook, expected["delete"])
    assert without(before, gone) == after
    assert named(chinook, expected["after"]).items() <= chinook.counts().items()


def test_an_employee_is_erased_and_the_staff_let_go_of(chinook, office, go, cases):
    expected = cases[EMPLOYEE]["requests"]["erase_full"]
    here = office(chinook=chinook)
    before = chinook.snapshot()
    employee, boss = chinook.name("Employee"), chinook.name("ReportsTo")
    key = f"{employee}.{chinook.name('EmployeeId')}"
    request = go(here, {key: cases[EMPLOYEE]["subject"]["pk"]})
    counts = here.requests.get(ANNA, request).plan["stores"][0]["steps"]
    assert [(s["table"], s["action"], s["rows"]) for s in counts] == [
        (employee, "detach", expected["update"]["Employee_ReportsTo_null"]),
        (employee, "delete", expected["delete"]["Employee"]),
    ]
    after = chinook.snapshot()
    assert removed(before, after) == {employee: {(2,)}}
    changed = [k for k, row in after[employee].items() if row != before[employee][k]]
    assert len(changed) == expected["update"]["Employee_ReportsTo_null"]
    for row in changed:
        assert after[employee][row] == {**before[employee][row], boss: None}
    others = {t: rows for t, rows in before.items() if t != employee}
    assert others == {t: rows for t, rows in after.items() if t != employee}
    assert named(chinook, expected["after"]).items() <= chinook.counts().items()


def test_a_person_gets_their_rows_and_nobody_elses(chinook, office, go, cases):
    expected = named(chinook, cases[CUSTOMER]["requests"]["access"]["rows"])
    here = office(chinook=chinook)
    before = chinook.snapshot()
    request = go(here, {"email": "luisg@embraer.com.br"}, until="approved", kind="access")
    data = here.requests.run(ANNA, request).data["chinook"]
    assert {table: len(rows) for table, rows in data.items()} == expected
    [customer] = data[chinook.name("Customer")]
    assert customer[chinook.name("LastName")] == "Gonçalves"
    assert chinook.name("SupportRepId") not in customer  # an employee is a third person
    assert here.requests.run(ANNA, request).data["chinook"] == data  # until it is closed
    here.requests.verify(ANNA, request)
    assert chinook.snapshot() == before


def test_invoices_under_retention_stay_without_the_person(chinook, office, go, cases):
    expected = cases[CUSTOMER]["requests"]["erase_tax_retention"]
    rule = {
        "store": "chinook",
        "table": chinook.name("Invoice"),
        "basis": "legal obligation",
        "article": "Art. 17(3)(b)",
    }
    here = office(chinook=chinook, retention={"tax": rule})
    before = chinook.snapshot()
    request = go(here, {"email": "luisg@embraer.com.br"})
    after = chinook.snapshot()
    assert removed(before, after) == {}
    columns = {
        chinook.name(t): {chinook.name(c) for c in cs} for t, cs in expected["columns"].items()
    }
    changed = {t: [k for k in rows if rows[k] != after[t][k]] for t, rows in before.items()}
    assert {t: len(ks) for t, ks in changed.items() if ks} == named(chinook, expected["anonymise"])
    for table, keys in changed.items():
        for key in keys:
            was, now = before[table][key], after[table][key]
            assert {c for c in was if was[c] != now[c]} == {
                c for c in columns[table] if was[c] is not None
            }
            assert all(now[c] is None or now[c].startswith("erased-") for c in columns[table])
    kept = expected["invariants"]
    total = sum(float(r[chinook.name("Total")]) for r in after[chinook.name("Invoice")].values())
    assert round(total, 2) == kept["invoice_total_sum"]
    assert len(after[chinook.name("Invoice")]) == kept["invoice_count"]
    assert len(after[chinook.name("InvoiceLine")]) == kept["invoice_line_count"]
    assert not [s for s in SIGNS if s in str(after)]
    ground = here.requests.get(ANNA, request).plan["stores"][0]["steps"][0]["reason"]
    assert "Art. 17(3)(b)" in ground or "must point here" in ground


def connector(database, **changes):
    draft = datamap.discover(database.url) | changes
    return SqlConnector("here", Store(**draft))


def search(sql, **identifiers):
    return subject.searches(sql.store, subject.Subject.parse(identifiers).identifiers)


SHOP = (
    """CREATE TABLE "Cust ""omer" ("e mail" TEXT UNIQUE NOT NULL, nr INTEGER, shop INTEGER,
    born DATE NOT NULL, salary NUMERIC NOT NULL, PRIMARY KEY (shop, nr))""",
    """CREATE TABLE "order" (id INTEGER PRIMARY KEY, shop INTEGER NOT NULL, nr INTEGER NOT NULL,
    note TEXT, FOREIGN KEY (shop, nr) REFERENCES "Cust ""omer" (shop, nr))""",
    """CREATE TABLE line ("order" INTEGER NOT NULL REFERENCES "order" (id), what TEXT)""",
    """INSERT INTO "Cust ""omer" VALUES ('a@x.example', 1, 1, '1980-01-02', 10),
    ('b@x.example', 2, 1, '1981-01-02', 20)""",
    """INSERT INTO "order" VALUES (1, 1, 1, NULL), (2, 1, 2, NULL)""",
    "INSERT INTO line VALUES (1, 'tea'), (1, 'tea'), (2, 'tea')",
)
SHOP_MAP = {
    "subjects": [{"table": 'Cust "omer', "key": "nr", "identifiers": ["e mail"]}],
    "edges": [
        {"child": "order.shop,nr", "parent": 'Cust "omer.shop,nr', "meaning": "owned"},
        {"child": "line.order", "parent": "order.id", "meaning": "owned"},
    ],
    "personal": {'Cust "omer': ["e mail", "born", "salary"]},
}


def test_composite_keys_odd_names_and_tables_without_a_key(sqlite_db):
    shop = sqlite_db(*SHOP)
    sql = SqlConnector("shop", Store(url=shop.url, **SHOP_MAP))
    plan = sql.plan(search(sql, **{"e mail": "a@x.example"}), {}, "erasure")
    assert plan.counts() == {
        "line": {"delete": 2},  # two equal rows of a table without a key are two rows
        "order": {"delete": 1},
        'Cust "omer': {"delete": 1},
    }
    sql.erase(plan, {}, commit=True)
    assert sql.verify(plan) == {}
    assert shop.scalar("SELECT count(*) FROM line") == 1


def test_not_null_and_unique_columns_get_constants_that_fit(sqlite_db):
    shop = sqlite_db(*SHOP)
    sql = SqlConnector("shop", Store(url=shop.url, **SHOP_MAP))
    plan = sql.plan(search(sql, **{"e mail": "A@X.example"}), {"order": "tax"}, "erasure")
    assert plan.counts()['Cust "omer'] == {"anonymise": 1}
    sql.erase(plan, {"order": "tax"}, commit=True)
    row = shop.snapshot()['Cust "omer'][1, 1]
    assert row["e mail"].startswith("erased-")
    assert (row["born"], row["salary"]) == ("1900-01-01", 0)
    assert sql.verify(plan) == {}


def test_rolled_back_work_leaves_the_file_as_it_was(sqlite_chinook):
    sql = connector(sqlite_chinook)
    plan = sql.plan(search(sql, email="luisg@embraer.com.br"), {}, "erasure")
    before = sqlite_chinook.snapshot()
    assert sql.erase(plan, {}, commit=False)
    assert sqlite_chinook.snapshot() == before
    assert sql.verify(plan) == {
        "Customer": 1, "Invoice": 7, "InvoiceLine": 38, "Invoice.BillingAddress": 7,
        **dict.fromkeys(["Customer.Address", "Customer.Email", "Customer.Fax", "Customer.Phone"], 1),
    }  # fmt: skip


def test_a_row_that_came_after_the_plan_stops_everything(sqlite_chinook):
    sql = connector(sqlite_chinook)
    plan = sql.plan(search(sql, email="luisg@embraer.com.br"), {}, "erasure")
    sqlite_chinook.execute(
        "INSERT INTO Invoice (InvoiceId, CustomerId, InvoiceDate, Total) VALUES (9999, 1, '2026-01-01', 1)"
    )
    before = sqlite_chinook.snapshot()
    with pytest.raises(StalePlanError, match="plan again"):
        sql.erase(plan, {}, commit=True)
    assert sqlite_chinook.snapshot() == before


def test_identifiers_that_point_to_two_people_are_refused(sqlite_chinook):
    sql = connector(sqlite_chinook)
    with pytest.raises(InputError, match="2 rows match some of the identifiers"):
        sql.locate(search(sql, email="luisg@embraer.com.br", customer_id="2"))


def test_text_is_no_number_and_no_accent_is_another(chinook):
    sql = connector(chinook)
    assert not any(sql.locate(search(sql, email="0")).values())
    assert not any(sql.locate(search(sql, customer_id="1 OR 1=1")).values())
    assert not any(sql.locate(search(sql, customer_id=str(10**30))).values())
    assert not any(sql.locate(search(sql, email="lúisg@embraer.com.br")).values())
    found = sql.locate(search(sql, email=" LuisG@Embraer.com.br "))
    assert len(found[chinook.name("Customer")]) == 1


def test_a_mention_elsewhere_is_residue_and_is_not_shown(sqlite_chinook):
    sqlite_chinook.execute(
        "CREATE TABLE memo (id INTEGER PRIMARY KEY, body TEXT)",
        "INSERT INTO memo VALUES (1, 'ask Luis (LUISG@embraer.com.br) again'), (2, 'nothing')",
    )
    sql = connector(sqlite_chinook)
    plan = sql.plan(search(sql, email="luisg@embraer.com.br"), {}, "erasure")
    sql.erase(plan, {}, commit=True)
    assert sql.verify(plan) == {"memo.body": 1}


def test_a_trigger_that_brings_rows_back_is_caught_before_the_commit(sqlite_chinook):
    sqlite_chinook.execute(
        "CREATE TRIGGER undead AFTER DELETE ON Customer BEGIN INSERT INTO Customer"
        " SELECT OLD.CustomerId, 'x', 'y', '', '', '', '', '', '', '', '', OLD.Email, NULL; END"
    )
    sql = connector(sqlite_chinook)
    plan = sql.plan(search(sql, email="luisg@embraer.com.br"), {}, "erasure")
    before = sqlite_chinook.snapshot()
    with pytest.raises(Exception, match="triggers"):
        sql.erase(plan, {}, commit=True)
    assert sqlite_chinook.snapshot() == before


def test_two_at_once_have_one_effect(chinook):
    sql = connector(chinook)
    plan = sql.plan(search(sql, email="luisg@embraer.com.br"), {}, "erasure")
    gate = threading.Barrier(2)

    def one(_):
        gate.wait()
        try:
            return sql.erase(plan, {}, commit=True)
        except (StalePlanError, StoreError) as error:
            return type(error)

    with ThreadPoolExecutor(2) as pool:
        said = list(pool.map(one, range(2)))
    assert said.count(True) == 1, said
    assert sql.verify(plan) == {}
    assert chinook.counts()[chinook.name("Invoice")] == 405
    assert sql.erase(plan, {}, commit=True, resumed=True) is False


def test_a_statement_that_touches_another_number_of_rows_ends_the_transaction(sqlite_chinook):
    sql = connector(sqlite_chinook)
    plan = sql.plan(search(sql, email="luisg@embraer.com.br"), {}, "erasure")
    wrong = dataclasses.replace(plan.steps[0], rows=37)
    before = sqlite_chinook.snapshot()
    with pytest.raises(StalePlanError), sql._session(write=True) as session:
        _execute(session, wrong)
    assert sqlite_chinook.snapshot() == before
