"""People who do not exist: names, addresses, e-mail, telephone and bank accounts.

E-mail uses the domains of RFC 2606, telephones the numbers 555-0100 to 555-0199 that
the North American Numbering Plan keeps for fiction, device addresses the blocks of
RFC 5737, and bank accounts a bank code that no bank has (German codes never start
with 9) under a correct checksum: tools that validate accept them, and they reach nobody.
"""

from __future__ import annotations

import datetime as dt
import itertools
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from random import Random


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


WOMEN = _words(
    "Ada Agnes Alice Amara Anna Astrid Beatrice Bianca Camille Carla Chloé Clara Daria Deborah "
    "Elena Emma Esther Fatima Fiona Freya Grace Greta Hannah Helena Ingrid Irene Isabel Jana "
    "Joan Julia Kavita Laura Leila Lucía Mariam Martha Mei Nadia Nora Olga Priya Rosa Sofia "
    "Tamara Ursula Vera Wanda Yasmin Zoë"
)
MEN = _words(
    "Aaron Adrian Ahmed Albert Anton Benjamin Boris Carlos Daniel David Dmitri Edgar Emil Erik "
    "Felix Francis François George Hassan Henry Hugo Igor Ivan Jakob James Jonas José Karl "
    "Kenji Leon Lucas Marco Martin Matteo Mohamed Nikolai Oliver Oscar Patrick Pavel Peter "
    "Rafael Rajesh Robert Samuel Stefan Thomas Victor Walter"
)
SURNAMES = _words(
    "Abbott Adler Ahmad Almeida Andersen Bakker Barnes Bauer Becker Bennett Bergström Bianchi "
    "Brennan Carlsen Castillo Chen Clarke Costa Dawson Delacroix Diaz Dubois Eriksen Evans "
    "Farkas Ferrari Fischer Fontaine Garcia Gupta Haddad Hansen Hartmann Herrera Hoffmann Horvat "
    "Hughes Ibrahim Ivanova Jansen Jensen Kaplan Keller Khan Kovács Kumar Lambert Larsson Leroy "
    "Lindqvist Lopez Marino Martens Mehta Meyer Moreau Müller Nakamura Novak O'Brien O'Connor "
    "Okafor Olsen Papadakis Patel Pereira Petrov Quinn Ramos Richter Rossi Santos Sato Schmidt "
    "Silva Singh Sørensen Tanaka Torres Urban Vargas Vogel Walsh Weber Wójcik Young Zimmermann"
)
STREETS = _words(
    "Acorn Alder Amber Anchor Beacon Birch Bramble Bridge Chapel Cherry Copper Harbour Hazel "
    "Juniper Lantern Linden Maple Meadow Mill Orchard Poplar Quarry Rowan Saddler Spring "
    "Station Tanner Thistle Weaver Willow"
)
CITIES = _words(
    "Alderhaven Ambermouth Ashcombe Birkwater Brackenford Coldbrook Dunmere Eastvale Elmstead "
    "Fernholt Glasswick Greyford Hawkstow Ironbridge-on-Lea Kestrelton Larkfield Marshgate "
    "Millhaven Northmere Oakhollow Pinecrest Ravenscombe Silverstrand Stonebeck Thornbury-Vale "
    "Umberleigh-Cross Westhythe Willowdale Wrenfield Yarrowby"
)
AREA_CODES = _words(
    "201 202 203 205 206 207 208 209 210 212 213 214 215 216 217 218 219 224 225 228 229 231 234 "
    "239 240 248 251 252 253 254 256 260 262 267 269 270 276 281 301 302 303 304 305 307 308 309 "
    "310 312 313 314 315 316 317 318 319 320 321 323 325 330 334 336 337 339 347 351 352 360 361 "
    "386 401 402 404 405 406 407 408 409 410 412 413 414 415 417 419 423 424 425 430 432 434 435 "
    "440 443 458 469 470 475 478 479"
)
CUSTOMER_DOMAINS = ("example.org", "example.net")
STAFF_DOMAIN = "example.com"
BANK_CODE = "90000000"
DEVICE_BLOCKS = ("192.0.2", "198.51.100", "203.0.113")
OLDEST, YOUNGEST = dt.date(1950, 7, 2), dt.date(2007, 6, 30)


@dataclass(frozen=True, slots=True)
class Person:
    """Somebody invented, with all that a bank asks of a customer; ``sex`` is F or M."""

    name: str
    sex: str
    email: str
    phone: str
    birth_date: dt.date
    street: str
    city: str
    postcode: str
    iban: str


def customers(rng: Random, count: int) -> Iterator[Person]:
    """Yield customers; e-mail and account are unique, telephones up to ten thousand people."""
    phones = itertools.cycle(rng.sample(range(len(AREA_CODES) * 100), len(AREA_CODES) * 100))
    taken: set[str] = set()
    for account, number in zip(rng.sample(range(10**10), count), phones, strict=False):
        sex, name = _sex_and_name(rng)
        yield Person(
            name=name,
            sex=sex,
            email=_email(name, rng.choice(CUSTOMER_DOMAINS), taken),
            phone=_phone(number),
            birth_date=OLDEST + dt.timedelta(days=rng.randrange((YOUNGEST - OLDEST).days + 1)),
            street=f"{rng.randrange(1, 200)} {rng.choice(STREETS)} Street",
            city=rng.choice(CITIES),
            postcode=f"{rng.randrange(10_000, 100_000)}",
            iban=iban(account),
        )


def staff(rng: Random, count: int) -> Iterator[tuple[str, str]]:
    """Yield the name and the unique e-mail address of employees."""
    taken: set[str] = set()
    for _ in range(count):
        _, name = _sex_and_name(rng)
        yield name, _email(name, STAFF_DOMAIN, taken)


def iban(account: int) -> str:
    """Return the German-format IBAN of a ten-digit account at the bank that does not exist.

    Check digits by ISO 13616: with the country (D=13, E=14) behind, the number is 1 mod 97.
    """
    bban = f"{BANK_CODE}{account:010d}"
    check = 98 - int(f"{bban}131400") % 97
    return f"DE{check:02d}{bban}"


def device_ip(rng: Random) -> str:
    """Return an address of the documentation blocks (RFC 5737)."""
    return f"{rng.choice(DEVICE_BLOCKS)}.{rng.randrange(1, 255)}"


def _sex_and_name(rng: Random) -> tuple[str, str]:
    sex, forenames = rng.choice((("F", WOMEN), ("M", MEN)))
    return sex, f"{rng.choice(forenames)} {rng.choice(SURNAMES)}"


def _phone(number: int) -> str:
    area, line = divmod(number, 100)
    return f"+1 {AREA_CODES[area]}-555-01{line:02d}"


def _email(name: str, domain: str, taken: set[str]) -> str:
    """Return first.last@domain, numbered where a namesake came first."""
    plain = unicodedata.normalize("NFKD", name.lower().replace("ø", "o"))
    local = "".join(c for c in plain.replace(" ", ".") if c == "." or (c.isascii() and c.isalpha()))
    numbered = (f"{local}{n}@{domain}" for n in itertools.count(2))
    address = next(a for a in itertools.chain((f"{local}@{domain}",), numbered) if a not in taken)
    taken.add(address)
    return address
