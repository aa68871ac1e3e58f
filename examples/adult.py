"""Stories 1 and 2 on the Adult census: train under the policy, then audit from the command line.

    python examples/adult.py DIR

DIR holds ``adult.data`` and ``adult.test`` (UCI Machine Learning Repository, CC BY 4.0).
A project is made in a temporary folder; everything the guard did is told at the end.
"""

from __future__ import annotations

import csv
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
from compliance.config import initialise
from compliance.access.identity import account_name

BOUNDS = {  # public: what a census form allows
    "age": (17, 90),
    "education-num": (1, 16),
    "capital-gain": (0, 99_999),
    "capital-loss": (0, 4_356),
    "hours-per-week": (1, 99),
}
CATEGORIES = {  # public: adult.names lists them
    "workclass": "Private Self-emp-not-inc Self-emp-inc Federal-gov Local-gov State-gov Without-pay Never-worked ?",
    "education": "Bachelors Some-college 11th HS-grad Prof-school Assoc-acdm Assoc-voc 9th 7th-8th 12th Masters "
    "1st-4th 10th Doctorate 5th-6th Preschool",
    "marital-status": "Married-civ-spouse Divorced Never-married Separated Widowed Married-spouse-absent "
    "Married-AF-spouse",
    "occupation": "Tech-support Craft-repair Other-service Sales Exec-managerial Prof-specialty Handlers-cleaners "
    "Machine-op-inspct Adm-clerical Farming-fishing Transport-moving Priv-house-serv Protective-serv "
    "Armed-Forces ?",
    "relationship": "Wife Own-child Husband Not-in-family Other-relative Unmarried",
    "native-country": "United-States Cambodia England Puerto-Rico Canada Germany "
    "Outlying-US(Guam-USVI-etc) India Japan Greece South China Cuba Iran Honduras Philippines Italy Poland "
    "Jamaica Vietnam Mexico Portugal Ireland France Dominican-Republic Laos Ecuador Taiwan Haiti Columbia "
    "Hungary Guatemala Nicaragua Scotland Thailand Yugoslavia El-Salvador Trinadad&Tobago Peru Hong "
    "Holand-Netherlands ?",
    "race": "White Asian-Pac-Islander Amer-Indian-Eskimo Other Black",
    "sex": "Female Male",
}
NAMES = [
    "age", "workclass", "fnlwgt", "education", "education-num", "marital-status", "occupation",
    "relationship", "race", "sex", "capital-gain", "capital-loss", "hours-per-week",
    "native-country", "income",
]  # fmt: skip
PROTECTED = ("race", "sex")
EPOCHS, BATCH, SEEDS = 20, 512, 3


def read(path: Path, offset: int) -> pd.DataFrame:
    """Read one of the two files; the subject is the row number, the test file's after the first's."""
    frame = pd.read_csv(path, names=NAMES, skipinitialspace=True, comment="|")
    frame.insert(0, "person", range(offset, offset + len(frame)))
    frame["over_50k"] = frame["income"].str.rstrip(".").eq(">50K").astype(int)
    return frame.drop(columns="income")


def policy() -> dict[str, Any]:
    """Return the norms of this project: what each column serves, and what the models are held to."""
    used = {"purposes": ["census-research"]}
    open_to_all = {name: used for name in ("person", *BOUNDS, *CATEGORIES, "over_50k")}
    blind = open_to_all | {name: used | {"audit_only": True} for name in PROTECTED}
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
        path.write_text(yaml.safe_dump({k: norms.get(k, v) for k, v in values.items()}), "utf-8")
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


def main(folder: Path) -> None:
    """Run both stories and print what docs/results.md records."""
    home = Path(tempfile.mkdtemp(prefix="compliance-adult-"))
    guard = project(home)
    train_rows, test_rows = read(folder / "adult.data", 0), read(folder / "adult.test", 100_000)
    test = test_rows["over_50k"].to_numpy()

    everyone = [*train_rows["person"], *test_rows["person"]]
    guard.consent("given", everyone, purpose="census-research")
    withdrawn = [p for i, p in enumerate(train_rows["person"]) if i % 50 == 0]
    guard.consent("withdrawn", withdrawn, purpose="census-research")

    @guard.dataset("adult")
    def adult() -> pd.DataFrame:
        return train_rows

    @guard.dataset("adult-blind")
    def adult_blind() -> pd.DataFrame:
        return train_rows

    @guard.dataset("adult-test")
    def adult_test() -> pd.DataFrame:
        return test_rows

    @guard.dataset("adult-blind-test")
    def adult_blind_test() -> pd.DataFrame:
        return test_rows

    def plain(run: Run, data: pd.DataFrame) -> LogisticRegression:
        model = LogisticRegression(max_iter=2_000).fit(features(data), data["over_50k"])
        run.predictor(lambda frame: model.predict(features(frame)))
        return model

    @guard.training("income-private")
    def private(run: Run, data: pd.DataFrame) -> torch.nn.Module:
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
        with torch.no_grad():
            return (model(torch.tensor(features(frame))).flatten() > 0).int().tolist()

    baseline = guard.training("income-plain")(plain)(adult())
    report("no privacy, with sex and race", baseline.predict(features(test_rows)), test, test_rows)
    blind = guard.training("income-blind")(plain)(adult_blind())
    hidden = test_rows.drop(columns=list(PROTECTED))
    report("no privacy, without them", blind.predict(features(hidden)), test, test_rows)

    accuracies = []
    for seed in range(SEEDS):
        torch.manual_seed(seed)
        began = time.perf_counter()
        model = private(adult())
        predictions = np.array(decide(model, test_rows))
        seconds = time.perf_counter() - began
        accuracies.append((predictions == test).mean())
        report(f"epsilon 1, seed {seed} ({seconds:.1f} s)", predictions, test, test_rows)
    print(f"mean accuracy of {SEEDS} private models: {np.mean(accuracies):.4f}")
    audits(guard, home, predictions, test_rows)


def report(title: str, predictions: Any, labels: Any, rows: pd.DataFrame) -> None:
    """Print accuracy and the demographic parity difference by sex."""
    rates = pd.Series(np.asarray(predictions)).groupby(rows["sex"].to_numpy()).mean()
    accuracy = (np.asarray(predictions) == labels).mean()
    print(f"{title}: accuracy {accuracy:.4f}, parity difference {rates.max() - rates.min():.4f}")


def audits(guard: Guard, home: Path, predictions: Any, rows: pd.DataFrame) -> None:
    """Tell what the trail says, and run the command-line audits as a stranger would."""
    opened = [e.values["facts"] for e in guard.trail.read(filters={"event": "training.opened"})]
    dropped = {e["rows_without_consent"] for e in opened if not e["audit_only"]}
    ended = guard.trail.read(filters={"event": "training.outcome"})
    epsilons = [e.values["facts"]["epsilon"] for e in ended if "epsilon" in e.values["facts"]]
    print(f"rows dropped for want of consent: {dropped}; epsilons: {epsilons}")
    scored = home / "scored.csv"
    with scored.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["sex", "race", "label", "prediction"])
        writer.writerows(zip(rows["sex"], rows["race"], rows["over_50k"], predictions, strict=True))
    census = home / "census.csv"
    rows.drop(columns="person").to_csv(census, index=False)
    columns = ["--label", "label", "--prediction", "prediction", "--sensitive", "sex,race"]
    run(home, "audit", "pii", str(census))
    run(home, "audit", "fairness", str(scored), *columns)
    run(home, "trail", "verify")
    run(home, "budget", "show")
    print(f"trail: {guard.trail.size()} entries; the project: {home}")


def run(home: Path, *arguments: str) -> None:
    """Run a command in the project and print its last lines and its exit code."""
    command = [sys.executable, "-m", "compliance", "-C", str(home), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603  our own command
    print(f"$ compliance {' '.join(arguments[:2])}: exit {done.returncode}")
    print("\n".join(f"    {line}" for line in done.stdout.splitlines()[:14]))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
