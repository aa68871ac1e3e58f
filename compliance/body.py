"""What a guarded body gets: its run, opened data, and no row that came in sideways."""

from __future__ import annotations

import contextlib
import functools
import inspect
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator, KeysView, ValuesView
from io import IOBase
from types import FunctionType, MethodType, ModuleType
from typing import TYPE_CHECKING, Any, TypeVar

from compliance import frames
from compliance.controls import Call, Pipeline
from compliance.errors import InputError, NotPrivate, Refused, UnregisteredData
from compliance.fairness.control import listed
from compliance.findings import Outcome
from compliance.handle import Handle
from compliance.trail.control import event_of

if TYPE_CHECKING:
    from compliance.guard import Guard

R = TypeVar("R")


class Run:
    """What a guarded body may ask for; it is the first argument of training and decision bodies.

    It ends with the body: kept longer, it opens nothing.
    """

    def __init__(self, guard: Guard, call: Call, pipeline: Pipeline) -> None:
        self._guard = guard
        self._call = call
        self._pipeline = pipeline

    def __repr__(self) -> str:
        return f"<run {self.id} of {self._call.name!r}>"

    @property
    def id(self) -> str:
        """Return the id that the trail entries of this run share."""
        return self._call.id

    @property
    def outcomes(self) -> tuple[Outcome, ...]:
        """Return what the audits of this run found."""
        return tuple(self._call.outcomes)

    def open(self, data: Any) -> Any:
        """Open a closed data set for this activity and return its frame.

        A frame that this run opened before is returned as it is: a data set called inside
        the activity is open already. A refusal is recorded at once, also where the body goes
        on without the data.

        Raises:
            UnregisteredData: a frame that came from no registered data set.
            PurposeError: the activity does not name the data set.
            ConsentMissing: no row is left.
            PIIFound: the scan found what the policy blocks.
            Refused: the run is over.
        """
        self._require_running()
        if any(frames.native(opening.frame) is data for opening in self._call.openings):
            return data
        try:
            opening = self._guard.opening(self._call, data)
            self._pipeline.open(self._call, opening)
        except Exception as error:
            self._refused(data, error)
            raise
        return frames.native(opening.frame)

    def private(
        self, model: Any, optimizer: Any = None, loader: Any = None, *, epochs: int = 1
    ) -> Any:
        """Return model, optimizer and loader, made differentially private under the policy's cap.

        Args:
            model: a ``torch.nn.Module``.
            optimizer: over the model's parameters.
            loader: a ``DataLoader`` over the opened rows; sampled by Poisson from now on.
            epochs: how many passes the body will make; one step more is refused.

        Raises:
            NotPrivate: the policy knows no budget, or the model cannot be made private.
        """
        from compliance.dp.control import require_unit
        from compliance.dp.loader import size_of
        from compliance.dp.training import make_private

        self._require_running()
        call, rule = self._call, self._call.activity.privacy
        if rule is None:
            raise NotPrivate(f"activity {call.name!r} has no privacy rule; add one to the policy")
        if call.reservation is None:
            raise NotPrivate(f"a {call.kind} reserves no budget; train in a training activity")
        if call.private is not None:
            raise NotPrivate("run.private was called twice in one run; the budget covers one")
        budget = call.policy.budgets[rule.budget]
        require_unit(call, budget)
        training = make_private(model, optimizer, loader, rule, epochs=epochs, unit=budget.unit)
        _require_each_once(call, size_of(loader)[0])
        call.private = training
        return training.model, training.optimizer, training.loader

    def predictor(self, function: Callable[[Any], Any]) -> Callable[[Any], Any]:
        """Say how to get predictions for a frame from the result; usable as a decorator."""
        self._require_running()
        self._call.predictor = function
        return function

    def model(self, *, into: Any = None, version: str | None = None) -> Any:
        """Return the sealed model of this activity, verified before a byte of it is parsed."""
        self._require_running()
        model, manifest = self._guard.fetch(self._call.name, into=into, version=version)
        self._call.model = model
        self._call.facts["model_version"] = manifest.version
        return model

    def release(self, model: R) -> R:
        """Hand over the model of an activity block; it is audited and sealed at the block's end."""
        self._require_running()
        self._call.result = model
        return model

    def _require_running(self) -> None:
        if self._call.closed:
            raise Refused(f"the run of {self._call.name!r} is over; start another")

    def _refused(self, data: Any, error: Exception) -> None:
        found = self._call.fresh[0].facts if self._call.fresh else {}
        self._call.fresh = []  # or the outcome would tell it again
        name = data.dataset if isinstance(data, Handle) else None
        facts = found | {"error": type(error).__name__}
        self._guard.trail.append(event_of(self._call, "refused", facts, dataset=name))


def _require_each_once(call: Call, rows: int) -> None:
    """A loader that holds a row twice would give it half the protection that is accounted for."""
    opened = sum(len(opening.frame) for opening in call.openings if not opening.audits)
    if rows > opened:
        raise NotPrivate(
            f"the loader holds {rows} rows and the activity opened {opened}: a row that is used "
            "more than once is not protected as accounted; give each row once"
        )


# -- arguments -------------------------------------------------------------------------


def is_data(value: Any) -> bool:
    """Say whether a value is a closed data set or a frame."""
    return isinstance(value, Handle) or frames.is_frame(value)


_CONTAINERS: tuple[type, ...] = (list, tuple, set, frozenset)


def walk(value: Any, visit: Callable[[Any], Any]) -> Any:
    """Visit every value inside lists, tuples, sets and dictionaries; return them rebuilt."""
    if type(value) is dict:
        return {key: walk(item, visit) for key, item in value.items()}
    if type(value) in _CONTAINERS:
        return type(value)(walk(item, visit) for item in value)
    return visit(value)


def refuse_sideways(call: Call, value: Any) -> None:
    """Refuse what would carry rows past the controls, and a model passed to a decision.

    Looked into: containers, attributes, closures, defaults, partials and bound methods. Not
    seen: rows as plain Python values, text or files, what a body reads itself, globals.

    Raises:
        UnregisteredData: an array, tensor, column, loader, iterator, or something that holds
            one or a frame.
        Refused: a model where the decision must take the sealed one.
    """
    if isinstance(value, (Iterator, AsyncIterator)) and not isinstance(value, IOBase):
        _refuse_carrier(value, value)
    for inner in _reachable(value):
        if _carries(inner):
            _refuse_carrier(value, inner)
        if call.kind == "decision" and _predicts(type(inner)):
            raise Refused(
                "a decision takes no model as an argument; get the sealed one: run.model()"
            )


def _refuse_carrier(value: Any, inner: Any) -> None:
    kind, holder = type(inner), type(value)
    inside = "" if inner is value else f" (inside a {holder.__qualname__})"
    raise UnregisteredData(
        f"a {kind.__module__}.{kind.__qualname__}{inside} would carry rows past the controls; pass "
        "the data set's handle as an argument of its own and build the rest inside the body"
    )


_EXPORTS = (
    "__array__", "__array_interface__", "__dlpack__", "__dataframe__",
    "__arrow_c_stream__", "__arrow_c_array__", "toarray",
)  # fmt: skip


def _carries(value: Any) -> bool:
    """Say whether a value is a table, a column, an array or a loader; a scalar is none."""
    kind = type(value)
    if kind.__module__ == "builtins":
        return False
    if frames.is_frame(value) or frames.is_series(value):
        return True
    if any(base.__module__.startswith("torch.utils.data") for base in kind.__mro__):
        return True
    exports = any(hasattr(kind, name) for name in _EXPORTS)
    return exports and getattr(value, "ndim", 1) != 0


def _predicts(kind: type) -> bool:
    return hasattr(kind, "predict") or hasattr(kind, "load_state_dict")


_PLAIN = (str, bytes, bytearray, int, float, complex, type(None), type, ModuleType, Handle)
_HOLDERS = (list, tuple, set, frozenset, deque, KeysView, ValuesView)
_MOST = 10_000  # objects looked at: enough for configurations, and a bound for what is no data


def _reachable(value: Any) -> Iterator[Any]:
    """Yield a value and what it holds, the nearest first, up to a bound."""
    queue, seen = deque([value]), set[int]()
    while queue and len(seen) < _MOST:
        item = queue.popleft()
        if isinstance(item, _PLAIN) or id(item) in seen:
            continue
        seen.add(id(item))
        yield item
        queue.extend(_held_by(item))


def _held_by(value: Any) -> list[Any]:
    """Return what a value holds; of a guarded function and of a model's parameters, nothing."""
    if isinstance(value, dict):
        return list(value.values())
    if isinstance(value, _HOLDERS):
        return list(value)
    if isinstance(value, functools.partial):
        return [value.func, *value.args, *value.keywords.values()]
    if isinstance(value, MethodType):
        return [value.__self__, value.__func__]
    if isinstance(value, FunctionType):
        return [] if hasattr(value, GUARDED) else _enclosed(value)
    return _attributes(value)


GUARDED = "__compliance__"
"""Marks a guarded function: what it closes over opens only through its own controls."""


def _enclosed(function: FunctionType) -> list[Any]:
    held = [*(function.__defaults__ or ()), *(function.__kwdefaults__ or {}).values()]
    for cell in function.__closure__ or ():
        with contextlib.suppress(ValueError):  # a variable that was not assigned yet
            held.append(cell.cell_contents)
    return held


def _attributes(value: Any) -> list[Any]:
    kind = type(value)
    homes = {base.__module__.partition(".")[0] for base in kind.__mro__}
    if "compliance" in homes or any(b.__module__.startswith("torch.optim") for b in kind.__mro__):
        return []
    own = {n: v for n, v in getattr(value, "__dict__", {}).items() if n not in _TENSORS}
    slots = (s for base in kind.__mro__ for s in _slots(base))
    return [*own.values(), *(getattr(value, s) for s in slots if hasattr(value, s))]


_TENSORS = ("_parameters", "_buffers")  # of a torch module: a model is no data set


def _slots(kind: type) -> tuple[str, ...]:
    slots = kind.__dict__.get("__slots__", ())
    names = (slots,) if isinstance(slots, str) else tuple(slots)
    return tuple(n for n in names if not n.startswith("__"))


# -- generators ------------------------------------------------------------------------


def yielded(call: Call, item: Any) -> Any:
    """Pass on what a generator yields: decisions of the sealed model, or progress of training.

    Raises:
        Refused: a decision before the sealed model was asked for, or anything but plain
            progress from a training, whose model is the one it returns or releases.
    """
    if call.kind == "decision":
        if call.model is None:
            raise Refused("a decision is taken with the sealed model; get it with run.model()")
        call.yielded.extend(_several(item))
    elif not _is_progress(item):
        raise Refused(
            f"a training yields its progress in numbers and text, not a {type(item).__name__}; "
            "return the model, or hand it to run.release(model), so that it is audited"
        )
    return item


def _several(item: Any) -> list[Any]:
    """Return a batch of decisions as a list, and one decision as a list of one."""
    if isinstance(item, str) or getattr(item, "ndim", 1) == 0 or not hasattr(item, "__len__"):
        return [item.item() if hasattr(item, "item") else item]
    return listed(item)


def _is_progress(item: Any) -> bool:
    if isinstance(item, (dict, list, tuple)):
        values = item.values() if isinstance(item, dict) else item
        return len(item) <= _FEW and all(map(_is_progress, values))
    return item is None or isinstance(item, (str, int, float))


_FEW = 16  # figures in one report of progress


def without_run(function: Callable[..., Any]) -> inspect.Signature:
    """Return the signature that callers see: without the first parameter, the run.

    Raises:
        InputError: there is no such parameter, or the function is a method.
    """
    signature = inspect.signature(function)
    parameters = [*signature.parameters.values()]
    name = getattr(function, "__qualname__", "the function")
    positional = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    if not parameters or parameters[0].kind not in positional:
        raise InputError(f"{name} needs a first parameter for the run, as in `def f(run, data)`")
    if parameters[0].name in {"self", "cls"}:
        raise InputError(
            f"{name} is a method; decorate a function whose first parameter is the run"
        )
    return signature.replace(parameters=parameters[1:])
