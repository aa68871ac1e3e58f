"""The guard: reads the policy, assembles the controls, and wraps the user's functions."""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, Concatenate, ParamSpec, TypeVar

from compliance import config, frames
from compliance.access import consent, identity, rbac
from compliance.access.control import Authorise, ConsentRows, Minimise
from compliance.body import GUARDED, Run, is_data, refuse_sideways, walk, without_run, yielded
from compliance.controls import (
    Call,
    Control,
    Opening,
    Phase,
    Pipeline,
    active,
    current,
    outside,
    wrap,
)
from compliance.crypto import columns
from compliance.crypto.control import Unseal
from compliance.crypto.custody import discrepancies as key_discrepancies
from compliance.crypto.hierarchy import require_own
from compliance.crypto.keys import Keyring
from compliance.crypto.sealer import Sealer
from compliance.dp.control import Deliver, Reserve, Settle, Unchanged
from compliance.dp.control import discrepancies as budget_discrepancies
from compliance.dp.ledger import Ledger
from compliance.errors import InputError, PurposeError, Refused, UnregisteredData
from compliance.fairness.control import Audit, HoldBack, TallyDecisions
from compliance.handle import Handle, content_of
from compliance.models.control import Seal, Vault
from compliance.models.manifest import Manifest
from compliance.pii.control import Scan
from compliance.policy import Policy
from compliance.store import Store
from compliance.trail.control import RecordIntent, RecordOpened, RecordOutcome
from compliance.trail.entries import Event
from compliance.trail.log import Trail

__all__ = ["Guard", "Run"]

P = ParamSpec("P")
R = TypeVar("R")


class Guard:
    """Reads the policy once and wraps functions so that every call is held to it.

    Attributes:
        settings: where everything is.
        policy: the norms in force.
        identity: who acts.
        trail: the audit store.
        keys: the key hierarchy.
        consents: what subjects agreed to.
        ledger: the privacy budget.
        vault: sealed models.
    """

    def __init__(self, start: Path | str | None = None, **overrides: str | Path | None) -> None:
        """Open policy, keys and audit store.

        Args:
            start: where to look for settings; default: the working directory, upwards.
            overrides: settings by name, as in `compliance.config.Settings`.

        Raises:
            PolicyError: a policy file is wrong.
            StoreError: the audit store cannot be opened.
            ConfigurationError: the keys do not belong to the store.
        """
        self.settings = config.load(start, overrides=overrides)
        self.policy = Policy.load(self.settings.policies)
        self.identity = identity.current(self.settings)
        self.authority = rbac.Authority(self.policy)
        self.store = Store.open(self.settings.database_url)
        require_own(self.store, self.settings.tenant)
        self.keys = Keyring.configured(self.store, self.settings)
        self.trail = Trail(self.store, self.keys.signer())
        self.consents = consent.Consents(self.store, self.trail, self.keys, self.policy)
        self.ledger = Ledger(self.store)
        sealer, signer = partial(Sealer, self.keys), self.keys.signer()
        self.vault = Vault(self.settings.models, sealer, signer, self.trail)
        self._loaders: dict[str, Callable[[], Any]] = {}

    def __repr__(self) -> str:
        return f"<guard of {self.settings.root}, policy {self.policy.digest[:12]}>"

    # -- decorators ------------------------------------------------------------------

    def dataset(self, name: str) -> Callable[[Callable[P, R]], Callable[P, R]]:
        """Register a function that loads a data set.

        Outside an activity the function returns a closed handle; inside, the opened frame.
        """
        self.policy.dataset(name)

        def decorate(function: Callable[P, R]) -> Callable[P, R]:
            prepare = partial(self._prepare, "dataset", name)
            wrapped = wrap(function, prepare, lambda _call, a, k: (a, k), self._deliver)
            setattr(wrapped, GUARDED, name)
            self._loaders[name] = wrapped
            return wrapped

        return decorate

    def training(self, name: str) -> Callable[[Callable[Concatenate[Run, P], R]], Callable[P, R]]:
        """Register a function that trains a model; its first parameter is the `Run`."""
        return self._with_run("training", name)

    def decision(self, name: str) -> Callable[[Callable[Concatenate[Run, P], R]], Callable[P, R]]:
        """Register a function that decides about people with the sealed model of an activity."""
        return self._with_run("decision", name)

    def _with_run(self, kind: str, name: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
        self.policy.activity(name)

        def decorate(function: Callable[..., Any]) -> Callable[..., Any]:
            signature = without_run(function)
            streams = inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function)
            deliver = yielded if streams else lambda _call, result: result
            prepare = partial(self._prepare_bound, kind, name, signature)
            wrapped = wrap(function, prepare, self._arguments, deliver)
            wrapped.__signature__ = signature  # type: ignore[attr-defined]  # functions take any
            setattr(wrapped, GUARDED, name)
            return wrapped

        return decorate

    @contextlib.contextmanager
    def activity(self, name: str) -> Iterator[Run]:
        """Run a block, as in a notebook, as an activity: ``with guard.activity(...) as run``."""
        self.policy.activity(name)
        call, pipeline = self._prepare("activity", name, (), {})
        with pipeline.around(call), active(call):
            call.run = Run(self, call, pipeline)
            yield call.run

    # -- models, consent, columns -------------------------------------------------------

    def load(self, name: str, *, into: Any = None, version: str | None = None) -> Any:
        """Return a sealed model after its signature, digest and place were verified.

        Args:
            name: the activity that trained it.
            into: for PyTorch, a module of the same shape to load the parameters into.
            version: default: the newest that was released.

        Raises:
            ModelRejected: not what was sealed, by a run that did not end well, or, without a
                version, the newest is gone; nothing of
                it was parsed.
        """
        return self.fetch(name, into=into, version=version)[0]

    def fetch(
        self, name: str, *, into: Any = None, version: str | None = None
    ) -> tuple[Any, Manifest]:
        """Return a sealed model as `load` does, with its manifest."""
        self.authority.require(self.identity, f"model/{name}", "load")
        return self.vault.fetch(name, into=into, version=version)

    def encrypt(
        self, dataset: str, frame: Any, *, nulls: columns.Nulls = "keep", pad: int | None = None
    ) -> Any:
        """Return a frame with the columns sealed that the policy declares as encrypted.

        ``nulls`` and ``pad`` are those of `compliance.crypto.columns.encrypt`.
        """
        norms = self.policy.dataset(dataset)
        table = frames.wrap(frame)
        who = frames.column(table, norms.subject) if norms.subject else []
        for mode in (True, "subject"):
            names = [n for n in table.columns if n in norms.columns]
            names = [n for n in names if norms.columns[n].encrypted == mode]
            if names:
                table = columns.encrypt(
                    table,
                    names,
                    self.keys,
                    table=dataset,
                    rows=who if norms.subject else None,
                    subjects=(norms.subject_type, who) if mode == "subject" else None,
                    nulls=nulls,
                    pad=pad,
                )
        return frames.native(table)

    def consent(
        self,
        state: consent.State,
        subjects: list[Any],
        *,
        purpose: str,
        subject_type: str = "person",
    ) -> int:
        """Record that subjects gave, withdrew or opted out; return how many."""
        action = {"given": "record", "withdrawn": "withdraw", "opted-out": "opt-out"}[state]
        self.authority.require(self.identity, f"consent/{purpose}", action)
        return self.consents.record(
            self.event(""), subjects, purpose=purpose, state=state, subject_type=subject_type
        )

    def event(self, what: str, **fields: Any) -> Event:
        """Return an event that carries this guard's identity and policy digest."""
        who = self.identity
        return Event(
            event=what,
            actor=who.actor,
            method=who.method.value,
            account=who.account,
            on_behalf_of=who.on_behalf_of,
            policy=self.policy.digest,
            **fields,
        )

    def discrepancies(self) -> Iterator[tuple[str, str]]:
        """Yield kind and message of each difference between the trail and what it vouches for."""
        for message in self.consents.discrepancies():
            yield "consent", message
        for message in budget_discrepancies(self.ledger, self.trail):
            yield "budget", message
        for message in key_discrepancies(self.keys, self.trail):
            yield "key", message

    # -- the machinery --------------------------------------------------------------------

    def _prepare(
        self, kind: str, name: str, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[Call, Pipeline]:
        call = Call(kind, name, self.policy, self.identity)
        pipeline = Pipeline(self._controls(kind))
        if kind != "dataset":
            call.facts["arguments"] = len(args) + len(kwargs)
            pipeline = Pipeline([*self._controls(kind), _Gather(self, args, kwargs)])
        return call, pipeline

    def _prepare_bound(
        self,
        kind: str,
        name: str,
        signature: inspect.Signature,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
    ) -> tuple[Call, Pipeline]:
        signature.bind(*args, **kwargs)  # a TypeError before a budget is reserved for it
        return self._prepare(kind, name, args, kwargs)

    def _controls(self, kind: str) -> list[Control]:
        controls: list[Control] = [
            RecordIntent(self.trail),
            Authorise(self.authority, self.identity),
            RecordOutcome(self.trail),
        ]
        if kind == "dataset":
            return controls
        controls += [ConsentRows(self.consents), Minimise(), Unseal(self.keys), HoldBack(self.keys)]
        controls += [Scan(), RecordOpened(self.trail)]
        if kind == "decision":
            return [*controls, _SealedModel(), TallyDecisions()]
        return [
            *controls,
            Reserve(self.ledger, self.trail),
            Deliver(),
            Audit(),
            Settle(self.ledger, self.trail),
            Unchanged(),
            Seal(self.vault, self.trail),
        ]

    def opening(self, call: Call, data: Any, *, audits: bool = False) -> Opening:
        """Return data as an opening of a call: from a handle, or unregistered where allowed."""
        if isinstance(data, Handle):
            if data.policy != self.policy.digest:
                raise PurposeError(
                    f"data set {data.dataset!r} was closed under another policy; load it with the "
                    "guard of this activity"
                )
            return Opening(data.dataset, frames.wrap(content_of(data)), audits=audits)
        if not frames.is_frame(data):
            raise InputError(f"cannot open a {type(data).__name__}; pass what a data set returned")
        if call.activity.unregistered != "scan":
            raise UnregisteredData(
                "this frame came from no registered data set; load it in a function decorated "
                "with @guard.dataset(name), or set unregistered: scan for the activity"
            )
        return Opening("", frames.wrap(data))

    def audit_data(self, call: Call) -> Opening | None:
        """Return the data set that the policy names for the audit, loaded by its own function."""
        rule = call.activity.fairness
        if rule is None or rule.rows.dataset is None or call.kind == "decision":
            return None
        loader = self._loaders.get(rule.rows.dataset)
        if loader is None:
            raise PurposeError(
                f"the audit needs data set {rule.rows.dataset!r}; register a function without "
                f"arguments for it: @guard.dataset({rule.rows.dataset!r})"
            )
        _require_callable(loader, rule.rows.dataset)
        with outside():
            handle = loader()
        return self.opening(call, handle, audits=True)

    def _arguments(
        self, call: Call, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Return what the body gets: the run, and each handle replaced by its opened frame."""
        opened = iter([o for o in call.openings if not o.audits])

        def replace(value: Any) -> Any:
            return frames.native(next(opened).frame) if is_data(value) else value

        call.run = Run(self, call, Pipeline(self._controls(call.kind)))
        values = tuple(walk(value, replace) for value in args)
        return (call.run, *values), {name: walk(value, replace) for name, value in kwargs.items()}

    def _deliver(self, call: Call, data: Any) -> Any:
        """Return a closed handle, or inside an activity the opened frame."""
        if not frames.is_frame(data):
            raise InputError(
                f"data set {call.name!r} returned a {type(data).__name__}; return a data frame"
            )
        handle = Handle(call.name, self.policy.digest, data)
        running = current()
        if running is None or running.closed:
            return handle
        return running.run.open(handle)  # by the guard whose activity it is


_STREAMING = (
    inspect.iscoroutinefunction,
    inspect.isgeneratorfunction,
    inspect.isasyncgenfunction,
)


def _require_callable(loader: Callable[..., Any], dataset: str) -> None:
    try:
        inspect.signature(loader).bind()
    except TypeError:
        fits = False
    else:
        fits = not any(test(loader) for test in _STREAMING)
    if not fits:
        raise InputError(
            f"the audit's data set {dataset!r} needs a plain function that can be called without "
            "arguments"
        )


class _Gather:
    """Collect the data among the arguments, before the data phases look at it."""

    phase = Phase.AUTHORISE  # registered last, so it runs after the role check

    def __init__(self, guard: Guard, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        self._guard = guard
        self._values = (*args, *kwargs.values())

    def __call__(self, call: Call) -> None:
        """Put every frame and handle into the call; refuse rows that came in sideways."""

        def gather(value: Any) -> Any:
            if is_data(value):
                call.fresh.append(self._guard.opening(call, value))
            else:
                refuse_sideways(call, value)
            return value

        for value in self._values:
            walk(value, gather)
        audit = self._guard.audit_data(call)
        if audit is not None:
            call.fresh.append(audit)


class _SealedModel:
    """A decision is taken with the sealed model, or not at all."""

    phase = Phase.AUDIT

    def __call__(self, call: Call) -> None:
        """Refuse a decision whose body never asked for the sealed model."""
        if call.model is None:
            raise Refused("a decision is taken with the sealed model; get it with run.model()")
