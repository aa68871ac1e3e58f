"""``compliance demo``: its folder and its size; tests/simulate/test_demo.py runs the story."""

import pytest


def test_a_project_of_ones_own_is_never_taken_over(cli, project):
    before = (project / "policies/roles.yaml").read_bytes()
    answer = cli("demo", project)
    assert (answer.code, answer.out) == (2, "")
    assert "not empty; name a new folder" in answer.err
    assert (project / "policies/roles.yaml").read_bytes() == before


@pytest.mark.parametrize("size", ["10", "1000000", "many"])
def test_a_bank_of_no_size_to_tell_anything_by_is_a_2(cli, outside, size):
    answer = cli("demo", outside / "demo", "--customers", size)
    assert (answer.code, answer.out) == (2, "")
    assert list(outside.iterdir()) == []


def test_the_story_is_told_on_stdout(cli, outside, monkeypatch):
    def tell(folder, *, customers, say):
        say(f"{customers} in {folder}")

    monkeypatch.setattr("compliance.simulate.demo.run", tell)
    answer = cli("demo", "here", "--customers", "3000")
    assert (answer.code, answer.out, answer.err) == (0, "3000 in here\n", "")
