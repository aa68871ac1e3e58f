"""A closed data set shows its name and opens nothing."""

import copy
import pickle

import numpy as np
import pandas as pd
import pytest

from compliance import frames
from compliance.errors import UnregisteredData
from compliance.handle import Handle, content_of

FRAME = pd.DataFrame({"name": ["Jane Doe"]})


@pytest.fixture
def handle():
    return Handle("people", "d" * 64, FRAME)


def test_it_shows_its_name_and_no_value(handle):
    assert repr(handle) == str(handle) == "<closed data set 'people', policy dddddddddddd>"
    assert (handle.dataset, handle.policy) == ("people", "d" * 64)


@pytest.mark.parametrize(
    "use",
    [
        lambda h: h.head(),
        lambda h: h.columns,
        lambda h: h._content,
        lambda h: getattr(h, "_content"),  # noqa: B009
        lambda h: h["name"],
        lambda h: h[0],
        len,
        bool,
        list,
        lambda h: "name" in h,
        pickle.dumps,
        copy.copy,
        copy.deepcopy,
        pd.DataFrame,
        lambda h: pd.DataFrame({"x": h}),
    ],
)
def test_every_use_is_refused(handle, use):
    with pytest.raises(UnregisteredData, match=r"guard\.activity"):
        use(handle)


def test_it_cannot_be_passed_off_as_another_data_set(handle):
    for change in (
        lambda: setattr(handle, "dataset", "public"),
        lambda: setattr(handle, "policy", "other"),
        lambda: setattr(handle, "_content", None),
        lambda: delattr(handle, "dataset"),
    ):
        with pytest.raises(UnregisteredData):
            change()
    assert (handle.dataset, content_of(handle) is FRAME) == ("people", True)


def test_it_is_no_frame_and_asking_does_not_open_it(handle):
    assert not frames.is_frame(handle)
    assert not frames.is_series(handle)
    assert not hasattr(handle, "__array__")


def test_an_array_of_it_holds_the_closed_handle_and_no_row(handle):
    assert np.asarray(handle, dtype=object).item() is handle


def test_it_has_no_dictionary_to_look_into(handle):
    with pytest.raises(TypeError):
        vars(handle)
