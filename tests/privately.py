"""A user's private training, and what a test asks of the budget."""

import torch
from world import FEATURES

EPOCHS = 2


def tensors(frame):
    scale = torch.tensor([75, 120_000, 60_000, 40_000, 40.0])
    return torch.tensor(frame[FEATURES].fillna(0).to_numpy("float32")) / scale


def parts(data):
    """Return model, optimizer and loader as a user makes them."""
    torch.manual_seed(0)
    rows = torch.utils.data.TensorDataset(
        tensors(data), torch.tensor(data["repaid"].to_numpy("float32"))
    )
    model = torch.nn.Linear(len(FEATURES), 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
    return model, optimizer, torch.utils.data.DataLoader(rows, batch_size=128)


def steps(model, optimizer, loader, epochs=EPOCHS):
    for _ in range(epochs):
        for x, y in loader:
            optimizer.zero_grad()
            torch.nn.functional.binary_cross_entropy_with_logits(model(x).flatten(), y).backward()
            optimizer.step()


def lend(run, model):
    """Predict that everybody pays back: fair, so that privacy alone decides."""
    run.predictor(lambda frame: (model(tensors(frame)).flatten() > -1e9).int())
    return model


def private(run, data):
    model, optimizer, loader = run.private(*parts(data), epochs=EPOCHS)
    steps(model, optimizer, loader)
    return lend(run, model)


def spent(world):
    guard = world.guard()
    spending = guard.ledger.spending("applicants", guard.policy.budgets["applicants"])
    return float(spending.settled), float(spending.reserved)


def allow(world, epsilon):
    budgets = world.norms("budgets")
    budgets["budgets"]["applicants"]["epsilon"] = epsilon
    world.write("budgets", budgets)
    return world.guard()
