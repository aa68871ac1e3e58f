"""The rows follow their recipe: one law for all, and proxies where bias is asked for."""

import datetime as dt

from hypothesis import given
from hypothesis import strategies as st

from compliance.simulate import rows


def test_bias_changes_only_what_follows_from_the_applications():
    fair, biased = (rows.build(rows.Recipe(customers=200, bias=bias)) for bias in (0, 1.5))
    for table in ("customer", "staff", "payment", "note", "consent_record"):
        assert fair[table] == biased[table]
    men = {c["customer_id"] for c in fair["customer"] if c["sex"] == "M"}
    of_men = [[a for a in b["application"] if a["customer_id"] in men] for b in (fair, biased)]
    assert of_men[0] == of_men[1]
    assert fair["application"] != biased["application"]


def test_managers_lead_to_one_head_without_a_circle(built):
    managers = {row["staff_id"]: row["manager_id"] for row in built["staff"]}
    assert [s for s, manager in managers.items() if manager is None] == [1]
    assert all(manager < s for s, manager in managers.items() if manager is not None)


def test_ages_agree_with_birth_dates_and_fields_keep_their_public_bounds(built):
    born = {c["customer_id"]: c["birth_date"] for c in built["customer"]}
    for row in built["application"]:
        assert row["age"] == rows.age_on(born[row["customer_id"]], row["submitted_on"])
        for name, (least, most) in rows.BOUNDS.items():
            assert least <= row[name] <= most
        assert row["years_employed"] <= max(0, row["age"] - 16)


@given(st.dates(dt.date(1900, 1, 1), dt.date(2000, 1, 1)), st.integers(0, 120))
def test_a_birthday_adds_one_year(birth, years):
    day = dt.date(birth.year + years, birth.month, min(birth.day, 28))
    assert rows.age_on(birth.replace(day=min(birth.day, 28)), day) == years


def test_the_law_is_calibrated():
    """Among applications whose chance is near p, about p are repaid (four standard errors)."""
    applications = rows.build(rows.Recipe(customers=4000))["application"]
    ordered = sorted(applications, key=rows.score)
    for start in range(0, 4000, 500):
        part = ordered[start : start + 500]
        expected = sum(rows.chance(rows.score(a)) for a in part) / 500
        assert abs(sum(a["repaid"] for a in part) / 500 - expected) < 4 * (0.25 / 500) ** 0.5


def test_notes_hold_the_kinds_of_personal_data_they_promise(built):
    customers = {c["customer_id"]: c for c in built["customer"]}
    held = {
        kind: sum(str(customers[n["customer_id"]][kind]) in n["body"] for n in built["note"])
        for kind in ("name", "email", "phone", "iban")
    }
    assert all(count > 50 for count in held.values()), held
    assert held["name"] < 1000, "some notes name nobody"


def test_some_payments_name_the_counterparty_in_free_text(built):
    names = {c["customer_id"]: c["name"] for c in built["customer"]}
    named = [
        p
        for p in built["payment"]
        if names.get(p["counterparty_customer_id"], "\0") in (p["reference"] or "")
    ]
    assert len(named) > 100
    assert all(p["customer_id"] != p["counterparty_customer_id"] for p in built["payment"])
