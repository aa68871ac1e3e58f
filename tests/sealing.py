"""What an application sealed with a project's keys, and what its trail says."""

from compliance import Guard
from compliance.crypto.aead import Place


def told(cli):
    return cli("trail", "list").out


def seal_cells(project, subject="jane@example.com"):
    """Seal a value under a column's key and one under a subject's, as an application would."""
    guard = Guard(project)
    place = Place(guard.keys.tenant, "people", "iban")
    cells = [
        guard.keys.seal(guard.keys.column("people", "iban"), b"column", place),
        guard.keys.seal(guard.keys.subject("person", subject), b"subject", place),
    ]
    guard.store.close()
    return cells, place


def open_cell(project, cell, place):
    guard = Guard(project)
    try:
        return guard.keys.open_sealed(cell, place)
    finally:
        guard.store.close()
