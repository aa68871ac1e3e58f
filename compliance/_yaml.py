"""YAML into frozen models, with errors that name file, line and the nearest valid key."""

from __future__ import annotations

import difflib
import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar, get_args

import yaml
from pydantic import BaseModel, ValidationError

from compliance.errors import PolicyError

Model = TypeVar("Model", bound=BaseModel)
MAX_BYTES = 4 * 2**20
MAX_DEPTH = 50


@dataclass(frozen=True, slots=True)
class Source:
    """One YAML file, read once: what is hashed is what is parsed."""

    path: Path
    name: str
    data: bytes
    node: yaml.MappingNode | None
    values: dict[str, Any]

    @classmethod
    def read(cls, path: Path, name: str | None = None) -> Source:
        """Read and parse a file.

        Raises:
            PolicyError: unreadable, not YAML, not a mapping, or a repeated key.
        """
        try:
            with path.open("rb") as file:
                data = file.read(MAX_BYTES + 1)
        except OSError as error:
            raise PolicyError(f"{path}: cannot be read: {error.strerror}") from error
        if len(data) > MAX_BYTES:
            raise PolicyError(f"{path}: larger than {MAX_BYTES >> 20} MiB, which no policy is")
        node, values = _parse(path, data)
        return cls(path, name or path.name, data, node, values)


def _parse(path: Path, data: bytes) -> tuple[yaml.MappingNode | None, dict[str, Any]]:
    try:
        _refuse_hidden(path, data)
        loader = yaml.CSafeLoader(data)
        node = loader.get_single_node()
        if node is None:
            return None, {}
        if not isinstance(node, yaml.MappingNode):
            raise PolicyError(f"{path}:1: expected keys and values at the top level")
        _refuse_repeated(path, node)
        return node, loader.construct_document(node)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = mark.line + 1 if mark else 1
        problem = getattr(error, "problem", None) or "not YAML"
        raise PolicyError(f"{path}:{line}: {problem}") from error
    except (ValueError, LookupError, AttributeError, TypeError, ArithmeticError) as error:
        # A scalar under a tag that it does not fit, such as ``!!int ""``.
        raise PolicyError(f"{path}: {type(error).__name__} while reading YAML") from error


def _refuse_hidden(path: Path, data: bytes) -> None:
    """Refuse anchors, aliases and nesting without end before anything is built.

    An alias hides what is in force, and a few of them expand without bound; libyaml's
    composer recurses on the C stack and would end the process.
    """
    depth = 0
    for event in yaml.parse(data, Loader=yaml.CSafeLoader):
        line = event.start_mark.line + 1 if event.start_mark else 1
        if getattr(event, "anchor", None) is not None:
            raise PolicyError(f"{path}:{line}: anchors and aliases are refused; write it out")
        depth += isinstance(event, yaml.CollectionStartEvent)
        depth -= isinstance(event, yaml.CollectionEndEvent)
        if depth > MAX_DEPTH:
            raise PolicyError(f"{path}:{line}: nested deeper than {MAX_DEPTH}, which no policy is")


def _refuse_repeated(path: Path, node: yaml.Node) -> None:
    """A repeated key would silently win; a merge hides what is in force."""
    if isinstance(node, yaml.MappingNode):
        seen: set[str] = set()
        for key, value in node.value:
            name = str(key.value)
            if name in seen or name == "<<":
                line = key.start_mark.line + 1
                raise PolicyError(
                    f"{path}:{line}: key {name!r} is repeated or merged; write it once"
                )
            seen.add(name)
            _refuse_repeated(path, value)
    elif isinstance(node, yaml.SequenceNode):
        for value in node.value:
            _refuse_repeated(path, value)


def read_folder(folder: Path) -> list[Source]:
    """Read every ``*.yaml`` file of a folder, by name; hidden files are none, as in a shell.

    Raises:
        PolicyError: no such folder, no YAML in it, or a ``.yml`` that would not be in force.
    """
    paths = [p for p in sorted(folder.glob("*.yaml")) if not p.name.startswith(".")]
    if other := next(folder.glob("[!.]*.yml"), None):
        raise PolicyError(f"{other}: would not be read; rename it to {other.stem}.yaml")
    if not paths:
        raise PolicyError(f"{folder}: no policy files here; run `compliance init` to write some")
    return [Source.read(path) for path in paths]


def digest(sources: Iterable[Source]) -> str:
    """Return SHA-256 over ``sha256sum``-style lines of the files, in order of name.

    An auditor gets the same with ``cd policies && LC_ALL=C; sha256sum *.yaml | sha256sum``.
    """
    lines = (f"{hashlib.sha256(s.data).hexdigest()}  {s.name}\n" for s in sources)
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def validate(model: type[Model], sources: list[Source]) -> Model:
    """Merge the top-level keys of the files and validate them.

    Raises:
        PolicyError: names file, line and, for an unknown key, the nearest valid one.
    """
    merged: dict[str, Any] = {}
    for source in sources:
        for key, value in source.values.items():
            if key in merged or key == "digest":
                raise PolicyError(
                    f"{locate([source], (str(key),))}: {key!r} stands elsewhere already"
                )
            merged[key] = value
    try:
        return model.model_validate(merged)
    except ValidationError as error:
        raise PolicyError(_explain(model, error, sources)) from None


def _explain(model: type[BaseModel], error: ValidationError, sources: list[Source]) -> str:
    lines = []
    items = error.errors(include_url=False, include_input=False)
    inner = {item["loc"][:n] for item in items for n in range(len(item["loc"]))}
    for item in [i for i in items if i["loc"] not in inner][
        :10
    ]:  # a list is only as wrong as its items
        path = tuple(str(part) for part in item["loc"])
        hint = nearest(path[-1], _keys(model)) if item["type"] == "extra_forbidden" else ""
        what = "unknown key" if item["type"] == "extra_forbidden" else item["msg"]
        lines.append(f"{locate(sources, path)}: {'.'.join(path)}: {what}{hint}")
    return "\n".join(lines)


def nearest(name: str, known: Iterable[str]) -> str:
    """Return ``; did you mean 'x'?`` or a short list of what there is."""
    known = sorted(known)
    near = difflib.get_close_matches(name, known, 1)
    if near:
        return f"; did you mean {near[0]!r}?"
    return f"; known: {', '.join(known[:12])}" if known else "; none is defined"


def _keys(model: type[BaseModel]) -> set[str]:
    """Return every field name reachable from a model."""
    keys: set[str] = set()
    todo: list[Any] = [model]
    seen: set[Any] = set()
    while todo:
        kind = todo.pop()
        todo.extend(get_args(kind))
        if isinstance(kind, type) and issubclass(kind, BaseModel) and kind not in seen:
            seen.add(kind)
            keys |= set(kind.model_fields)
            todo.extend(field.annotation for field in kind.model_fields.values())
    return keys


def locate(sources: Iterable[Source], path: tuple[str, ...]) -> str:
    """Return ``file:line`` of a key path, or of its nearest ancestor that is there."""
    best, depth = "", -1
    for source in sources:
        line, found = 1, 0
        for found, mark in enumerate(_marks(source.node, path), 1):  # noqa: B007  used after the loop
            line = mark + 1
        if found > depth:
            best, depth = f"{source.path}:{line}", found
    return best


def _marks(node: yaml.Node | None, path: tuple[str, ...]) -> Iterator[int]:
    """Yield the line of each step of a path, as far as it goes."""
    for part in path:
        if isinstance(node, yaml.MappingNode):
            pair = next(((k, v) for k, v in node.value if str(k.value) == part), None)
            if pair is None:
                if any(str(value.value) == part for _key, value in node.value):
                    continue  # not a key: pydantic puts the tag of a union into the path
                return
            yield pair[0].start_mark.line
            node = pair[1]
        elif isinstance(node, yaml.SequenceNode):
            child = _item(node, part)
            if child is None:
                return
            yield child.start_mark.line
            node = child
        else:
            return


def _item(node: yaml.SequenceNode, part: str) -> yaml.Node | None:
    """Return a list item by position or by its text."""
    if part.isdigit() and int(part) < len(node.value):
        item: yaml.Node = node.value[int(part)]
        return item
    return next((v for v in node.value if str(v.value) == part), None)
