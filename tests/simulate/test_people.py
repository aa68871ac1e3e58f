"""Nobody at the simulated bank exists or can be reached."""

import json
import re

from hypothesis import given
from hypothesis import strategies as st

from compliance.simulate import people


def test_only_reserved_mail_domains_and_fictional_telephones(bank, stored):
    database = json.dumps(stored(bank.url), default=str, ensure_ascii=False)
    files = [path.read_text(encoding="utf-8") for path in (bank.folder / "exports").glob("*.csv")]
    text = "\n".join([database, *files])
    assert set(re.findall(r"@([\w.-]+\w)", text)) == {"example.com", "example.org", "example.net"}
    phones = re.findall(r"\+\d[\d -]{6,}\d", text)
    assert len(phones) > 2000
    assert all(re.fullmatch(r"\+1 [2-4]\d\d-555-01\d\d", phone) for phone in phones)


def test_mail_addresses_are_plain_and_unique(built):
    for table in ("customer", "staff"):
        emails = [row["email"] for row in built[table]]
        assert len(set(emails)) == len(emails)
        assert all(re.fullmatch(r"[a-z]+\.[a-z]+\d*@example\.(com|org|net)", e) for e in emails)


def test_namesakes_exist_and_are_told_apart(built):
    names = [c["name"] for c in built["customer"]]
    assert len(set(names)) < len(names)


def test_telephones_are_unique_as_far_as_fiction_reaches(built):
    phones = [c["phone"] for c in built["customer"] if c["phone"]]
    assert len(set(phones)) == len(phones)
    assert len(phones) < 2000, "some customers gave none"


def remainder(iban):
    """ISO 13616: first four characters to the end, letters as 10 to 35, modulo 97."""
    return int("".join(str(int(c, 36)) for c in iban[4:] + iban[:4])) % 97


@given(st.integers(0, 10**10 - 1))
def test_iban_checksums_hold_and_catch_a_changed_digit(account):
    iban = people.iban(account)
    assert re.fullmatch(r"DE\d{2}9\d{7}\d{10}", iban)
    assert remainder(iban) == 1
    changed = iban[:-1] + str((int(iban[-1]) + 1) % 10)
    assert remainder(changed) != 1


def test_accounts_are_valid_and_unique(built):
    accounts = [c["iban"] for c in built["customer"]]
    assert len(set(accounts)) == len(accounts)
    assert {remainder(iban) for iban in accounts} == {1}


def test_the_word_lists_are_large_and_free_of_repeats():
    assert len(set(people.WOMEN) | set(people.MEN)) == len(people.WOMEN) + len(people.MEN) >= 60
    assert len(set(people.SURNAMES)) == len(people.SURNAMES) >= 60
    assert len(set(people.AREA_CODES)) == len(people.AREA_CODES) == 100
