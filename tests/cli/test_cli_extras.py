"""A missing extra is a 2 that names the command which installs it, never a weaker result."""

import subprocess
import sys

import pytest

CODE = """
import sys
for name in sys.argv.pop(1).split(","):
    sys.modules[name] = None
from compliance.cli import main
main(sys.argv[1:])
"""
FAIRNESS = ("--label", "repaid", "--prediction", "predicted", "--sensitive", "sex")


@pytest.mark.parametrize(
    ("modules", "words", "extra"),
    [
        ("presidio_analyzer", ("audit", "pii", "{}/contacts.csv"), "pii"),
        ("spacy", ("audit", "pii", "{}/contacts.csv"), "pii"),
        (
            "fairlearn,fairlearn.metrics",
            ("audit", "fairness", "{}/applications.csv", *FAIRNESS),
            "fairness",
        ),
        ("psycopg", ("audit", "pii", "postgresql://u:hunter2@127.0.0.1:1/db"), "postgres"),
        ("pymysql", ("datamap", "discover", "mysql://u:hunter2@127.0.0.1:1/db"), "mysql"),
        ("opacus", ("demo", "here"), "demo"),
    ],
    ids=lambda v: v if isinstance(v, str) else v[0],
)
def test_the_command_that_installs_it_is_named(exports, outside, modules, words, extra):
    command = [sys.executable, "-c", CODE, modules, *(w.format(exports) for w in words)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    assert (done.returncode, done.stdout) == (2, "")
    assert f"pip install 'compliance-toolkit[{extra}]'" in done.stderr
    assert "hunter2" not in done.stderr
    assert list(outside.iterdir()) == []
