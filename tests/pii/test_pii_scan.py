"""Scanning frames: what is found, what is not, and what never leaves."""

import dataclasses
import datetime as dt
import hashlib
import json
import random
import string
import uuid

import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from compliance import frames
from compliance.findings import Severity, Verdict
from compliance.pii.detect import Detector
from compliance.pii.scan import mask, scan_frame
from compliance.policy import PIIRule

ADULT = [
    "age",
    "workclass",
    "fnlwgt",
    "education",
    "education-num",
    "marital-status",
    "occupation",
    "relationship",
    "race",
    "sex",
    "capital-gain",
    "capital-loss",
    "hours-per-week",
    "native-country",
    "income",
]
RNG = random.Random(20240115)


def digits(count):
    return "".join(RNG.choice(string.digits) for _ in range(count))


def luhn(payload):
    total = sum(sum(divmod(int(d) * (2 - i % 2), 10)) for i, d in enumerate(reversed(payload)))
    return payload + str(-total % 10)


def iban():
    bban = digits(18)
    rest = int("".join(str(int(c, 36)) for c in bban + "DE00"))
    return f"DE{98 - rest % 97:02d}{bban}"


def ssn(sep="-"):
    return sep.join(
        (f"{RNG.randrange(100, 665)}", f"{RNG.randrange(10, 99)}", f"{RNG.randrange(1000, 9999)}")
    )


def phone(form="{}-{}-{}"):
    return form.format(
        RNG.choice((212, 415, 650, 312)), RNG.randrange(220, 990), RNG.randrange(1000, 9999)
    )


def many(make, count=60):
    return [make() for _ in range(count)]


def scan(frame, rule=None, **more):
    frame = frame if not isinstance(frame, dict) else pd.DataFrame(frame)
    return scan_frame(frames.wrap(frame), source="test", rule=rule or PIIRule(), **more)


def kinds(result):
    return {(c.column, c.kind) for c in result.columns if c.flagged}


def everything(result):
    """All that leaves a scan, as text."""
    return repr(result) + json.dumps(dataclasses.asdict(result.outcome), default=str)


# -- what is found -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("header", "make", "kind", "severity"),
    [
        ("x", lambda: f"u{digits(6)}@example.org", "EMAIL_ADDRESS", Severity.HIGH),
        ("x", phone, "PHONE_NUMBER", Severity.HIGH),
        ("x", lambda: phone("({}) {}-{}"), "PHONE_NUMBER", Severity.HIGH),
        ("x", lambda: phone("+1{}{}{}"), "PHONE_NUMBER", Severity.HIGH),
        ("mobile", lambda: phone("{}{}{}"), "PHONE_NUMBER", Severity.HIGH),
        ("phone", lambda: int(phone("{}{}{}")), "PHONE_NUMBER", Severity.HIGH),
        ("Phone", lambda: int("33" + digits(9)), "PHONE_NUMBER", Severity.HIGH),
        ("x", lambda: luhn("411111" + digits(9)), "CREDIT_CARD", Severity.CRITICAL),
        ("x", lambda: int(luhn("53" + digits(13))), "CREDIT_CARD", Severity.CRITICAL),
        ("card", lambda: "-".join(pd.Series(luhn("4" + digits(14))).str.findall("....")[0]),
         "CREDIT_CARD", Severity.CRITICAL),
        ("x", iban, "IBAN_CODE", Severity.CRITICAL),
        ("x", ssn, "US_SSN", Severity.CRITICAL),
        ("ssn", lambda: ssn(""), "US_SSN", Severity.CRITICAL),
        ("customerSSN", lambda: int(ssn("")), "US_SSN", Severity.CRITICAL),
        ("SocialSecurityNumber", lambda: int("001" + digits(6)), "US_SSN", Severity.CRITICAL),
        ("x", lambda: f"203.0.113.{RNG.randrange(255)}", "IP_ADDRESS", Severity.MEDIUM),
        ("x", lambda: f"2001:db8::{RNG.randrange(1, 65535):x}:1", "IP_ADDRESS", Severity.MEDIUM),
        ("x", lambda: f"00:1a:2b:{digits(2)}:4d:{digits(2)}", "MAC_ADDRESS", Severity.MEDIUM),
        ("driver_licence", lambda: "A" + digits(7), "US_DRIVER_LICENSE", Severity.HIGH),
        ("passport", lambda: int("5" + digits(8)), "US_PASSPORT", Severity.HIGH),
        ("account_number", lambda: int("7" + digits(10)), "US_BANK_NUMBER", Severity.HIGH),
        ("first_name", lambda: RNG.choice(["Ada", "Grace", "王伟", "Мария"]), "PERSON", Severity.MEDIUM),
        ("name", lambda: RNG.choice(["Ada Lovelace", "Grace Hopper"]), "PERSON", Severity.MEDIUM),
        ("birth_date", lambda: dt.date(1950 + RNG.randrange(50), 5, 17), "DATE_OF_BIRTH", Severity.MEDIUM),
        ("dob", lambda: f"{RNG.randrange(10, 28)}/05/1980", "DATE_OF_BIRTH", Severity.MEDIUM),
        ("street", lambda: f"{RNG.randrange(1, 99)} Main Street", "LOCATION", Severity.MEDIUM),
        ("password", lambda: "hunter" + digits(3), "CREDENTIAL", Severity.CRITICAL),
    ],
)  # fmt: skip
def test_a_column_of_each_kind_is_found(header, make, kind, severity):
    result = scan({"other": range(60), header: many(make)})
    assert kinds(result) == {(header, kind)}
    (finding,) = result.outcome.findings
    assert result.outcome.verdict is Verdict.FAIL
    assert (finding.check, finding.severity, finding.place.column) == (
        "pii.column",
        severity,
        header,
    )
    assert finding.count == finding.evidence["sampled"] > 0


@pytest.mark.parametrize("header", ["ssn", "phone_number"])
def test_identifiers_beside_missing_cells_are_stored_as_floats_and_still_found(header):
    result = scan({header: [float(f"536{digits(6)}"), None] * 30})
    assert [c for c, _ in kinds(result)] == [header]


@pytest.mark.parametrize(
    ("note", "kind"),
    [
        ("please write to ada@example.org about the loan", "EMAIL_ADDRESS"),
        ("she can be reached at 212-555-0199 after six", "PHONE_NUMBER"),
        ("paid with 4111 1111 1111 1111 in May", "CREDIT_CARD"),
        ("transfer to DE89370400440532013000 today", "IBAN_CODE"),
    ],
)
def test_free_text_is_judged_by_cells_that_hold_anything(note, kind):
    notes = [f"called about case {i}, no answer, will try again" for i in range(90)]
    result = scan({"notes": [*notes, *(f"{i}: {note}" for i in range(10))]})
    assert kinds(result) == {("notes", kind)}
    assert result.outcome.findings[0].count == 10


def test_lists_and_nested_cells_are_read():
    table = pa.table({"contact": [{"mail": [f"u{i}@example.org"]} for i in range(20)]})
    assert kinds(scan(table)) == {("contact", "EMAIL_ADDRESS")}


# -- what is not -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("header", "make"),
    [
        ("id", lambda: RNG.randrange(10**9, 10**10)),
        ("customer_id", lambda: RNG.randrange(10**8, 10**9)),
        ("order", lambda: RNG.randrange(10**15, 10**16)),
        ("order", lambda: "4" + digits(15)),
        ("order", lambda: "-".join(digits(4) for _ in range(4))),
        ("ref", lambda: "-".join((digits(4), digits(4), digits(4)))),
        ("zip", lambda: digits(5)),
        ("zip", lambda: f"{digits(5)}-{digits(4)}"),
        ("postcode", lambda: f"SW{RNG.randrange(1, 20)}A 1AA"),
        ("salary", lambda: RNG.randrange(20_000, 250_000)),
        ("salary", lambda: f"{RNG.randrange(20, 250)},{digits(3)}.{digits(2)}"),
        ("price", lambda: RNG.random() * 1e6),
        ("uuid", lambda: str(uuid.UUID(int=RNG.getrandbits(128)))),
        ("created_at", lambda: f"2024-01-{RNG.randrange(10, 28)}T10:2{digits(1)}:33.{digits(6)}+00:00"),
        ("created_at", lambda: RNG.randrange(1_600_000_000, 1_700_000_000)),
        ("created_ms", lambda: RNG.randrange(1_600_000_000_000, 1_700_000_000_000)),
        ("created_ns", lambda: RNG.randrange(16 * 10**17, 17 * 10**17)),
        ("day", lambda: dt.date(2024, 1, RNG.randrange(1, 29))),
        ("day", lambda: f"{RNG.randrange(1, 12)}/{RNG.randrange(10, 28)}/2024"),
        ("digest", lambda: hashlib.sha256(digits(9).encode()).hexdigest()),
        ("digest", lambda: hashlib.md5(digits(9).encode()).hexdigest()),
        ("product", lambda: "A" + digits(7)),
        ("product_name", lambda: RNG.choice(["Blue Chair", "Red Table", "Green Lamp"])),
        ("name", lambda: RNG.choice(["widget", "gadget", "AC/DC", "Rock"])),
        ("version", lambda: f"{digits(1)}.{digits(2)}.{digits(3)}"),
        ("coordinates", lambda: f"{RNG.uniform(-90, 90):.6f}, {RNG.uniform(-180, 180):.6f}"),
        ("isbn", lambda: f"978-3-16-{digits(6)}-{digits(1)}"),
        ("url", lambda: f"https://shop.example.org/p/{digits(6)}"),
        ("phone_model", lambda: f"Pixel {digits(1)}"),
        ("email_verified", lambda: RNG.random() < 0.5),
        ("ip", lambda: RNG.random() < 0.5),
        ("license", lambda: RNG.choice(["MIT", "Apache-2.0"])),
    ],
)  # fmt: skip
def test_a_column_that_only_resembles_personal_data_is_not_reported(header, make):
    result = scan({header: many(make, 200)})
    assert kinds(result) == set()
    assert result.outcome.verdict is Verdict.PASS


@pytest.mark.parametrize("as_text", [False, True])
@pytest.mark.parametrize("seed", [0, 7])
def test_the_adult_census_holds_none(data, as_text, seed):
    path = data / "fairness" / "adult.data"
    frame = pd.read_csv(path, header=None, names=ADULT, skipinitialspace=True)
    result = scan(frame.astype(str) if as_text else frame, PIIRule(seed=seed))
    assert result.outcome.verdict is Verdict.PASS
    assert result.outcome.findings == ()
    assert result.outcome.facts["rows"] == 32_561
    assert {c.column for c in result.columns} == set(ADULT)


def test_the_german_credit_codes_hold_none(data):
    frame = pd.read_csv(data / "fairness" / "german_raw.csv")
    assert scan(frame).outcome.findings == ()


# -- policy ----------------------------------------------------------------------------


def test_declared_kinds_are_expected_and_others_are_not():
    frame = {"contact": many(lambda: f"u{digits(5)}@example.org") + many(phone)}
    result = scan(frame, declared={"contact": ("EMAIL_ADDRESS",)})
    assert kinds(result) == {("contact", "PHONE_NUMBER")}
    assert result.outcome.facts["columns_declared"] == 1
    both = scan(frame, declared={"contact": ("EMAIL_ADDRESS", "PHONE_NUMBER")})
    assert both.outcome.verdict is Verdict.PASS
    assert both.outcome.findings == ()


def test_a_share_below_the_policys_is_shown_and_not_reported():
    notes = [f"nothing here {i}" for i in range(99)] + ["ada@example.org"]
    result = scan({"notes": notes}, PIIRule(least_share=0.05))
    assert result.outcome.verdict is Verdict.PASS
    assert result.outcome.facts["columns_below_share"] == 1
    assert "below the least share" in result.outcome.tables[0].rows[0]
    assert scan({"notes": notes}, PIIRule(least_share=0.01)).outcome.verdict is Verdict.FAIL


def test_the_least_score_decides_what_a_header_may_tip():
    frame = {"first_name": ["Ada", "Grace", "Alan"]}
    assert scan(frame, PIIRule(least_score=0.7)).outcome.verdict is Verdict.FAIL
    assert scan(frame, PIIRule(least_score=0.9)).outcome.verdict is Verdict.PASS


@pytest.mark.parametrize("frame", [{}, {"a": []}, {"a": [None, None]}, {"b": [b"x"]}])
def test_where_there_is_no_cell_nothing_can_be_said(frame):
    result = scan(frame)
    assert result.outcome.verdict is Verdict.INSUFFICIENT
    assert result.outcome.findings == ()


def test_the_trail_gets_engine_sample_seed_counts_and_what_is_not_covered():
    result = scan({"a": [f"c{i}" for i in range(50)], "b": [b"x"] * 50}, PIIRule(sample=20, seed=3))
    facts = result.outcome.facts
    assert facts["engine"].startswith("presidio-analyzer ")
    assert facts["names"].startswith("not covered")
    assert (facts["sample"], facts["seed"], facts["rows"], facts["columns"]) == (20, 3, 50, 2)
    assert (facts["cells_distinct"], facts["cells_sampled"], facts["cells_binary"]) == (50, 20, 50)


# -- determinism -------------------------------------------------------------------------


def test_the_same_seed_gives_the_same_answer_in_every_library_and_order():
    notes = [f"note {i}" if i % 9 else f"write to u{i}@example.org" for i in range(900)]
    rule = PIIRule(sample=100, seed=5)
    results = [
        scan(frame, rule)
        for frame in (
            pd.DataFrame({"n": notes}),
            pl.DataFrame({"n": notes}),
            pa.table({"n": notes}),
            pd.DataFrame({"n": [*reversed(notes), *notes]}, index=range(5, 1805)),
            pd.DataFrame({"n": pd.Categorical(notes)}),
        )
    ]
    assert len({r.columns for r in results}) == 1
    counts = {scan({"n": notes}, PIIRule(sample=100, seed=s)).columns[0].hits for s in range(6)}
    assert len(counts) > 1, "another seed reads other cells"


# -- nothing of a value leaves ---------------------------------------------------------------

_emails = st.from_regex(r"[a-z]{5,10}\.[a-z]{5,10}@[a-z]{6,12}\.(com|org|de)", fullmatch=True)
_phones = st.from_regex(r"\+1 (212|415|650) [2-9][0-9]{2} [0-9]{4}", fullmatch=True)


@settings(max_examples=40, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(_emails | _phones, min_size=1, max_size=12, unique=True))
def test_no_value_ever_appears_in_what_a_scan_returns(values):
    result = scan(
        {"contact": values, "note": [f"told {v} so" for v in values], "n": range(len(values))}
    )
    assert result.outcome.verdict is Verdict.FAIL
    told = everything(result)
    assert [v for v in values if v in told] == []


def test_a_file_without_a_header_leaks_none_through_its_column_names():
    result = scan({"ada@example.org": ["grace@example.org"], "n": [1]})
    assert kinds(result) == {("column 1", "EMAIL_ADDRESS")}
    assert "ada" not in everything(result)
    assert list(frames.column(mask(frames.wrap(pd.DataFrame({"ada@example.org": ["x@y.org"]})), result),
                              "ada@example.org")) == ["<EMAIL_ADDRESS>"]  # fmt: skip


# -- masking ---------------------------------------------------------------------------------


@pytest.mark.parametrize("library", [pd.DataFrame, pl.DataFrame, pa.table])
def test_masking_leaves_nothing_of_flagged_columns_and_all_of_others(library):
    emails = [f"u{i}@example.org" for i in range(700)]
    frame = frames.wrap(library({"mail": [*emails, None], "age": list(range(701))}))
    result = scan_frame(frame, source="t", rule=PIIRule(sample=50))
    masked = mask(frame, result)
    assert frames.column(masked, "mail") == ["<EMAIL_ADDRESS>"] * 700 + [None]
    assert frames.column(masked, "age") == list(range(701))
    assert type(frames.native(masked)) is type(frames.native(frame))


def test_masking_names_the_most_severe_kind_and_spares_declared_columns():
    frame = frames.wrap(pd.DataFrame({
        "both": many(lambda: f"u{digits(5)}@example.org") + many(ssn),
        "mail": many(lambda: f"u{digits(5)}@example.org", 120),
    }, index=range(7, 127)))  # fmt: skip
    result = scan_frame(frame, source="t", rule=PIIRule(), declared={"mail": ("EMAIL_ADDRESS",)})
    masked = mask(frame, result)
    assert set(frames.column(masked, "both")) == {"<US_SSN>"}
    assert frames.column(masked, "mail") == frames.column(frame, "mail")
    assert list(frames.native(masked).index) == list(range(7, 127))


def test_masking_another_frame_with_fewer_columns_masks_what_is_there():
    result = scan({"mail": ["a@example.org"], "ssn": ["536-22-1234"]})
    held = frames.wrap(pd.DataFrame({"ssn": ["219-09-9999"], "label": [1]}))
    assert frames.native(mask(held, result)).to_dict("list") == {"ssn": ["<US_SSN>"], "label": [1]}


def test_a_masked_frame_scans_clean():
    frame = frames.wrap(pd.DataFrame({"phone": many(phone), "first_name": ["Ada"] * 60}))
    rule = PIIRule()
    masked = mask(frame, scan_frame(frame, source="t", rule=rule))
    assert scan_frame(masked, source="t", rule=rule).outcome.verdict is Verdict.PASS


def test_a_detector_for_some_kinds_reports_those_alone():
    frame = {"a": ["ada@example.org"], "b": ["4111111111111111"]}
    assert kinds(scan(frame, detector=Detector.load(["CREDIT_CARD"]))) == {("b", "CREDIT_CARD")}
