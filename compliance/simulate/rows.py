"""What happens at the simulated bank: every row, drawn from one seed.

Each table draws from a stream of its own, so that a change to one leaves the others.
"""

from __future__ import annotations

import datetime as dt
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from random import Random
from typing import Any, TypeVar

from compliance.errors import InputError
from compliance.simulate import people

T = TypeVar("T")
Row = dict[str, Any]
Rows = dict[str, list[Row]]

MOST_CUSTOMERS = 1_000_000
FIRST_DAY, LAST_DAY = dt.date(2025, 7, 1), dt.date(2026, 6, 30)

BOUNDS = {
    "age": (18, 75),
    "income": (10_000, 120_000),
    "debt": (0, 60_000),
    "amount": (1_000, 40_000),
    "years_employed": (0, 40),
}
"""Least and greatest value that a field of an application can take.

They are public knowledge (the form enforces them) and not read off the data, so a
differentially private training may scale by them without spending budget.
"""

NO_CONSENT = 0.04
OBJECTION = 0.01
PURPOSES_OF_LOANS = (
    "used car", "kitchen renovation", "new roof", "wedding", "tuition fees", "moving costs",
    "medical bill", "solar panels", "opening a bakery", "consolidating two older loans",
)  # fmt: skip
REFERENCES = (
    "rent",
    "groceries",
    "invoice {number}",
    "insurance",
    "gift",
    "Thank you, {name}",
    "for {name}",
)
NOTES = (
    "Called {name} on {phone}, no answer. Will try again next week.",
    "{name} asks that statements go to {email} from now on.",
    "Customer moved to {street}, {city}. Confirmed by phone ({phone}).",
    "{name} disputes a card payment; sent the form to {email}.",
    "Branch visit: {name} showed a passport, born {birth_date}.",
    "New account {iban} opened for {name}.",
    "Customer satisfied with the answer, case closed.",
    "Reminder sent, waiting for the documents.",
)


@dataclass(frozen=True, slots=True)
class Recipe:
    """What determines every row.

    Attributes:
        customers: how many; 1 to a million.
        seed: equal recipes give equal rows.
        bias: how much lower, in log-odds of repaying, women's income and years of
            employment put them on average. Sex itself never enters the law: a model
            that never sees it discriminates through the proxies all the same.
        applications_each: applications of each customer.
    """

    customers: int = 2000
    seed: int = 7
    bias: float = 0.0
    applications_each: int = 1

    def __post_init__(self) -> None:
        if not 1 <= self.customers <= MOST_CUSTOMERS:
            raise InputError(f"customers must be 1 to {MOST_CUSTOMERS:,}, got {self.customers}")
        if self.applications_each < 1:
            raise InputError(f"applications_each must be 1 or more, got {self.applications_each}")
        if not 0 <= self.bias <= 10:  # noqa: PLR2004  far beyond any effect ever measured
            raise InputError(f"bias must be 0 to 10 log-odds, got {self.bias}")

    def stream(self, name: str) -> Random:
        """Return the random numbers of one table."""
        return Random(f"{self.seed}/{name}")  # noqa: S311  a simulation: repeatable on purpose


def build(recipe: Recipe) -> Rows:
    """Return the rows of every table, by table name, parents before children."""
    customers = list(_customers(recipe))
    staff = list(_staff(recipe))
    applications = list(_applications(recipe, customers, staff))
    return {
        "staff": staff,
        "customer": customers,
        "application": applications,
        "payment": list(_payments(recipe, customers)),
        "note": list(_notes(recipe, customers, staff)),
        "consent_record": list(_consents(recipe, customers)),
        "decision": list(_decisions(recipe, applications, staff)),
    }


def score(application: Row) -> float:
    """Return the log-odds of repaying: the law behind ``repaid``, linear in four fields."""
    return float(
        1.1
        + 1.1 * (application["income"] - 42_000) / 10_000
        - 1.2 * (application["debt"] - 14_000) / 10_000
        + 0.12 * (application["years_employed"] - 8)
        - 0.3 * (application["amount"] - 12_000) / 10_000
    )


def chance(log_odds: float) -> float:
    """Return the probability that log-odds stand for (logistic function)."""
    return 1 / (1 + math.exp(-log_odds))


def age_on(birth: dt.date, day: dt.date) -> int:
    """Return the age in full years."""
    return day.year - birth.year - ((day.month, day.day) < (birth.month, birth.day))


def day_between(rng: Random, first: dt.date, last: dt.date) -> dt.date:
    """Return a day, both ends included."""
    return first + dt.timedelta(days=rng.randrange((last - first).days + 1))


def _customers(recipe: Recipe) -> Iterator[Row]:
    rng = recipe.stream("customer")
    for number, person in enumerate(people.customers(rng, recipe.customers), 1):
        row = {field: getattr(person, field) for field in person.__slots__}
        yield {"customer_id": number} | row | {"phone": _maybe(rng, 0.97, person.phone)}


def _staff(recipe: Recipe) -> Iterator[Row]:
    """Yield employees; the first has no manager, the others one who was hired before."""
    rng = recipe.stream("staff")
    count = max(5, recipe.customers // 100)
    for number, (name, email) in enumerate(people.staff(rng, count), 1):
        manager = None if number == 1 else rng.randrange(1, number // 2 + 1)
        yield {"staff_id": number, "name": name, "email": email, "manager_id": manager}


def _applications(recipe: Recipe, customers: list[Row], staff: list[Row]) -> Iterator[Row]:
    rng = recipe.stream("application")
    applicants = [c for _ in range(recipe.applications_each) for c in customers]
    for number, customer in enumerate(applicants, 1):
        day = day_between(rng, FIRST_DAY, LAST_DAY)
        shift = recipe.bias if customer["sex"] == "F" else 0.0
        row = {
            "application_id": number,
            "customer_id": customer["customer_id"],
            "staff_id": _maybe(rng, 0.95, rng.choice(staff)["staff_id"]),
            **_finances(rng, age_on(customer["birth_date"], day), shift),
            "purpose_text": _maybe(rng, 0.9, rng.choice(PURPOSES_OF_LOANS)),
            "submitted_on": day,
        }
        yield row | {"repaid": int(rng.random() < chance(score(row)))}


def _finances(rng: Random, age: int, shift: float) -> Row:
    """Draw what the applicant states; of ``shift`` income bears three parts, years one."""
    years = min(age - 16, rng.expovariate(1 / 9)) - 0.25 * shift / 0.12
    income = rng.lognormvariate(math.log(38_000), 0.35) + 300 * years - 0.75 * shift / 1.1 * 10_000
    return {
        "age": age,
        "income": _bounded("income", round(income, -2)),
        "debt": _bounded("debt", round(rng.gammavariate(1.6, 9_000), -2)),
        "amount": _bounded("amount", round(rng.gammavariate(3, 4_000), -2)),
        "years_employed": round(min(max(years, 0.0), 40.0), 1),
    }


def _bounded(name: str, value: float) -> int:
    least, most = BOUNDS[name]
    return int(min(max(value, least), most))


def _payments(recipe: Recipe, customers: list[Row]) -> Iterator[Row]:
    rng = recipe.stream("payment")
    for number in range(1, 3 * len(customers) + 1):
        payer, other = rng.choice(customers), rng.choice(customers)
        known = other is not payer and rng.random() < 0.4  # noqa: PLR2004  two in five stay in the bank
        yield {
            "payment_id": number,
            "customer_id": payer["customer_id"],
            "counterparty_customer_id": other["customer_id"] if known else None,
            "amount": round(rng.lognormvariate(4, 1), 2),
            "paid_on": day_between(rng, FIRST_DAY, LAST_DAY),
            "reference": _reference(rng, other["name"] if known else None),
        }


def _reference(rng: Random, name: str | None) -> str | None:
    """Return what the payer wrote; a name only where the counterparty is a customer."""
    texts = REFERENCES if name else REFERENCES[:-2]
    return _maybe(rng, 0.9, rng.choice(texts).format(name=name, number=rng.randrange(1000, 9999)))


def _notes(recipe: Recipe, customers: list[Row], staff: list[Row]) -> Iterator[Row]:
    rng = recipe.stream("note")
    for number in range(1, max(1, recipe.customers // 2) + 1):
        customer = rng.choice(customers)
        known = customer | {"phone": customer["phone"] or "the branch's line"}
        yield {
            "note_id": number,
            "customer_id": customer["customer_id"],
            "staff_id": rng.choice(staff)["staff_id"],
            "body": rng.choice(NOTES).format_map(known),
        }


def _consents(recipe: Recipe, customers: Sequence[Row]) -> Iterator[Row]:
    """Yield every customer's choice on credit scoring, and the few objections to fraud checks."""
    rng = recipe.stream("consent")
    for customer in customers:
        day = day_between(rng, dt.date(2025, 1, 1), FIRST_DAY)
        row = {"customer_id": customer["customer_id"], "recorded_on": day}
        yield row | {"purpose": "credit-scoring", "given": rng.random() >= NO_CONSENT}
        if rng.random() < OBJECTION:
            yield row | {"purpose": "fraud-prevention", "given": False}


def _decisions(recipe: Recipe, applications: list[Row], staff: list[Row]) -> Iterator[Row]:
    """Yield decisions on nine applications of ten; a third were taken by the machine alone."""
    rng = recipe.stream("decision")
    decided = [a for a in applications if rng.random() < 0.9]  # noqa: PLR2004  the docstring says it
    for number, application in enumerate(decided, 1):
        yield {
            "decision_id": number,
            "application_id": application["application_id"],
            "outcome": "approved" if judged_good(rng, application) else "declined",
            "decided_on": application["submitted_on"] + dt.timedelta(days=rng.randrange(1, 15)),
            "staff_id": _maybe(rng, 2 / 3, rng.choice(staff)["staff_id"]),
        }


def judged_good(rng: Random, application: Row) -> bool:
    """Say what a fair but imperfect judge of the law thinks of an application."""
    return score(application) + rng.gauss(0, 0.5) > 0


def _maybe(rng: Random, share: float, value: T) -> T | None:
    """Return the value in this share of cases, else None."""
    return value if rng.random() < share else None
