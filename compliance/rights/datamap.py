"""The data map: drafted from a live schema, confirmed by people, checked against drift.

Meanings are inferred with a reason and only where a name is plain; what is not plain
has no meaning, and a plan that would have to know it refuses. Ask, never delete.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from compliance import store as stores
from compliance.findings import Finding, Place, Severity
from compliance.policy import Meaning, Store
from compliance.rights.connectors import schema
from compliance.rights.plan import Link
from compliance.rights.subject import normal_name

PERSONS = frozenset(
    [
        "account",
        "applicant",
        "author",
        "client",
        "contact",
        "customer",
        "employee",
        "guest",
        "member",
        "patient",
        "person",
        "staff",
        "student",
        "subscriber",
        "tenant",
        "user",
        "visitor",
    ]
)
_ACTED = re.compile(
    r"(^|_)(support_?rep|reports_?to|manager|supervisor|author|owner|agent|staff|assignee|reviewer|"
    r"approver|handler|rep|salesperson|[a-z]+ed_by)(_|$)"
)
_PERSONAL = frozenset(
    [
        "address",
        "birth",
        "birthday",
        "birthdate",
        "born",
        "city",
        "company",
        "dob",
        "email",
        "mail",
        "fax",
        "firstname",
        "lastname",
        "surname",
        "fullname",
        "iban",
        "ip",
        "latitude",
        "longitude",
        "mobile",
        "passport",
        "passwd",
        "password",
        "phone",
        "postal",
        "postalcode",
        "postcode",
        "ssn",
        "state",
        "street",
        "telephone",
        "username",
        "zip",
        "zipcode",
    ]
)
_NAMES = re.compile(r"(^|_)(first|last|full|middle|given|family|maiden|user|nick)_?name(_|$)")
_IDENTIFIERS = re.compile(r"(^|_)(e_?mail|ssn|passport|iban|user_?name|phone|mobile)(_|$)")


def words(name: str) -> str:
    """Return a name in lower snake case: SupportRepId is support_rep_id."""
    parts = re.sub(r"([a-z0-9])([A-Z])|([A-Z]+)([A-Z][a-z])", r"\1\3_\2\4", name)
    return re.sub(r"[^a-z0-9]+", "_", parts.lower()).strip("_")


def links(store: Store) -> tuple[Link, ...]:
    """Return the edges of a store's map."""
    return tuple(
        Link(*_end(edge.child), *_end(edge.parent), edge.meaning, edge.reason)
        for edge in store.edges
    )


def _end(text: str) -> tuple[str, tuple[str, ...]]:
    table, _, columns = text.rpartition(".")
    return table, tuple(column.strip() for column in columns.split(","))


def live_links(tables: schema.Tables) -> list[Link]:
    """Return the foreign keys of a database."""
    found = []
    for name in tables:
        for key in tables[name].foreign_key_constraints:
            columns = tuple(element.parent.name for element in key.elements)
            targets = [element.target_fullname.rpartition(".") for element in key.elements]
            found.append(Link(name, columns, targets[0][0], tuple(t[2] for t in targets)))
    return sorted(found, key=str)


# -- check -----------------------------------------------------------------------------


def check(store: Store, url: str) -> tuple[Finding, ...]:
    """Compare a map with the live schema; HIGH findings keep a plan from being made.

    Raises:
        StoreError: the database cannot be reached.
    """
    engine = schema.open_engine(url)
    try:
        with stores.translated(engine.url), engine.connect() as connection:
            tables = schema.Tables.reflect(connection, mapped_tables(store))
            return tuple(faults(store, tables, stores.describe(engine.url)))
    finally:
        engine.dispose()


def mapped_tables(store: Store) -> set[str]:
    """Return every table that a map names."""
    ends = {table for link in links(store) for table in (link.child, link.parent)}
    return ends | {s.table for s in store.subjects} | set(store.personal) | set(store.impersonal)


def faults(store: Store, tables: schema.Tables, source: str) -> Iterator[Finding]:
    """Yield what the map lacks or names wrongly."""
    yield from _missing(store, tables, source)
    yield from _unfit(store, tables, source)
    known = {link.ends for link in links(store) if link.meaning is not None}
    for link in {link.ends: link for link in (*live_links(tables), *links(store))}.values():
        if link.ends not in known and _matters(link, store, tables):
            message = f"{link} has no meaning; say in policies/ what it means: {', '.join(Meaning)}"
            place = Place(source, link.child, ",".join(link.child_columns))
            yield Finding("rights.datamap.edge", Severity.HIGH, message, place, "unknown_edge", 1)
    for name in sorted(set(tables) - mapped_tables(store)):
        message = f"{name} is not in the data map; link it, or list it as impersonal"
        yield Finding(
            "rights.datamap.table",
            Severity.MEDIUM,
            message,
            Place(source, name),
            "unmapped_table",
            1,
        )


def _missing(store: Store, tables: schema.Tables, source: str) -> Iterator[Finding]:
    for table, column in sorted(_mentioned(store)):
        if table in tables and (not column or column in tables[table].c):
            continue
        what = f"{table}.{column}" if table in tables else table
        message = f"the data map names {what}, which the store does not have"
        place = Place(source, table, column or None)
        yield Finding("rights.datamap.missing", Severity.HIGH, message, place, "missing", 1)


def _mentioned(store: Store) -> set[tuple[str, str]]:
    found = {(s.table, c) for s in store.subjects for c in (s.key, *s.identifiers)}
    for link in links(store):
        found |= {(link.child, c) for c in link.child_columns}
        found |= {(link.parent, c) for c in link.parent_columns}
    found |= {(table, c) for table, columns in store.personal.items() for c in columns}
    return found | {(table, "") for table in store.impersonal}


def _unfit(store: Store, tables: schema.Tables, source: str) -> Iterator[Finding]:
    """A column that links rows or is their key cannot be anonymised in place."""
    fixed = {(n, c) for n in tables for c in tables.key(n)}
    for link in (*live_links(tables), *links(store)):
        fixed |= {(link.child, c) for c in link.child_columns}
        fixed |= {(link.parent, c) for c in link.parent_columns}
    for table, columns in store.personal.items():
        for column in columns:
            if (table, column) in fixed:
                message = f"{table}.{column} is a key or a link; it cannot be listed as personal"
                place = Place(source, table, column)
                yield Finding("rights.datamap.personal", Severity.HIGH, message, place, "key", 1)


def _matters(link: Link, store: Store, tables: schema.Tables) -> bool:
    """An edge matters when one end may hold rows about a person and the other is not cleared."""
    near = _near(store, tables)
    cleared = set(store.impersonal)
    return (link.parent in near and link.child not in cleared) or (
        link.child in near and link.parent not in cleared
    )


def _near(store: Store, tables: schema.Tables) -> set[str]:
    """Return the tables that ownership, or an edge without a meaning, can reach from a person."""
    told = {link.ends: link for link in links(store)}
    edges = {link.ends: told.get(link.ends, link) for link in (*live_links(tables), *told.values())}
    near = {s.table for s in store.subjects}
    while True:
        more = {e.child for e in edges.values() if e.parent in near and _reaches(e)}
        more |= {
            e.parent
            for e in edges.values()
            if e.child in near and e.meaning is Meaning.EXCLUSIVE_PARENT
        }
        more -= set(store.impersonal)
        if more <= near:
            return near
        near |= more


def _reaches(link: Link) -> bool:
    return link.meaning in {Meaning.OWNED, None}


# -- discover ----------------------------------------------------------------------------


def discover(url: str) -> dict[str, Any]:
    """Return a draft of a store's map, as it stands in ``policies/``, for a person to confirm.

    Raises:
        StoreError: the database cannot be reached.
    """
    return draft(_reflected(url), url)


def unlisted(drafted: dict[str, Any], url: str) -> list[str]:
    """Return the tables that a draft leaves for people to decide about.

    Raises:
        StoreError: the database cannot be reached.
    """
    ends = {_end(edge[end])[0] for edge in drafted["edges"] for end in ("child", "parent")}
    subjects = {person["table"] for person in drafted["subjects"]}
    listed = ends | subjects | set(drafted["personal"]) | set(drafted["impersonal"])
    return [name for name in _reflected(url) if name not in listed]


def _reflected(url: str) -> schema.Tables:
    engine = schema.open_engine(url)
    try:
        with stores.translated(engine.url), engine.connect() as connection:
            return schema.Tables.reflect(connection)
    finally:
        engine.dispose()


def draft(tables: schema.Tables, url: str) -> dict[str, Any]:
    """Return the draft for reflected tables."""
    subjects = [name for name in tables if _is_person(tables, name)]
    meant: dict[Link, tuple[Meaning | None, str]] = {}
    owned = set(subjects)
    todo = live_links(tables)
    for _round in range(len(todo) + 1):  # what is owned may own in turn
        meant = {link: _infer(link, tables, todo, set(subjects), owned) for link in todo}
        more = {
            link.child for link, (meaning, _reason) in meant.items() if meaning is Meaning.OWNED
        }
        if more <= owned:
            break
        owned |= more
    linked = {table for link in meant for table in (link.child, link.parent)} & owned
    drafted = [link for link in todo if link.child in owned or link.parent in owned]
    known = owned | {table for link in drafted for table in (link.child, link.parent)}
    return {
        "url": url,
        "subjects": [_subject(tables, name) for name in subjects],
        "edges": [_edge(link, *meant[link]) for link in drafted],
        "personal": {n: c for n in sorted(owned | linked) if (c := personal_columns(tables, n))},
        "impersonal": [n for n in tables if n not in known and _holds_nobody(tables, n)],
    }


def _holds_nobody(tables: schema.Tables, name: str) -> bool:
    """Return whether no column can hold a text, or names a person: else people must look."""
    return not _named_person(name) and not any(
        schema.holds_text(column)
        or schema.is_binary(column)
        or _is_personal(column.name)
        or _ACTED.search(words(column.name))
        or any(map(_named_person, words(column.name).split("_")))
        for column in tables[name].columns
    )


def _is_person(tables: schema.Tables, name: str) -> bool:
    return _named_person(name) and bool(tables.key(name)) and bool(personal_columns(tables, name))


def _named_person(table: str) -> bool:
    last = words(table).split("_")[-1]
    return bool({last, last.removesuffix("s"), last.removesuffix("es")} & PERSONS)


def personal_columns(tables: schema.Tables, name: str) -> list[str]:
    """Return the columns whose names say that they hold something about a person."""
    keys = set(tables.key(name)) | {key.parent.name for key in tables[name].foreign_keys}
    bare = {"name"} if _named_person(name) else set()
    return [
        c.name
        for c in tables[name].columns
        if c.name not in keys and (_is_personal(c.name) or words(c.name) in bare)
    ]


def _is_personal(column: str) -> bool:
    name = words(column)
    return bool(_NAMES.search(name)) or bool(set(name.split("_")) & _PERSONAL)


def _subject(tables: schema.Tables, name: str) -> dict[str, Any]:
    key = tables.key(name)[0]
    known = [c.name for c in tables[name].columns if _IDENTIFIERS.search(words(c.name))]
    email = [c for c in known if "mail" in normal_name(c)]
    return {"table": name, "key": key, "identifiers": [*(email or known[:1]), key]}


def _edge(link: Link, meaning: Meaning | None, reason: str) -> dict[str, Any]:
    child = f"{link.child}.{','.join(link.child_columns)}"
    parent = f"{link.parent}.{','.join(link.parent_columns)}"
    return {
        "child": child,
        "parent": parent,
        "meaning": meaning and meaning.value,
        "reason": reason,
    }


def _infer(
    link: Link, tables: schema.Tables, others: list[Link], subjects: set[str], owned: set[str]
) -> tuple[Meaning | None, str]:
    column = words(link.child_columns[0])
    if link.parent not in owned:
        return _infer_outward(link, tables)
    if _ACTED.search(column):
        return Meaning.ACTED, f"the name {link.child_columns[0]} says that the person acted"
    if link.child == link.parent:
        return None, "a table that refers to itself: say whether the row belongs to the other"
    doubts = {
        "may be NULL: say whether the row is about the person": any(
            tables[link.child].c[c].nullable for c in link.child_columns
        ),
        "the name says nothing: say what the link means": not _names_parent(column, link.parent),
        "the row hangs on two persons: say whose it is": link.parent in subjects
        and _hangs_on_another(link, others, subjects),
    }
    doubt = next((text for text, holds in doubts.items() if holds), None)
    if doubt:
        return None, doubt
    return Meaning.OWNED, f"NOT NULL and named after {link.parent}"


def _hangs_on_another(link: Link, others: list[Link], subjects: set[str]) -> bool:
    return any(
        other.child == link.child
        and other.parent in subjects
        and other.ends != link.ends
        and not _ACTED.search(words(other.child_columns[0]))
        for other in others
    )


def _infer_outward(link: Link, tables: schema.Tables) -> tuple[Meaning | None, str]:
    if link.parent in tables and personal_columns(tables, link.parent):
        return (
            None,
            f"{link.parent} has personal columns: exclusive_parent if nobody else uses the row",
        )
    return Meaning.SHARED, f"{link.parent} holds nothing about the person"


def _names_parent(column: str, parent: str) -> bool:
    bare = re.sub(r"_?(id|no|number|key|code|nr)$", "", column).replace("_", "")
    name = words(parent.rpartition(".")[2]).replace("_", "")
    return bool(bare) and (
        bare in {name, name.removesuffix("s"), name.removesuffix("es")} or bare == name[:-3] + "y"
    )
