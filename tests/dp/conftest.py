"""A plan and a private training for the tests of the room."""

import pytest
import torch
from dp.networks import RULE, loader, network

from compliance.dp.plan import PrivacyPlan
from compliance.dp.training import make_private


@pytest.fixture(scope="module")
def plan():
    return PrivacyPlan.make(RULE, rows=400, batch_size=50, epochs=2)


@pytest.fixture
def private(plan):
    """A training of 2 epochs of 8 steps; the plan is shared, since finding noise takes time."""
    model = network()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.5, momentum=0.5)
    return make_private(model, optimizer, loader(), plan, epochs=2)
