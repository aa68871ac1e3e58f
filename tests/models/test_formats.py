"""Models become bytes and come back the same, and no bytes run code."""

import io
import json
import pickle
import zipfile

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as numpy_strategies
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler

from compliance.errors import InputError, MissingExtra, ModelRejected
from compliance.models import formats

X = np.random.default_rng(0).normal(size=(60, 3))
Y = (X[:, 0] > 0).astype(int)
TREES = ["sklearn.tree._tree.Tree"]


def network():
    return torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.BatchNorm1d(4), torch.nn.Dropout())


def pipeline():
    return make_pipeline(StandardScaler(), LogisticRegression()).fit(X, Y)


# -- there and back ------------------------------------------------------------------


def test_a_torch_module_comes_back_into_a_fresh_one_and_in_evaluation_mode():
    model = network()
    name, data = formats.serialise(model)
    assert name == "torch"
    again = formats.parse(name, data, into=network())
    assert not again.training
    assert torch.equal(again(torch.tensor(X).float()), model.eval()(torch.tensor(X).float()))


def test_without_a_module_a_dictionary_of_tensors_comes_back():
    model = network()
    tensors = formats.parse(*formats.serialise(model))
    assert tensors.keys() == model.state_dict().keys()
    assert all(torch.equal(tensors[name], value) for name, value in model.state_dict().items())


def test_opacus_wrapping_is_taken_off():
    from opacus.grad_sample import GradSampleModule

    plain = torch.nn.Linear(3, 1)
    wrapped = GradSampleModule(plain)
    again = formats.parse(*formats.serialise(wrapped), into=torch.nn.Linear(3, 1))
    assert torch.equal(again.weight, plain.weight)
    into = formats.parse(*formats.serialise(plain), into=GradSampleModule(torch.nn.Linear(3, 1)))
    assert type(into) is torch.nn.Linear


def test_data_parallel_wrapping_is_taken_off():
    model = torch.nn.DataParallel(torch.nn.Linear(2, 1))
    assert set(formats.parse(*formats.serialise(model))) == {"weight", "bias"}


def test_tied_weights_stay_tied():
    def tied():
        module = torch.nn.ModuleList([torch.nn.Linear(3, 3), torch.nn.Linear(3, 3)])
        module[1].weight = module[0].weight
        return module

    model = tied()
    again = formats.parse(*formats.serialise(model), into=tied())
    assert again[0].weight is again[1].weight
    assert torch.equal(again[1].weight, model[0].weight)


def test_a_scikit_learn_pipeline_comes_back_with_the_same_predictions():
    model = pipeline()
    name, data = formats.serialise(model)
    assert name == "skops"
    again = formats.parse(name, data)
    np.testing.assert_array_equal(again.predict_proba(X), model.predict_proba(X))


def test_types_that_skops_distrusts_need_the_caller_s_word_on_both_sides():
    model = RandomForestClassifier(3, random_state=0).fit(X, Y)
    with pytest.raises(InputError, match=r"sklearn\.tree\._tree\.Tree"):
        formats.serialise(model)
    name, data = formats.serialise(model, trusted=TREES)
    with pytest.raises(ModelRejected, match=r"sklearn\.tree\._tree\.Tree"):
        formats.parse(name, data)
    again = formats.parse(name, data, trusted=TREES)
    np.testing.assert_array_equal(again.predict(X), model.predict(X))


@given(
    arrays=st.dictionaries(
        st.text("abc_.0", min_size=1, max_size=5),
        numpy_strategies.arrays(
            st.sampled_from(["<f4", ">f8", "<i8", ">i2", "u1", "?", "f2", "c8"]),
            numpy_strategies.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=4),
        ),
        min_size=1,
        max_size=3,
    ),
)
def test_arrays_come_back_equal_whatever_their_shape_type_and_byte_order(arrays):
    name, data = formats.serialise(arrays)
    again = formats.parse(name, data)
    assert again.keys() == arrays.keys()
    for key, value in arrays.items():
        assert again[key].dtype == value.dtype.newbyteorder("=")
        np.testing.assert_array_equal(again[key], value)
        assert again[key].flags.writeable


def test_views_that_are_not_contiguous_come_back_equal():
    base = np.arange(24.0).reshape(4, 6)
    views = {"t": base.T, "step": base[::2, ::-1], "fortran": np.asfortranarray(base)}
    again = formats.parse(*formats.serialise(views))
    for key, value in views.items():
        np.testing.assert_array_equal(again[key], value)


# -- what cannot be sealed -------------------------------------------------------------


@pytest.mark.parametrize(
    "model",
    [
        None,
        "model",
        lambda rows: rows,
        object(),
        {},
        {1: np.zeros(2)},
        {"a": [1.0, 2.0]},
        {"a": np.array([None])},
        {"a": np.array(["text"])},
        {"a": np.array(["2020-01-01"], dtype="datetime64[D]")},
        {"a": np.ma.masked_array([1.0, 2.0], [True, False])},
        {"a": np.zeros(2, dtype=np.longdouble)},
        {"a": np.zeros(2, dtype=[("x", "f8")])},
        torch.nn.ReLU(),
        torch.zeros(3),
        LogisticRegression,
        torch.nn.Linear,
    ],
)
def test_what_has_no_safe_format_cannot_be_sealed(model):
    with pytest.raises(InputError, match="cannot be sealed"):
        formats.serialise(model)


def test_a_module_with_state_beyond_tensors_cannot_be_sealed():
    class Odd(torch.nn.Linear):
        def get_extra_state(self):
            return {"note": "anything"}

    with pytest.raises(InputError, match="more than tensors: _extra_state"):
        formats.serialise(Odd(1, 1))


def test_a_module_with_sparse_state_cannot_be_sealed():
    module = torch.nn.Module()
    indices, values = torch.tensor([[0], [1]]), torch.tensor([1.0])
    tensor = torch.sparse_coo_tensor(indices, values, (2, 2), check_invariants=True)
    module.register_buffer("sparse", tensor.coalesce())
    with pytest.raises(InputError, match="sparse"):
        formats.serialise(module)


def test_a_pipeline_with_a_function_of_the_user_s_own_cannot_be_sealed():
    model = make_pipeline(FunctionTransformer(lambda rows: rows), LogisticRegression()).fit(X, Y)
    with pytest.raises(InputError, match="cannot be sealed"):
        formats.serialise(model)


# -- what is not loaded -----------------------------------------------------------------


class Exploit:
    """Says what was run, if it ever is."""

    ran = False

    def __reduce__(self):
        return setattr, (Exploit, "ran", True)


@pytest.mark.parametrize("name", formats.FORMATS)
@pytest.mark.parametrize(
    "data",
    [b"", b"\x00" * 100, b"\xff" * 100, b"PK\x03\x04", pickle.dumps({}, protocol=0)],
)
def test_foreign_bytes_are_rejected_in_every_format(name, data):
    with pytest.raises(ModelRejected, match=r"format|safetensors|skops"):
        formats.parse(name, data)


@pytest.mark.parametrize("name", formats.FORMATS)
def test_a_pickle_is_rejected_unrun(name):
    buffer = io.BytesIO()
    torch.save({"a": 1}, buffer)
    for data in (pickle.dumps(Exploit()), buffer.getvalue()):
        with pytest.raises(ModelRejected):
            formats.parse(name, data)
    assert not Exploit.ran


def skops_file(schema):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("schema.json", json.dumps(schema))
    return buffer.getvalue()


def hostile_schema(data, module, name):
    """Return a valid skops file in which one type was replaced by another."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        schema = json.loads(archive.read("schema.json"))
        rest = {n: archive.read(n) for n in archive.namelist() if n != "schema.json"}
    schema["__module__"], schema["__class__"] = module, name
    buffer = io.BytesIO(skops_file(schema))
    with zipfile.ZipFile(buffer, "a") as archive:
        for entry, content in rest.items():
            archive.writestr(entry, content)
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("module", "name"), [("os", "system"), ("subprocess", "Popen"), ("builtins", "eval")]
)
def test_a_skops_file_with_a_foreign_type_is_rejected_and_the_type_named(module, name):
    data = hostile_schema(formats.serialise(pipeline())[1], module, name)
    with pytest.raises(ModelRejected, match=rf"neither.*{module}\.{name}"):
        formats.parse("skops", data)


def test_a_foreign_type_cannot_be_trusted_even_by_the_caller():
    data = hostile_schema(formats.serialise(pipeline())[1], "os", "system")
    for trusted in (["os.system"], ["sklearn.tree._tree.Tree", "builtins.eval"], ["sklearnx.A"]):
        with pytest.raises(InputError, match="only numpy and scikit-learn"):
            formats.parse("skops", data, trusted=trusted)


def test_trusted_is_a_list_and_not_one_string():
    with pytest.raises(InputError, match="list of type names"):
        formats.parse("skops", b"", trusted="sklearn.tree._tree.Tree")


@pytest.mark.parametrize(
    "schema", [{}, [], None, {"protocol": 99}, {"protocol": 2, "__loader__": "NoSuchNode"}]
)
def test_a_skops_file_without_a_sound_schema_is_rejected(schema):
    with pytest.raises(ModelRejected, match="skops"):
        formats.parse("skops", skops_file(schema))


def test_a_skops_file_that_lacks_its_arrays_is_rejected():
    with zipfile.ZipFile(io.BytesIO(formats.serialise(pipeline())[1])) as archive:
        schema = json.loads(archive.read("schema.json"))
    with pytest.raises(ModelRejected, match="skops"):
        formats.parse("skops", skops_file(schema))


def test_an_unknown_format_is_rejected():
    with pytest.raises(ModelRejected, match="unknown model format 'pickle'"):
        formats.parse("pickle", b"")


@pytest.mark.parametrize(
    "other",
    [
        torch.nn.Linear(3, 2),
        torch.nn.Linear(3, 1, bias=False),
        torch.nn.Linear(3, 1, dtype=torch.float64),
        torch.nn.Sequential(torch.nn.Linear(3, 1)),
    ],
    ids=repr,
)
def test_a_module_that_does_not_fit_is_left_as_it_was(other):
    before = {name: value.clone() for name, value in other.state_dict().items()}
    with pytest.raises(InputError, match="differ at"):
        formats.parse(*formats.serialise(torch.nn.Linear(3, 1)), into=other)
    assert all(torch.equal(other.state_dict()[name], value) for name, value in before.items())


def test_into_is_for_torch_modules_alone():
    with pytest.raises(InputError, match="leave into out"):
        formats.parse(*formats.serialise(pipeline()), into=torch.nn.Linear(3, 1))
    with pytest.raises(InputError, match="must be a torch module"):
        formats.parse(*formats.serialise(torch.nn.Linear(3, 1)), into={})


@pytest.mark.parametrize(
    ("model", "package", "extra"),
    [
        ({"a": np.zeros(1)}, "safetensors", "dp"),
        (torch.nn.Linear(1, 1), "safetensors", "dp"),
        (LogisticRegression(), "skops", "fairness"),
    ],
    ids=repr,
)
def test_a_missing_package_is_named_with_its_install_command(monkeypatch, model, package, extra):
    def missing(name):
        raise ImportError(name)

    monkeypatch.setattr(formats, "import_module", missing)
    with pytest.raises(MissingExtra, match=rf"{package} is not installed.*\[{extra}\]"):
        formats.serialise(model)
