"""Sealing as a control, and the vault that holds what was sealed."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Protocol

from compliance import frames
from compliance.controls import Call, Phase
from compliance.errors import ComplianceError, ModelRejected
from compliance.findings import Scalar
from compliance.models import artefact
from compliance.models.manifest import Manifest, Origin
from compliance.trail.control import event_of
from compliance.trail.log import Trail

TRUSTED = (
    "sklearn.ensemble._hist_gradient_boosting.predictor.TreePredictor",
    "sklearn.metrics._dist_metrics.EuclideanDistance64",
    "sklearn.neighbors._kd_tree.KDTree",
    "sklearn.neural_network._stochastic_optimizers.AdamOptimizer",
    "sklearn.tree._tree.Tree",
)
"""What common scikit-learn models hold beyond skops's own list; read only after our signature."""


_SEALING = tuple(
    f"{kind}.{what}" for kind in ("training", "activity") for what in ("sealed", "outcome")
)


class Key(artefact.Signer, artefact.Verifier, Protocol):
    """Signs manifests and checks their signatures."""


class Vault:
    """Sealed models of one project."""

    def __init__(
        self, folder: Path, sealer: Callable[[str], artefact.Sealer], key: Key, trail: Trail
    ) -> None:
        self.folder = folder
        self._sealer = sealer
        self._key = key
        self._trail = trail

    def seal(self, name: str, model: Any, origin: Origin) -> Manifest:
        """Seal a model as the next version of its name."""
        return artefact.seal(
            self.folder,
            name,
            model,
            origin=origin,
            sealer=self._sealer(name),
            signer=self._key,
            trusted=TRUSTED,
        )

    def load(self, name: str, *, into: Any = None, version: str | None = None) -> Any:
        """Return a model as `fetch` does, without its manifest."""
        return self.fetch(name, into=into, version=version)[0]

    def fetch(
        self, name: str, *, into: Any = None, version: str | None = None
    ) -> tuple[Any, Manifest]:
        """Return a model and its manifest after everything about it was verified.

        Without a version the newest is taken whose run ended well: a run that was killed
        between sealing its model and recording its outcome released none.

        Raises:
            ModelRejected: signature, name, version, digest or ciphertext is not what was sealed,
                or the trail does not say that the run ended well; or, without a version, the
                newest version that was released is gone.
            InputError: there is no such model or version.
        """
        version = self._newest(name) if version is None else self.verify(name, version).version
        return artefact.load(
            self.folder,
            name,
            version,
            verifier=self._key,
            sealer=self._sealer(name),
            into=into,
            trusted=TRUSTED,
        )

    def verify(self, name: str, version: str) -> Manifest:
        """Return the manifest of a sound and released artefact, or raise ModelRejected."""
        manifest = artefact.verify(self.folder, name, version, verifier=self._key)
        if not self._released(manifest):
            raise ModelRejected(
                f"model {name} {version}: the trail does not say that the run which sealed it "
                "ended well, so it was not released; train again"
            )
        return manifest

    def _newest(self, name: str) -> str:
        """Return the newest released version; no key is made for a model that is not there."""
        self._require_newest(name)
        versions = [version for known, version in self.versions() if known == name]
        for version in reversed(versions):
            if self._released(artefact.verify(self.folder, name, version, verifier=self._key)):
                return version
        newest = artefact.verify(self.folder, name, None, verifier=self._key)
        return self.verify(name, newest.version).version

    def _require_newest(self, name: str) -> None:
        """Refuse to go back to an older model because the newest was taken away.

        Raises:
            ModelRejected: the newest version that the trail says was released is gone.
        """
        newest = max((version for _, version in self._recorded(name)), default=None)
        if newest is not None and (name, newest) not in set(self.versions()):
            raise ModelRejected(
                f"model {name}: {gone(newest)}; restore its folder, or name an older version"
            )

    def missing(self) -> Iterator[tuple[str, str]]:
        """Yield every name and version that the trail says was released and that is gone."""
        yield from sorted(set(self._recorded()) - set(self.versions()))

    def _recorded(self, name: str | None = None) -> Iterator[tuple[str, str]]:
        """Yield the names and versions of runs that sealed a model and ended well."""
        sealed: dict[Any, list[tuple[str, str]]] = {}
        with self._trail.store.reading() as connection:
            for entry in self._trail.events_in(connection, _SEALING, activity=name):
                values = entry.values
                if values["event"].endswith(".sealed"):
                    version = values["facts"]["version"]
                    sealed.setdefault(values["call"], []).append((values["activity"], version))
                elif values["outcome"] == "ok":
                    yield from sealed.pop(values["call"], ())

    def _released(self, manifest: Manifest) -> bool:
        """Say whether the run that a manifest cites recorded this artefact and ended well."""
        origin, run, sealed = manifest.origin, None, False
        for entry in self._trail.read(start=origin.intent, filters={"activity": origin.activity}):
            values = entry.values
            if entry.index == origin.intent:
                run = values["call"]
            if run is None or origin.activity != manifest.name:
                return False
            if values["call"] != run:
                continue
            sealed = sealed or values["facts"].get("sha256") == manifest.sha256
            if values["event"].endswith(".outcome"):
                return sealed and bool(values["outcome"] == "ok")
        return False

    def versions(self) -> Iterator[tuple[str, str]]:
        """Yield every name and version that is there, sound or not."""
        for listed in artefact.listing(self.folder):
            yield listed.name, listed.version

    def listing(self) -> Iterator[tuple[str, str, Manifest | ComplianceError]]:
        """Yield every version with its manifest, or with what is wrong with it."""
        for name, version in self.versions():
            try:
                yield name, version, self.verify(name, version)
            except ModelRejected as error:
                yield name, version, error


def gone(version: str) -> str:
    """Return what is wrong with a version whose folder is not there."""
    return f"version {version} was sealed and is gone"


class Seal:
    """Seal what the body returned, after it was audited and its budget settled."""

    phase = Phase.SEAL

    def __init__(self, vault: Vault, trail: Trail) -> None:
        self._vault = vault
        self._trail = trail

    def __call__(self, call: Call) -> None:
        """Seal, and record which version it became."""
        if not call.activity.seal or (call.kind == "activity" and call.result is None):
            return
        manifest = self._vault.seal(call.name, call.result, _origin(call))
        facts = {"version": manifest.version, "sha256": manifest.sha256, "format": manifest.format}
        call.facts["model_version"] = manifest.version
        self._trail.append(event_of(call, "sealed", facts))


def _origin(call: Call) -> Origin:
    seen = [opening for opening in call.openings if not opening.audits]
    digests = "".join(f"{o.dataset}:{frames.digest(o.frame)}\n" for o in seen)
    return Origin(
        activity=call.name,
        actor=call.identity.actor,
        data_digest=hashlib.sha256(digests.encode()).hexdigest(),
        policy_digest=call.policy.digest,
        epsilon=_number(call.facts.get("epsilon")),
        delta=_number(call.facts.get("delta")),
        rows=sum(len(o.frame) for o in seen),
        intent=call.intent,
    )


def _number(value: Scalar) -> float | None:
    return float(value) if isinstance(value, (int, float)) else None
