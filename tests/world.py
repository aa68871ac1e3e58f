"""A small bank with a project around it, copied for each test, and what tests do with it."""

from __future__ import annotations

import json
import shutil
from functools import cached_property

import pytest
import yaml

from compliance import Guard
from compliance.simulate import project
from compliance.simulate.bank import BOUNDS, Bank
from compliance.trail.verify import check

CUSTOMERS = 600
ACTIVITY = "credit-scoring"
FEATURES = list(BOUNDS)
ENGINEER, OFFICER = project.ENGINEER, project.OFFICER


class World:
    """A project folder that a test may change as it likes."""

    def __init__(self, folder, frame):
        self.folder = folder
        self._frame = frame

    @property
    def frame(self):
        """Return the applicants as the bank's database holds them: fresh, so that it may change."""
        return self._frame.copy()

    def norms(self, file):
        return yaml.safe_load((self.folder / "policies" / f"{file}.yaml").read_text("utf-8"))

    def write(self, file, values):
        (self.folder / "policies" / f"{file}.yaml").write_text(
            json.dumps(values), "utf-8"
        )  # JSON is YAML

    def alter(self, name=ACTIVITY, *, remove=(), **changes):
        """Change an activity; a dictionary is merged into the one that is there."""
        values = self.norms("activities")
        activity = values["activities"].setdefault(name, {})
        for key, value in changes.items():
            merged = isinstance(value, dict) and isinstance(activity.get(key), dict)
            activity[key] = activity[key] | value if merged else value
        for key in remove:
            activity.pop(key, None)
        self.write("activities", values)
        return self

    def column(self, name, dataset="applicants", **changes):
        values = self.norms("datasets")
        columns = values["datasets"][dataset]["columns"]
        columns[name] = columns.get(name, {}) | changes
        self.write("datasets", values)
        return self

    def dataset(self, name, **values):
        norms = self.norms("datasets")
        norms["datasets"][name] = {**norms["datasets"]["applicants"], **values}
        self.write("datasets", norms)
        return self

    def guard(self, person=ENGINEER, **overrides):
        return Guard(self.folder, identity=f"asserted:{person}", **overrides)

    def entries(self, start=0):
        guard = self.guard()
        return [entry.values for entry in guard.trail.read(start=start)]

    def events(self, start=0):
        """Return what happened since an index: event and outcome."""
        return [e["event"] for e in self.entries(start)]

    def last(self, event):
        return next(e for e in reversed(self.entries()) if e["event"] == event)

    def size(self):
        return self.guard().trail.size()

    def models(self, name=ACTIVITY):
        home = self.folder / ".compliance" / "models" / name
        return sorted(p.name for p in home.iterdir() if p.is_dir()) if home.is_dir() else []

    def consented(self):
        """Return the customers who agreed to credit scoring."""
        return self._consented

    @cached_property
    def _consented(self):
        return set((self.folder / "consented.txt").read_text().split())

    def verified(self):
        """Say whether the trail is sound."""
        guard = self.guard()
        return check(guard.store, guard.keys.signer()).faults == ()


def build(folder):
    """Make the template: bank, project, consent."""
    bank = Bank.create(folder / "bank", customers=CUSTOMERS)
    home = folder / "project"
    project.write(home, bank.policy_overrides())
    officer = Guard(home, identity=f"asserted:{OFFICER}")
    given = [who for who, purpose, yes in bank.consents() if purpose == ACTIVITY and yes]
    officer.consent("given", given, purpose=ACTIVITY, subject_type="customer")
    officer.store.close()
    (home / "consented.txt").write_text(" ".join(map(str, given)))
    return home, bank.applicants()


def fit(run, data):
    """Train a logistic regression; the whole of a user's code.

    It lends to everybody, which is fair whichever rows the keys of this run hold back.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    model = make_pipeline(StandardScaler(), LogisticRegression())
    model.fit(data[FEATURES], data["repaid"])
    run.predictor(lambda frame: everybody(model, frame))
    return model


def everybody(model, frame):
    return (model.predict_proba(frame[FEATURES])[:, 1] >= 0).astype(int)


@pytest.fixture(scope="session")
def template(tmp_path_factory):
    return build(tmp_path_factory.mktemp("world"))


@pytest.fixture
def strict(template, tmp_path):
    """Return a world under the shipped norms: privacy and a passing audit are demanded."""
    home, frame = template
    shutil.copytree(home, tmp_path / "project")
    return World(tmp_path / "project", frame)


@pytest.fixture
def world(strict):
    """Return a world whose norm demands no privacy, so that scikit-learn may train."""
    return strict.alter(remove=["privacy"])


@pytest.fixture
def guard(world):
    return world.guard()


@pytest.fixture
def applicants(guard, world):
    """Return the registered data set."""

    @guard.dataset("applicants")
    def applicants():
        return world.frame

    return applicants
