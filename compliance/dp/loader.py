"""Batches by Poisson sampling: each row is in with the plan's chance, whoever else is.

Batches vary in size and may be empty; an empty one has the structure that the loader's
own collate function gives one row, with no row in it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from compliance.dp.noise import Source
from compliance.dp.plan import PrivacyPlan
from compliance.errors import InputError

if TYPE_CHECKING:
    from torch.utils.data import DataLoader


class PoissonBatches:
    """Row numbers of each batch of one pass; notes the size of every batch it draws."""

    def __init__(self, source: Source, rows: int, plan: PrivacyPlan) -> None:
        self._source = source
        self._rows = rows
        self._plan = plan
        self.unused: deque[int] = deque()

    def __len__(self) -> int:
        return self._plan.steps_per_epoch

    def __iter__(self) -> Iterator[list[int]]:
        for _ in range(len(self)):
            chosen = self._source.uniform(self._rows) <= self._plan.sample_rate
            rows = chosen.nonzero().flatten().tolist()
            self.unused.append(len(rows))
            yield rows

    def use(self, rows: int) -> bool:
        """Take the oldest unused batch with room for these rows; say whether there was one.

        Batches are used in the order they were drawn and may be skipped; a batch may
        lose rows on its way and never gains any.
        """
        while self.unused:
            if self.unused.popleft() >= rows:
                return True
        return False


class Collate:
    """The loader's own collate function, which also knows what an empty batch looks like."""

    def __init__(self, collate: Callable[[list[Any]], Any], row: Any) -> None:
        self._collate = collate
        self._empty = _emptied(collate([row]))

    def __call__(self, rows: list[Any]) -> Any:
        """Return a batch; a fresh container around the same empty tensors for no rows."""
        return self._collate(rows) if rows else _emptied(self._empty)


def _emptied(batch: Any) -> Any:
    """Return the batch without its rows: copies, so that no row's values stay behind."""
    if hasattr(batch, "shape") and len(batch.shape) > 0:
        empty = batch[:0]
        return empty.clone() if hasattr(empty, "clone") else empty.copy()
    kind: Any = type(batch)
    if isinstance(batch, Mapping):
        return kind({key: _emptied(value) for key, value in batch.items()})
    if isinstance(batch, tuple) and hasattr(batch, "_fields"):
        return kind(*map(_emptied, batch))
    if isinstance(batch, list | tuple):
        kept = (value for value in batch if not isinstance(value, str | bytes | int | float))
        return kind(_emptied(value) for value in kept)
    raise InputError(
        f"the loader's batches hold a {type(batch).__name__}, which has no empty form; "
        "return tensors, or lists and dictionaries of tensors, from collate_fn"
    )


def size_of(loader: Any) -> tuple[int, int]:
    """Return rows and batch size of a loader that Poisson sampling can replace.

    Raises:
        InputError: no such loader; the message says what to change.
    """
    from torch.utils.data import BatchSampler, DataLoader, IterableDataset

    if not isinstance(loader, DataLoader):
        raise InputError(f"give a torch DataLoader, not a {type(loader).__name__}")
    if isinstance(loader.dataset, IterableDataset) or not hasattr(loader.dataset, "__len__"):
        raise InputError(
            "the loader's data set has no length; Poisson sampling needs a map-style Dataset"
        )
    if loader.batch_size is None or type(loader.batch_sampler) is not BatchSampler:
        raise InputError(
            "the loader has a batch sampler of its own, or none; give DataLoader a batch_size: "
            "batches are drawn by Poisson sampling from now on"
        )
    rows = len(loader.dataset)
    _require_all_rows(loader.sampler, rows)
    if rows == 0 or len(loader) == 0:
        raise InputError("the loader yields no batch; it needs at least one row and one full batch")
    return rows, loader.batch_size


def _require_all_rows(sampler: Any, rows: int) -> None:
    """A sampler that leaves rows out, or weighs them, would silently lose its meaning."""
    from torch.utils.data import RandomSampler, SequentialSampler

    plain = type(sampler) is SequentialSampler or (
        type(sampler) is RandomSampler and not sampler.replacement and sampler.num_samples == rows
    )
    if not plain:
        raise InputError(
            f"the loader's {type(sampler).__name__} would be replaced by Poisson sampling of every "
            "row; select rows with torch.utils.data.Subset instead"
        )


def poisson_loader(loader: DataLoader[Any], batches: PoissonBatches) -> DataLoader[Any]:
    """Return the loader with its batches drawn by Poisson sampling, all else as it was."""
    from torch.utils.data import DataLoader

    return DataLoader(
        loader.dataset,
        batch_sampler=batches,
        collate_fn=Collate(loader.collate_fn, loader.dataset[0]),
        num_workers=loader.num_workers,
        pin_memory=loader.pin_memory,
        timeout=loader.timeout,
        worker_init_fn=loader.worker_init_fn,
        multiprocessing_context=loader.multiprocessing_context,
        generator=loader.generator,
        prefetch_factor=loader.prefetch_factor,
        persistent_workers=loader.persistent_workers,
    )
