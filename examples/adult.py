"""Stories 1 and 2 on the Adult census: train under the policy, then audit from the command line.

    python examples/adult.py DIR

DIR holds ``adult.data`` and ``adult.test`` (UCI Machine Learning Repository, CC BY 4.0).
A project is made in a temporary folder; everything the guard did is told at the end.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
import yaml
from sklearn.linear_model import LogisticRegression

from compliance import Guard, Run
from compliance.access.identity import account_name
from compliance.config import initialise

BOUNDS = {  # public: what a census form allows
    "age": (17, 90),
    "education-num": (1, 16),
    "capital-gain": (0, 99_999),
    "capital-loss": (0, 4_356),
    "hours-per-week": (1, 99),
}
CATEGORIES = {  # public: adult.names lists them
    "workclass": """Private Self-emp-not-inc Self-emp-inc Federal-gov Local-gov State-gov
        Without-pay Never-worked ?""",
    "education": """Bachelors Some-college 11th HS-grad Prof-school Assoc-acdm Assoc-voc 9th
        7th-8th 12th Masters 1st-4th 10th Doctorate 5th-6th Preschool""",
    "marital-status": """Married-civ-spouse Divorced Never-married Separated Widowed
        Married-spouse-absent Married-AF-spouse""",
    "occupation": """Tech-support Craft-repair Other-service Sales Exec-managerial Prof-specialty
        Handlers-cleaners Machine-op-inspct Adm-clerical Farming-fishing Transport-moving
        Priv-house-serv Protective-serv Armed-Forces ?""",
    "relationship": "Wife Own-child Husband Not-in-family Other-relative Unmarried",
    "native-country": """United-States Cambodia England Puerto-Rico Canada Germany
        Outlying-US(Guam-USVI-etc) India Japan Greece South China Cuba Iran Honduras Philippines
        Italy Poland Jamaica Vietnam Mexico Portugal Ireland France Dominican-Republic Laos
        Ecuador Taiwan Haiti Columbia Hungary Guatemala Nicaragua Scotland Thailand Yugoslavia
        El-Salvador Trinadad&Tobago Peru Hong Holand-Netherlands ?""",
    "race": "White Asian-Pac-Islander Amer-Indian-Eskimo Other Black",
    "sex": "Female Male",
}
NAMES = [
    "age", "workclass", "fnlwgt", "education", "education-num", "marital-status", "occupation",
    "relationship", "race", "sex", "capital-gain", "capital-loss", "hours-per-week",
    "native-country", "income",
]  # fmt: skip
PROTECTED = ("race", "sex")
EPOCHS, BATCH, SEEDS = 10, 512, 3


def read(path: Path, offset: int) -> pd.DataFrame:
    """Read one of the two files; the subject is the row number, counted from an offset."""
    frame = pd.read_csv(path, names=NAMES, skipinitialspace=True, comment="|")
    frame.insert(0, "person", range(offset, offset + len(frame)))
    frame["over_50k"] = frame["income"].str.rstrip(".").eq(">50K").astype(int)
    return frame.drop(columns="income")


def policy() -> dict[str, Any]:
    """Return the norms of this project: what each column serves, and what models are held to."""
    used = {"purposes": ["census-research"]}
    open_to_all: dict[str, Any] = dict.fromkeys(("person", *BOUNDS, *CATEGORIES, "over_50k"), used)
    blind = open_to_all | dict.fromkeys(PROTECTED, used | {"audit_only": True})
    fairness = {
        "label": "over_50k",
        "positive": 1,
        "sensitive": ["sex"],
        "norms": ["parity-20"],
        "rows": {"dataset": "adult-test"},
    }
    activity = {"purpose": "census-research", "datasets": ["adult"], "fairness": fairness}
    rows_blind = fairness | {"rows": {"dataset": "adult-blind-test"}}
    budget = {"dataset": "adult", "unit": "row", "epsilon": float(SEEDS), "delta": SEEDS * 1e-5}
    return {
        "purposes": {"census-research": {"description": "Predict income", "basis": "consent"}},
        "datasets": {
            name: {"subject": "person", "columns": columns}
            for name, columns in {
                "adult": open_to_all,
                "adult-test": open_to_all,
                "adult-blind": blind,
                "adult-blind-test": blind,
            }.items()
        },
        "budgets": {"adult": budget},
        "activities": {
            "income-plain": activity,
            "income-blind": activity | {"datasets": ["adult-blind"], "fairness": rows_blind},
            "income-private": activity
            | {"privacy": {"budget": "adult", "epsilon": 1.0, "delta": 1e-5}},
        },
    }


def project(folder: Path) -> Guard:
    """Write policies and settings, and return the guard that reads them."""
    initialise(folder, member=account_name())
    norms = policy()
    for path in (folder / "policies").glob("*.yaml"):
        values = yaml.safe_load(path.read_text("utf-8"))
        merged = {key: norms.get(key, value) for key, value in values.items()}
        path.write_text(json.dumps(merged, indent=1, default=str), "utf-8")  # JSON is YAML
    return Guard(folder)


def features(frame: pd.DataFrame) -> np.ndarray:
    """Return rows x features: numbers scaled by public bounds, one-hot over public categories."""
    parts = [
        ((frame[name] - low) / (high - low)).clip(0, 1).to_numpy()[:, None]
        for name, (low, high) in BOUNDS.items()
    ]
    for name, words in CATEGORIES.items():
        if name in frame:
            codes = pd.Categorical(frame[name], categories=words.split())
            parts.append(pd.get_dummies(codes).to_numpy())
    return np.hstack(parts).astype(np.float32)


def plain(run: Run, data: pd.DataFrame) -> LogisticRegression:
    """Train without privacy: the baseline."""
    model = LogisticRegression(max_iter=3_000, C=100).fit(features(data), data["over_50k"])
    run.predictor(lambda frame: model.predict(features(frame)))
    return model


def private(run: Run, data: pd.DataFrame) -> torch.nn.Module:
    """Train with privacy: the same loop as without, after one line."""
    rows, labels = torch.tensor(features(data)), torch.tensor(data["over_50k"].to_numpy())
    model = torch.nn.Linear(rows.shape[1], 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=2.0)
    dataset = torch.utils.data.TensorDataset(rows, labels.float())
    loader = torch.utils.data.DataLoader(dataset, batch_size=BATCH)
    model, optimizer, loader = run.private(model, optimizer, loader, epochs=EPOCHS)
    for _ in range(EPOCHS):
        for x, y in loader:
            optimizer.zero_grad()
            logits = model(x).flatten()
            torch.nn.functional.binary_cross_entropy_with_logits(logits, y).backward()
            optimizer.step()
    run.predictor(lambda frame: decide(model, frame))
    return model


def decide(model: torch.nn.Module, frame: pd.DataFrame) -> list[int]:
    """Return 1 where the model says that income is above 50K."""
    with torch.no_grad():
        return (model(torch.tensor(features(frame))).flatten() > 0).int().tolist()


def register(guard: Guard, train: pd.DataFrame, test: pd.DataFrame) -> dict[str, Any]:
    """Register the four data sets: with and without the protected columns, to train and to test."""
    frames = {"adult": train, "adult-blind": train, "adult-test": test, "adult-blind-test": test}

    def loader(frame: pd.DataFrame) -> Any:
        def load() -> pd.DataFrame:
            return frame

        return load

    return {name: guard.dataset(name)(loader(frame)) for name, frame in frames.items()}


def main(folder: Path) -> None:
    """Run both stories and print what docs/results.md records."""
    torch.set_num_threads(1)  # the layer is small: threads cost more than they save
    home = Path(tempfile.mkdtemp(prefix="compliance-adult-"))
    guard = project(home)
    train, test = read(folder / "adult.data", 0), read(folder / "adult.test", 100_000)
    data = register(guard, train, test)
    guard.consent("given", [*train["person"], *test["person"]], purpose="census-research")
    withdrawn = [person for i, person in enumerate(train["person"]) if i % 50 == 0]
    guard.consent("withdrawn", withdrawn, purpose="census-research")

    model = guard.training("income-plain")(plain)(data["adult"]())
    tell("no privacy, with sex and race", model.predict(features(test)), test)
    model = guard.training("income-blind")(plain)(data["adult-blind"]())
    tell("no privacy, without", model.predict(features(test.drop(columns=list(PROTECTED)))), test)
    predictions = [one_private(guard, data["adult"], seed, test) for seed in range(SEEDS)]
    accuracies = [(p == test["over_50k"]).mean() for p in predictions]
    print(f"mean accuracy of {SEEDS} private models: {np.mean(accuracies):.4f}")
    audits(guard, home, predictions[-1], test)


def one_private(guard: Guard, adult: Any, seed: int, test: pd.DataFrame) -> np.ndarray:
    """Train one private model and return its predictions for the test file."""
    torch.manual_seed(seed)  # the start of the weights; the noise has its own generator
    began = time.process_time()
    model = guard.training("income-private")(private)(adult())
    seconds = time.process_time() - began
    predictions = np.array(decide(model, test))
    tell(f"epsilon 1, seed {seed} ({seconds:.1f} s of CPU)", predictions, test)
    return predictions


def tell(title: str, predictions: np.ndarray, test: pd.DataFrame) -> None:
    """Print accuracy and the demographic parity difference by sex."""
    rates = pd.Series(predictions).groupby(test["sex"].to_numpy()).mean()
    accuracy = (predictions == test["over_50k"].to_numpy()).mean()
    print(f"{title}: accuracy {accuracy:.4f}, parity difference {rates.max() - rates.min():.4f}")


def audits(guard: Guard, home: Path, predictions: np.ndarray, test: pd.DataFrame) -> None:
    """Tell what the trail says, and run the command-line audits as a stranger would."""
    opened = [e.values["facts"] for e in guard.trail.read(filters={"event": "training.opened"})]
    dropped = {facts["rows_without_consent"] for facts in opened if not facts["audit_only"]}
    ended = [e.values["facts"] for e in guard.trail.read(filters={"event": "training.outcome"})]
    epsilons = [facts["epsilon"] for facts in ended if "epsilon" in facts]
    print(f"rows dropped for want of consent: {dropped}; epsilons: {epsilons}")
    scored = test[["sex", "race"]].assign(label=test["over_50k"], prediction=predictions)
    scored.to_csv(home / "scored.csv", index=False)
    test.drop(columns="person").to_csv(home / "census.csv", index=False)
    columns = ["--label", "label", "--prediction", "prediction", "--sensitive", "sex,race"]
    run(home, "audit", "pii", str(home / "census.csv"))
    run(home, "audit", "fairness", str(home / "scored.csv"), *columns)
    run(home, "trail", "verify")
    run(home, "budget", "show")
    print(f"trail: {guard.trail.size()} entries; the project: {home}")


def run(home: Path, *arguments: str) -> None:
    """Run a command in the project and print the beginning of its answer and its exit code."""
    command = [sys.executable, "-m", "compliance", "-C", str(home), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603  our own command
    print(f"$ compliance {' '.join(arguments[:2])}: exit {done.returncode}")
    print("\n".join(f"    {line}" for line in done.stdout.splitlines()[:14]))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
