"""Small networks, rows and loops for the tests of private training."""

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from compliance.policy import Privacy

RULE = Privacy(budget="b", epsilon=4.0, delta=1e-5)
criterion = nn.CrossEntropyLoss()


def rows(count=400, seed=1):
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(count, 4, generator=generator)
    return x, (x.sum(1) > 0).long()


def loader(count=400, batch_size=50, **options):
    return DataLoader(TensorDataset(*rows(count)), batch_size=batch_size, shuffle=True, **options)


def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 8), nn.ReLU(inplace=True), nn.Linear(8, 2))


def step(private, x, y):
    private.optimizer.zero_grad()
    loss = criterion(private.model(x), y)
    loss.backward()
    private.optimizer.step()


def one_epoch(private, batches=None):
    for x, y in batches or private.loader:
        step(private, x, y)


def parameters(model):
    return [p.detach().clone() for p in model.parameters()]


def same(before, model):
    return all(torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True))
