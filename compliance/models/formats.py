"""Models as bytes and back: safetensors for tensors, skops for scikit-learn, never pickle.

A pickle runs code as it is read. Safetensors holds numbers and shapes alone; skops holds
the names of types, which are compared with a list before the first object is made.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping
from importlib import import_module
from typing import TYPE_CHECKING, Any

from compliance.errors import InputError, MissingExtra, ModelRejected

if TYPE_CHECKING:
    import numpy as np
    import torch

TORCH = "torch"
SKOPS = "skops"
ARRAYS = "arrays"
FORMATS = (TORCH, SKOPS, ARRAYS)

_TRUSTABLE = ("numpy.", "sklearn.")


def serialise(model: object, *, trusted: Iterable[str] = ()) -> tuple[str, bytes]:
    """Return the name of a model's format, and the model as bytes.

    A torch module gives its parameters and buffers, freed of the wrappers of Opacus,
    distributed training and ``torch.compile``; a scikit-learn estimator or pipeline all
    its fitted state; a dictionary of numpy arrays itself.

    Args:
        model: ``torch.nn.Module``, scikit-learn estimator or ``dict[str, numpy.ndarray]``.
        trusted: as in `parse`: what could not be loaded again is not written.

    Raises:
        InputError: the model cannot be sealed; the message says why.
    """
    if _is_a(model, "torch.nn", "Module"):
        return TORCH, _dump_module(_unwrap(model))
    if _is_a(model, "sklearn.base", "BaseEstimator"):
        return SKOPS, _dump_estimator(model, _allowed(trusted))
    if isinstance(model, Mapping):
        return ARRAYS, _dump_arrays(model)
    raise _unsealable(
        f"{type(model).__name__} is no torch module, scikit-learn estimator or dictionary of arrays"
    )


def parse(name: str, data: bytes, *, into: object = None, trusted: Iterable[str] = ()) -> Any:
    """Return the model that `serialise` made bytes of.

    Hand in verified bytes only (`artefact.load`). Even so nothing here runs code from them.

    Args:
        name: the format: ``torch``, ``skops`` or ``arrays``.
        data: the bytes.
        into: for ``torch``: a module of the same architecture, whose parameters are replaced
            and which is returned in evaluation mode. Without it, a dictionary of CPU tensors.
        trusted: for ``skops``: full names of numpy and scikit-learn types to accept beside
            those that skops itself trusts, such as ``sklearn.tree._tree.Tree``.

    Raises:
        ModelRejected: the bytes are not of this format, or name a type that is not trusted.
        InputError: ``into`` is no module, has other parameters, or was given for another
            format; a trusted name is of neither numpy nor scikit-learn.
    """
    if into is not None and name != TORCH:
        raise InputError(f"a model of format {name!r} is not loaded into a module; leave into out")
    if name == TORCH:
        tensors = _load_tensors(data)
        return tensors if into is None else _fill(into, tensors)
    if name == SKOPS:
        return _load_estimator(data, _allowed(trusted))
    if name == ARRAYS:
        return _load_arrays(data)
    raise ModelRejected(f"unknown model format {name!r}; known: {', '.join(FORMATS)}")


# -- torch -----------------------------------------------------------------------

_WRAPPERS = (  # module, class, attribute that holds the module inside
    ("opacus.grad_sample", "AbstractGradSampleModule", "_module"),
    ("opacus.distributed", "DifferentiallyPrivateDistributedDataParallel", "module"),
    ("torch.nn.parallel", "DistributedDataParallel", "module"),
    ("torch.nn.parallel", "DataParallel", "module"),
    ("torch._dynamo.eval_frame", "OptimizedModule", "_orig_mod"),
)


def _unwrap(module: Any) -> torch.nn.Module:
    """Return the module that the user wrote, from inside any number of wrappers."""
    for home, name, inner in _WRAPPERS:
        if _is_a(module, home, name):
            return _unwrap(getattr(module, inner))
    wrapped: torch.nn.Module = module
    return wrapped


def _dump_module(module: torch.nn.Module) -> bytes:
    tensors = module.state_dict()
    if not tensors:
        raise _unsealable("the module has no parameters")
    odd = sorted(name for name, value in tensors.items() if not _is_a(value, "torch", "Tensor"))
    if odd:
        raise _unsealable(f"its state holds more than tensors: {', '.join(odd)}")
    save = _safetensors("torch").save
    try:
        # Cloned: safetensors refuses tied tensors, and loads both copies to the same values.
        plain = {n: value.detach().cpu().contiguous().clone() for n, value in tensors.items()}
        data: bytes = save(plain)
    except (ValueError, KeyError, TypeError, RuntimeError) as error:
        raise _unsealable("a tensor is sparse or of a type without a safe format") from error
    return data


def _load_tensors(data: bytes) -> dict[str, torch.Tensor]:
    read = _safetensors("torch").load
    try:
        tensors: dict[str, torch.Tensor] = read(data)
    except Exception as error:  # whatever hostile bytes make the reader raise
        raise ModelRejected("the model is not in safetensors format") from error
    return tensors


def _fill(into: object, tensors: dict[str, torch.Tensor]) -> torch.nn.Module:
    """Load the tensors; all names, shapes and types are compared before the first is written."""
    if not _is_a(into, "torch.nn", "Module"):
        raise InputError(f"into must be a torch module, not {type(into).__name__}")
    module = _unwrap(into)
    wanted = {name: _kind(value) for name, value in module.state_dict().items()}
    given = {name: _kind(value) for name, value in tensors.items()}
    wrong = sorted(n for n in wanted.keys() | given.keys() if wanted.get(n) != given.get(n))
    if wrong:
        raise InputError(
            f"the module handed in does not fit the sealed one; they differ at: {', '.join(wrong)}"
        )
    module.load_state_dict(tensors, strict=True)
    return module.eval()


def _kind(tensor: torch.Tensor) -> tuple[tuple[int, ...], torch.dtype]:
    return tuple(tensor.shape), tensor.dtype


# -- scikit-learn ------------------------------------------------------------------


def _dump_estimator(model: object, trusted: list[str]) -> bytes:
    skops_io = _skops()
    try:
        data: bytes = skops_io.dumps(model)
    except Exception as error:  # skops raises what the state's own types raise
        raise _unsealable(
            f"skops cannot write this {type(model).__name__}; functions and objects of your own "
            "have no safe format"
        ) from error
    unknown = _untrusted(skops_io, data, trusted)
    if unknown:
        raise _unsealable(f"it could not be loaded again: {_advice(unknown)}")
    return data


def _load_estimator(data: bytes, trusted: list[str]) -> Any:
    """Load in two steps: the names of all types first, and the objects only if all are trusted."""
    skops_io = _skops()
    try:
        unknown = _untrusted(skops_io, data, trusted)
    except Exception as error:  # whatever hostile bytes make the reader raise
        raise ModelRejected("the model is not in skops format") from error
    if unknown:
        raise ModelRejected(f"the model is not loaded: {_advice(unknown)}")
    try:
        return skops_io.loads(data, trusted=trusted)
    except Exception as error:
        raise ModelRejected("the model's skops file is damaged") from error


def _untrusted(skops_io: Any, data: bytes, trusted: list[str]) -> list[str]:
    return sorted(set(skops_io.get_untrusted_types(data=data)) - set(trusted))


def _advice(unknown: list[str]) -> str:
    names = ", ".join(unknown)
    if all(name.startswith(_TRUSTABLE) for name in unknown):
        return f"it holds types that skops does not trust; if you do, pass trusted=: {names}"
    return f"it holds types that are neither numpy's nor scikit-learn's: {names}"


def _allowed(trusted: Iterable[str]) -> list[str]:
    """Return the names as a list, all of them numpy's or scikit-learn's.

    Raises:
        InputError: another package's name, or one string instead of several.
    """
    if isinstance(trusted, str):
        raise InputError("trusted takes a list of type names, not one string")
    names = list(trusted)
    odd = [name for name in names if not name.startswith(_TRUSTABLE)]
    if odd:
        raise InputError(f"only numpy and scikit-learn types can be trusted, not: {', '.join(odd)}")
    return names


# -- arrays --------------------------------------------------------------------------


def _dump_arrays(arrays: Mapping[Any, Any]) -> bytes:
    if not arrays or not all(isinstance(name, str) for name in arrays):
        raise _unsealable("the dictionary must map at least one name to an array")
    plain = {name: _plain(name, value) for name, value in arrays.items()}
    save = _safetensors("numpy").save
    try:
        data: bytes = save(plain)
    except Exception as error:  # the writer's error type is its own, and derives from Exception
        raise _unsealable("an array is of a type without a safe format") from error
    return data


def _plain(name: str, value: Any) -> np.ndarray[Any, Any]:
    """Return the array contiguous and in native byte order: safetensors copies raw memory."""
    import numpy as np

    if not isinstance(value, np.ndarray) or isinstance(value, np.ma.MaskedArray):
        raise _unsealable(f"{name!r} is a {type(value).__name__}, not a numpy array")
    if value.dtype.kind not in "biufc":
        raise _unsealable(f"{name!r} holds {value.dtype}, not numbers")
    return np.array(value, dtype=value.dtype.newbyteorder("="), order="C", subok=False)


def _load_arrays(data: bytes) -> dict[str, np.ndarray[Any, Any]]:
    import numpy as np

    read = _safetensors("numpy").load
    try:
        return {name: np.array(value) for name, value in read(data).items()}
    except Exception as error:  # whatever hostile bytes make the reader raise
        raise ModelRejected("the model is not in safetensors format") from error


# -- shared --------------------------------------------------------------------------


def _safetensors(flavour: str) -> Any:
    return _library(f"safetensors.{flavour}", "dp")


def _skops() -> Any:
    return _library("skops.io", "fairness")


def _library(module: str, extra: str) -> Any:
    try:
        return import_module(module)
    except ImportError as error:
        raise MissingExtra(extra, module.partition(".")[0]) from error


def _is_a(value: object, module: str, name: str) -> bool:
    """Say whether a value is an instance of a class, without importing the class's module.

    Whoever holds an instance has loaded the module that defines it.
    """
    kind = getattr(sys.modules.get(module), name, None)
    return isinstance(kind, type) and isinstance(value, kind)


def _unsealable(why: str) -> InputError:
    return InputError(f"the model cannot be sealed: {why}")
