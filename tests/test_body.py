"""What a body gets: rows that come in sideways are refused, wherever they hide."""

import collections
import dataclasses
import functools
import logging
import types

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
import scipy.sparse
import torch
from sklearn.linear_model import LogisticRegression

from compliance import body
from compliance.controls import Call
from compliance.errors import Refused, UnregisteredData
from compliance.policy import Activity, Policy

FRAME = pd.DataFrame({"a": [1, 2]})
ROWS = torch.ones(2, 2)


def call(kind="training", unregistered="refuse"):
    activity = Activity(purpose="p", datasets=(), unregistered=unregistered)
    return Call(kind, "a", Policy(activities={"a": activity}), None)


@dataclasses.dataclass
class Config:
    data: object
    rate: float = 0.1


@dataclasses.dataclass(slots=True)
class Slotted:
    data: object


class Attribute:
    def __init__(self, data):
        self.hidden = {"deep": [data]}

    def method(self):
        """Do nothing."""


def closure(data):
    def inner():
        return data

    return inner


def generator():
    yield FRAME


Named = collections.namedtuple("Named", "data")  # noqa: PYI024  the old kind is also in use
SIDEWAYS = {
    "array": np.ones((2, 2)),
    "masked array": np.ma.ones(2),
    "object array": np.array([FRAME.to_dict()], dtype=object),
    "tensor": ROWS,
    "parameter": torch.nn.Parameter(ROWS),
    "sparse": scipy.sparse.eye(2).tocsr(),
    "series": FRAME["a"],
    "index": pd.Index([1, 2]),
    "polars series": pl.Series([1, 2]),
    "arrow array": pa.array([1, 2]),
    "arrow column": pa.chunked_array([[1, 2]]),
    "arrow batch": pa.RecordBatch.from_pydict({"a": [1]}),
    "data set": torch.utils.data.TensorDataset(ROWS),
    "loader": torch.utils.data.DataLoader(torch.utils.data.TensorDataset(ROWS)),
    "subset": torch.utils.data.Subset(torch.utils.data.TensorDataset(ROWS), [0]),
    "own data set": type("Mine", (torch.utils.data.Dataset,), {})(),
    "data class": Config(FRAME),
    "slots": Slotted(ROWS),
    "attribute": Attribute(FRAME),
    "bound method": Attribute(FRAME).method,
    "named tuple": Named(FRAME),
    "ordered dict": collections.OrderedDict(a=FRAME),
    "deque": collections.deque([FRAME]),
    "namespace": types.SimpleNamespace(data=FRAME),
    "user dict": collections.UserDict(a=FRAME),
    "closure": closure(FRAME),
    "default": lambda data=FRAME: data,
    "partial": functools.partial(print, FRAME),
    "keyword of a partial": functools.partial(print, end=ROWS),
    "values": {"a": FRAME}.values(),
    "generator": generator(),
    "iterator": iter([FRAME]),
    "map": map(str, [FRAME]),
    "zip": zip([1], [FRAME], strict=True),
    "bound reader": FRAME.head,
    "groups": FRAME.groupby("a"),
    "fitted estimator": LogisticRegression().fit([[0], [1]], [0, 1]),
}


@pytest.mark.parametrize("value", SIDEWAYS.values(), ids=SIDEWAYS)
@pytest.mark.parametrize("unregistered", ["refuse", "scan"])
def test_rows_that_come_in_sideways_are_refused(value, unregistered):
    with pytest.raises(UnregisteredData, match="past the controls"):
        body.refuse_sideways(call(unregistered=unregistered), value)


INNOCENT = {
    "numbers": 1.5,
    "text": "adam",
    "none": None,
    "scalar": np.float64(1.0),
    "array scalar": np.array(1.0),
    "tensor scalar": torch.tensor(1.0),
    "device": torch.device("cpu"),
    "type": np.float32,
    "generator of numbers": np.random.default_rng(0),
    "torch generator": torch.Generator(),
    "range": range(3),
    "module": torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.BatchNorm1d(2)),
    "optimizer": torch.optim.Adam(torch.nn.Linear(2, 1).parameters(), lr=torch.tensor(0.1)),
    "loss": torch.nn.BCEWithLogitsLoss(),
    "estimator": LogisticRegression(C=2.0),
    "function": len,
    "closure": closure({"depth": 3}),
    "config": Config({"layers": [1, 2]}),
    "logger": logging.getLogger("compliance"),
    "class": LogisticRegression,
    "library": np,
}


@pytest.mark.parametrize("value", INNOCENT.values(), ids=INNOCENT)
def test_settings_models_and_functions_pass(value):
    body.refuse_sideways(call(), value)


def test_a_cycle_ends():
    value = types.SimpleNamespace()
    value.self = [value]
    body.refuse_sideways(call(), value)


def test_a_variable_that_is_not_assigned_yet_holds_nothing():
    def inner():
        return later

    body.refuse_sideways(call(), inner)
    later = 1


MODELS = {
    "estimator": LogisticRegression(),
    "module": torch.nn.Linear(1, 1),
    "in a closure": closure(torch.nn.Linear(1, 1)),
    "bound": LogisticRegression().predict,
    "in a data class": Config(LogisticRegression()),
}


@pytest.mark.parametrize("value", MODELS.values(), ids=MODELS)
def test_a_decision_takes_no_model_from_its_caller(value):
    with pytest.raises(Refused, match=r"run\.model\(\)"):
        body.refuse_sideways(call("decision"), value)
    body.refuse_sideways(call("training"), value)


def test_walking_rebuilds_containers_and_touches_nothing_else():
    kept = Config(1)
    value = {"a": [1, (2, {3})], "b": kept, "c": frozenset({4})}
    seen = []
    walked = body.walk(value, lambda v: seen.append(v) or v)
    assert walked == value
    assert walked["a"] is not value["a"]
    assert walked["b"] is kept
    assert seen == [1, 2, 3, kept, 4]


@pytest.mark.parametrize(
    "item", [0.5, 3, "epoch 1", None, True, {"loss": 0.1, "step": 2}, (1, 0.5)]
)
def test_a_training_may_yield_progress(item):
    assert body.yielded(call(), item) is item


@pytest.mark.parametrize(
    "item",
    [
        FRAME,
        ROWS,
        np.ones(3),
        LogisticRegression(),
        torch.nn.Linear(1, 1),
        {"m": FRAME},
        [[1] * 17],
        list(range(99)),
    ],
    ids=lambda v: type(v).__name__,
)
def test_a_training_yields_neither_model_nor_rows(item):
    with pytest.raises(Refused, match=r"run\.release\(model\)"):
        body.yielded(call(), item)


@pytest.mark.parametrize(
    ("item", "decisions"),
    [
        (1, [1]),
        ("yes", ["yes"]),
        (np.int64(1), [1]),
        (np.array(0), [0]),
        (torch.tensor(1), [1]),
        (torch.tensor([[1], [0]]), [1, 0]),
        (np.array([0, 1]), [0, 1]),
        (pd.Series(["no", "yes"]), ["no", "yes"]),
        (pl.Series([1, 0]), [1, 0]),
        ([1, 1, 0], [1, 1, 0]),
    ],
    ids=str,
)
def test_decisions_are_yielded_one_by_one_or_in_batches(item, decisions):
    deciding = call("decision")
    deciding.model = object()
    assert body.yielded(deciding, item) is item
    assert deciding.yielded == decisions


def test_no_decision_is_yielded_before_the_sealed_model_was_asked_for():
    with pytest.raises(Refused, match="sealed model"):
        body.yielded(call("decision"), 1)
