from typing import NamedTuple

import numpy as np
import pytest
import torch
from torch.utils.data import (
    BatchSampler,
    DataLoader,
    Dataset,
    IterableDataset,
    RandomSampler,
    SequentialSampler,
    Subset,
    SubsetRandomSampler,
    TensorDataset,
    WeightedRandomSampler,
)

from compliance.dp.loader import Collate, PoissonBatches, poisson_loader, size_of
from compliance.dp.noise import Source
from compliance.dp.plan import PrivacyPlan
from compliance.errors import InputError

ROWS = TensorDataset(torch.arange(20.0).reshape(10, 2), torch.arange(10))


def plan(rows=10, batch=2, epochs=1):
    return PrivacyPlan(
        epsilon=1.0,
        delta=1e-5,
        max_grad_norm=1.0,
        noise_multiplier=1.0,
        sample_rate=batch / rows,
        steps=epochs * -(-rows // batch),
        epochs=epochs,
        batch=float(batch),
    )


def test_each_row_is_drawn_independently_at_the_plan_s_rate():
    batches = PoissonBatches(Source(), 50, plan(50, 5, 1))
    drawn = torch.zeros(50)
    sizes = []
    for _ in range(400):
        for rows in batches:
            drawn[rows] += 1
            sizes.append(len(rows))
    assert len(sizes) == 4_000
    assert (drawn / 4_000 - 0.1).abs().max() < 0.03  # six standard deviations
    # A fixed batch has variance 0; Poisson sampling has n q (1 - q) = 4.5.
    assert torch.tensor(sizes).float().var() == pytest.approx(4.5, rel=0.2)


def test_a_pass_has_as_many_batches_as_the_plan_says():
    loader = poisson_loader(
        DataLoader(ROWS, batch_size=3), PoissonBatches(Source(), 10, plan(10, 3))
    )
    assert len(loader) == len(list(loader)) == 4


def test_an_empty_batch_has_the_structure_of_the_others():
    batches = PoissonBatches(Source(), 10, plan(10, 2))
    loader = poisson_loader(DataLoader(ROWS, batch_size=2, shuffle=True), batches)
    x, y = loader.collate_fn([])
    assert (x.shape, x.dtype) == ((0, 2), torch.float32)
    assert (y.shape, y.dtype) == ((0,), torch.int64)


class Pair(NamedTuple):
    x: torch.Tensor
    y: float


@pytest.mark.parametrize(
    "row",
    [
        {"ids": torch.ones(3), "label": 1},
        Pair(torch.ones(3), 2.0),
        (np.ones(3), {"deep": [torch.ones(1)]}),
        {"text": "somebody", "x": torch.ones(2)},
    ],
    ids=["mapping", "named", "nested", "text"],
)
def test_any_structure_that_torch_collates_has_an_empty_form(row):
    from torch.utils.data import default_collate

    def tensors(value):
        if isinstance(value, torch.Tensor):
            return [value]
        values = value.values() if isinstance(value, dict) else value
        return [t for item in values if not isinstance(item, str) for t in tensors(item)]

    empty = Collate(default_collate, row)([])
    assert type(empty) is type(default_collate([row]))
    assert tensors(empty)
    assert all(len(t) == 0 for t in tensors(empty))


def test_an_empty_batch_keeps_no_row_in_memory():
    empty = Collate(torch.stack, torch.full((4,), 7.0))([])
    assert empty.untyped_storage().nbytes() == 0


def test_a_batch_without_an_empty_form_is_refused_at_once():
    with pytest.raises(InputError, match="hold a object, which has no empty form"):
        Collate(lambda _: object(), 1)


def test_workers_load_the_batches_that_were_drawn():
    batches = PoissonBatches(Source(), 10, plan(10, 5))
    loader = poisson_loader(DataLoader(ROWS, batch_size=5, num_workers=1), batches)
    sizes = [len(y) for _, y in loader]
    assert sizes == list(batches.unused)


def test_a_batch_is_used_once_and_never_grows():
    batches = PoissonBatches(Source(), 10, plan())
    batches.unused.extend([3, 0, 5])
    assert batches.use(2)  # the batch of 3, a row lost
    assert batches.use(5)  # the empty one skipped
    assert not batches.use(0)


class Endless(IterableDataset):
    def __iter__(self):
        yield torch.ones(1)


class Lengthless(Dataset):
    def __getitem__(self, index):
        return torch.ones(1)


@pytest.mark.parametrize(
    ("loader", "message"),
    [
        ([1, 2], "give a torch DataLoader, not a list"),
        (None, "not a NoneType"),
        (DataLoader(Endless(), batch_size=2), "no length"),
        (DataLoader(Lengthless(), batch_size=2, sampler=SequentialSampler(range(4))), "no length"),
        (DataLoader(ROWS, batch_sampler=[[0, 1], [2]]), "batch sampler of its own"),
        (DataLoader(ROWS, batch_size=None), "or none"),
        (DataLoader(ROWS, batch_size=2, sampler=SubsetRandomSampler([1, 2])), "Subset instead"),
        (DataLoader(ROWS, batch_size=2, sampler=WeightedRandomSampler([1.0] * 10, 10)), "Weighted"),
        (
            DataLoader(ROWS, batch_size=2, sampler=RandomSampler(ROWS, replacement=True)),
            "RandomSampler",
        ),
        (DataLoader(Subset(ROWS, []), batch_size=2), "no batch"),
        (DataLoader(ROWS, batch_size=11, drop_last=True), "no batch"),
    ],
)
def test_loaders_that_poisson_sampling_cannot_replace_are_refused(loader, message):
    with pytest.raises(InputError, match=message):
        size_of(loader)


@pytest.mark.parametrize(
    "options", [{}, {"shuffle": True}, {"drop_last": True}, {"shuffle": True, "drop_last": True}]
)
def test_ordinary_loaders_are_accepted(options):
    assert size_of(DataLoader(ROWS, batch_size=3, **options)) == (10, 3)


def test_a_plain_batch_sampler_by_hand_has_no_batch_size_to_plan_with():
    sampler = BatchSampler(SequentialSampler(ROWS), 2, drop_last=False)
    with pytest.raises(InputError, match="batch_size"):
        size_of(DataLoader(ROWS, batch_sampler=sampler))
