"""What counts as evidence for each kind of personal data: one table.

Presidio says where a pattern matches; this table says when a match means that a
column holds personal data. Driver licences, bank accounts and nine-digit numbers
match half the columns of any warehouse, so such *weak* kinds count only next to
words that name them: in the header, or in the text before the match. Kinds with a
checksum or a structure of their own (*strict*) stand by themselves, and where
chance passes a tenth of random numbers, a column must pass far more often.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from compliance.findings import Severity

SUPPRESSORS = frozenset({"DATE_TIME", "UUID"})  # never reported; what they cover is nothing else
STRICT_SCORE = 0.95
CONTEXT_SCORE = 0.75
MOST = 0.5
_ANY = re.compile(r".+", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Kind:
    """How one kind is recognised in columns, and how much it matters.

    Attributes:
        severity: of a finding.
        words: phrases of whole words that name the kind in a header or before a match.
        strict: a match of this form stands by itself; None: never.
        score: of a strict match, where Presidio's own is lower.
        chance: the share of random candidates that pass; 0 where chance plays no part.
        candidate: the form of the cells that chance is measured on.
        form: the whole cells under a header that names the kind; None: Presidio's match decides.
        detected: Presidio has a recognizer for it; else the header alone speaks for it.
    """

    severity: Severity
    words: tuple[str, ...] = ()
    strict: re.Pattern[str] | None = None
    score: float = STRICT_SCORE
    chance: float = 0.0
    candidate: re.Pattern[str] | None = None
    form: re.Pattern[str] | None = None
    detected: bool = True


@dataclass(frozen=True, slots=True)
class Form:
    """What the cells of a column look like whose header names a kind.

    Attributes:
        pattern: matches the whole cell; None: Presidio's match must cover the cell.
        least: the share of cells that must have the form.
    """

    pattern: re.Pattern[str] | None
    least: float = MOST


# Three groups or more, a bracketed area code, a trunk zero, or a leading plus.
_PHONE = re.compile(
    r"\+\d[\d ().\-/]{6,20}|\(0?\d{2,4}\) ?\d{2,4}[ .\-]?\d{3,5}(?:[ .\-]\d{1,4})?.*"
    r"|\d{1,5}(?:[ .\-]+\d{2,5}){2,5}(?: ?(?:x|ext\.?) ?\d+)?|0\d{2,4}[ /\-]\d{5,8}"
)
_PHONE_CELL = re.compile(
    r"(?=(?:\D*\d){7,20}\D*$)[+(\d][\d ().\-/]*(?: ?(?:x|ext\.?) ?\d{1,6})?", re.IGNORECASE
)
_PLAIN_PHONE = re.compile(r"(?<![\w.:/+\-])\(?\d{1,5}\)?(?:[ .\-]+\d{2,5}){2,5}(?![\w\-])")
_CARD = re.compile(r"(?<!\d)\d(?:[ \-]?\d){12,18}(?!\d)")
_SSN = re.compile(r"\d{3}([- .])\d{2}\1\d{4}")
_ADDRESS = re.compile(r"(?=.*\d)(?=.*[^\W\d_]).*\S[ ,]+\S.*", re.DOTALL)
_DATE = re.compile(r"\d{1,4}[-/. ]\w{1,9}[-/. ]\d{1,4}.*|(?:19|20)\d{6}")
_NAME = re.compile(r"(?=.*[^\W\d_])[^\d_@/\\|<>{}\[\]=;:#*?!+%$]{2,80}")
_FULL_NAME = re.compile(r"[^\W\d_a-z][\w'\u2019.\-]*(?:,? [^\W\d_a-z][\w'\u2019.\-]*){1,3}")
_SECRET = re.compile(r"\S{4,}")

KINDS: dict[str, Kind] = {
    "CREDENTIAL": Kind(
        Severity.CRITICAL,
        words=("password", "passwd", "passphrase", "pwd", "api key", "apikey", "secret key",
               "private key", "access token", "client secret"),
        form=_SECRET, detected=False,
    ),
    "CREDIT_CARD": Kind(
        Severity.CRITICAL, strict=_ANY, score=1.0, chance=0.1, candidate=_CARD,
        words=("credit card", "card number", "card no", "cardnumber", "creditcard", "card",
               "ccn", "cc number", "visa", "mastercard", "amex"),
    ),
    "IBAN_CODE": Kind(Severity.CRITICAL, words=("iban",), strict=_ANY, score=1.0),
    "US_SSN": Kind(
        Severity.CRITICAL, strict=_SSN, score=0.85,
        words=("ssn", "ssns", "social security", "socialsecurity", "soc sec"),
        form=re.compile(r"\d{3}[- .]?\d{2}[- .]?\d{4}|\d{7,8}"),
    ),
    "CRYPTO": Kind(Severity.HIGH, words=("wallet", "bitcoin", "btc"), strict=_ANY),
    "EMAIL_ADDRESS": Kind(
        Severity.HIGH, words=("email", "e mail", "mail", "emailaddress"), strict=_ANY, score=1.0,
        form=re.compile(r"[^@\s]+@[^@\s]+"),
    ),
    "MEDICAL_LICENSE": Kind(Severity.HIGH, words=("dea", "medical license", "medical licence")),
    "PHONE_NUMBER": Kind(
        Severity.HIGH, strict=_PHONE, score=CONTEXT_SCORE, chance=0.15, candidate=_PLAIN_PHONE,
        words=("phone", "phones", "telephone", "tel", "mobile", "cell", "cellphone", "fax",
               "whatsapp", "msisdn", "phonenumber", "contact number", "contact no", "call",
               "telefon", "handy", "telefono", "portable"),
        form=_PHONE_CELL,
    ),
    "UK_NHS": Kind(Severity.HIGH, words=("nhs", "national health service")),
    "US_BANK_NUMBER": Kind(
        Severity.HIGH,
        words=("bank account", "account number", "account no", "accountnumber", "acct",
               "acct number", "acct no", "routing number"),
    ),
    "US_DRIVER_LICENSE": Kind(
        Severity.HIGH,
        words=("driver license", "driver licence", "drivers license", "drivers licence",
               "driver s license", "driver s licence", "driving license", "driving licence",
               "dl number", "dl no", "license number", "licence number", "license no",
               "licence no", "license", "licence"),
    ),
    "US_ITIN": Kind(Severity.HIGH, words=("itin", "tax id", "taxid", "tin", "taxpayer")),
    "US_PASSPORT": Kind(Severity.HIGH, words=("passport",)),
    "DATE_OF_BIRTH": Kind(
        Severity.MEDIUM, words=("dob", "birth date", "birthdate", "date of birth", "birthday",
                                "dateofbirth", "born"),
        form=_DATE, detected=False,
    ),
    "IP_ADDRESS": Kind(
        Severity.MEDIUM, words=("ip", "ipv4", "ipv6", "ip address"),
        strict=re.compile(r"(?=.*\d).{6,}"),
    ),
    "LOCATION": Kind(
        Severity.MEDIUM, words=("address", "addresses", "street", "addr", "address1", "address2",
                                "streetaddress", "residence"),
        form=_ADDRESS, detected=False,
    ),
    "MAC_ADDRESS": Kind(Severity.MEDIUM, words=("mac", "mac address"), strict=_ANY),
    "PERSON": Kind(Severity.MEDIUM, form=_NAME, detected=False),
    "URL": Kind(
        Severity.MEDIUM,
        words=("homepage", "home page", "personal website", "profile", "linkedin", "twitter",
               "facebook", "instagram", "github", "blog"),
    ),
}  # fmt: skip

# Words of a header that speak of something about the thing, not of the thing itself.
_ABOUT = frozenset({
    "id", "ids", "count", "type", "status", "model", "duration", "flag", "is", "has", "verified",
    "valid", "length", "len", "brand", "plan", "carrier", "hash", "version", "minutes", "opt",
    "price", "fee", "limit", "balance", "expiry", "expires", "rate", "total", "score", "seconds",
})  # fmt: skip
_NOT_STREET = frozenset({"email", "mail", "ip", "mac", "web", "url", "wallet", "bitcoin", "memory"})

_PEOPLE = frozenset({
    "account", "agent", "applicant", "attorney", "author", "beneficiary", "borrower", "buyer",
    "candidate", "cardholder", "child", "citizen", "client", "contact", "customer", "defendant",
    "doctor", "driver", "emergency", "employee", "employees", "father", "guardian", "guest",
    "holder", "judge", "lead", "legal", "manager", "member", "mother", "nurse", "owner", "parent",
    "partner", "passenger", "patient", "payee", "payer", "person", "people", "plaintiff",
    "player", "recipient", "resident", "reviewer", "seller", "sender", "signatory", "signer",
    "spouse", "staff", "student", "subject", "teacher", "tenant", "user", "victim", "witness",
    "worker",
})  # fmt: skip
_GIVEN = frozenset({"first", "last", "full", "given", "family", "middle", "maiden", "birth",
                    "preferred", "legal", "real", "nick"})  # fmt: skip
_NAMES = frozenset({
    "firstname", "lastname", "fullname", "surname", "forename", "fname", "lname", "givenname",
    "familyname", "middlename", "maidenname", "vorname", "nachname", "prenom", "apellido",
    "apellidos", "cardholder", "customername", "personname", "employeename",
})  # fmt: skip

_WORDS = re.compile(r"\d+|[^\W\d_]+")
_HUMPS = re.compile(r"(?<=[a-z])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")


def words_of(text: str) -> tuple[str, ...]:
    """Split a header or text into lower-case words: camelCase, snake_case, kebab-case."""
    return tuple(word.lower() for word in _WORDS.findall(_HUMPS.sub(" ", text)))


def names(kind: Kind, words: Iterable[str]) -> bool:
    """Say whether these words hold one of the kind's phrases, word by word."""
    line = f" {' '.join(words)} "
    return any(f" {phrase} " in line for phrase in kind.words)


def spoken(header: str, table: str = "") -> dict[str, Form]:
    """Return the kinds that a header names, each with the form its cells must have."""
    words = words_of(header)
    if not _ABOUT.isdisjoint(words) and not _names_id(words):
        return {}
    found = {name: Form(kind.form) for name, kind in KINDS.items() if names(kind, words)}
    if not _NOT_STREET.isdisjoint(words):
        found.pop("LOCATION", None)
    if form := _person(words, words_of(table)):
        found["PERSON"] = form
    return found


def _names_id(words: tuple[str, ...]) -> bool:
    """A tax id is a value of its own, not something about one."""
    return "tax id" in " ".join(words)


def _person(words: tuple[str, ...], table: tuple[str, ...]) -> Form | None:
    """Return the form of names under this header; None where it speaks of no person.

    A bare ``name`` may be that of a product: unless the table is one of people, nearly
    all of its cells must look like full names.
    """
    if not _NAMES.isdisjoint(words):
        return Form(_NAME)
    if not {"name", "names"} & set(words):
        return None
    rest = {w for w in words if not w.isdigit()} - {"name", "names"}
    if rest:
        return Form(_NAME) if rest <= _PEOPLE | _GIVEN | {"of"} else None
    return Form(_NAME) if _about_people(table) else Form(_FULL_NAME, 0.8)


def _about_people(table: tuple[str, ...]) -> bool:
    singular = {word.removesuffix("s") for word in table} | set(table)
    return not singular.isdisjoint(_PEOPLE)


def bounded(text: str, start: int) -> bool:
    """Say whether a number begins here, and is not the tail of a code, a UUID or a time."""
    return re.search(r"(?:^|[^\w\-./:+]|[^\d]:)$", text[:start]) is not None


def beyond_chance(passed: int, tried: int, chance: float) -> bool:
    """Say whether candidates pass a check far more often than random ones would.

    Either most of them pass, or Wilson's lower bound at three standard errors lies
    above twice the chance (Wilson 1927).
    """
    if tried == 0 or chance == 0:
        return True
    rate, z2 = passed / tried, 9.0
    centre = rate + z2 / (2 * tried)
    spread = 3 * ((rate * (1 - rate) + z2 / (4 * tried)) / tried) ** 0.5
    return rate > MOST or (centre - spread) / (1 + z2 / tried) > 2 * chance
