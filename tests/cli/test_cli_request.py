"""``compliance request``: a person's request, from receipt to certificate, by several hands."""

import json
import re
import sqlite3
import stat
import subprocess
import sys

import pytest
import yaml

from compliance import Guard, frames
from compliance.rights.certificate import verify_certificate

CLERK, OFFICER = "sam", "grace"


@pytest.fixture
def email(office):
    """Return the address of one customer."""
    return frames.column(frames.wrap(office.applicants()), "email")[41]


@pytest.fixture
def submit(cli, become, email):
    """Return a function that has the clerk submit a request."""

    def hand_in(kind="erasure", **_):
        become(CLERK)
        answer = cli("request", "submit", "--subject", f"email={email}", "--kind", kind)
        assert answer.code == 0, answer.err
        return answer.out.strip()

    return hand_in


@pytest.fixture
def advance(cli, become, submit):
    """Return a function that takes a new request as far as a state; its id."""
    steps = {
        "received": None, "identified": (CLERK, "identify"), "planned": (CLERK, "plan"),
        "approved": (OFFICER, "approve"), "verifying": (OFFICER, "run"), "closed": (OFFICER, "verify"),
    }  # fmt: skip

    def go(state, kind="erasure"):
        key = submit(kind)
        for name, step in steps.items():
            if step:
                become(step[0])
                answer = cli("request", step[1], key[:8])
                assert answer.code == 0, (step, answer.err)
            if name == state:
                return key
        raise AssertionError(state)

    return go


def _state(cli, key):
    lines = [line.split() for line in cli("request", "list").out.splitlines()]
    return next(line[3] for line in lines if line[0] == key[:8])


def _count(bank, email):
    with sqlite3.connect(bank.folder / "bank.db") as connection:
        query = "SELECT count(*) FROM customer WHERE email = ?"
        found = connection.execute(query, (email,)).fetchone()[0]
    connection.close()
    return found


# -- the story -------------------------------------------------------------------------------------


def test_a_person_is_found_erased_proved_and_certified(cli, become, office, email):
    said = []

    def do(who, *words):
        become(who)
        answer = cli("request", *words)
        assert answer.code == 0, answer.err
        said.append(answer.all)
        return answer

    submitted = do(CLERK, "submit", "--subject", f"email={email}")
    key = submitted.out.strip()
    assert re.fullmatch(r"[0-9a-f]{32}", key)
    assert re.search(r"answer by \d{4}-\d\d-\d\d; next: compliance request identify", submitted.err)
    assert "customer" in do(CLERK, "identify", key[:8]).out
    assert re.search(r"delete +1 ", do(CLERK, "plan", key).out)
    do(OFFICER, "approve", key)
    assert "rolled back" in do(OFFICER, "run", key, "--dry-run").err
    assert _count(office, email) == 1
    do(OFFICER, "run", key)
    assert _count(office, email) == 0
    do(OFFICER, "verify", key)
    do(OFFICER, "certificate", key, "-o", "certificate.json")
    written = (office.folder.parent / "certificate.json").read_text()
    assert do(OFFICER, "certificate", key).out == written
    assert _state(cli, key) == "closed"
    become(OFFICER)
    said.append(cli("trail", "list", "-n", "100", "-f", "json").out)
    assert email not in "".join(said)
    assert cli("trail", "verify").code == 0


def test_the_certificate_is_signed_by_the_project_s_key(cli, advance, become, office):
    key = advance("closed")
    envelope = json.loads(cli("request", "certificate", key).out)
    guard = Guard(office.folder.parent)
    statement = verify_certificate(envelope, guard.keys.signer())
    guard.store.close()
    assert key in json.dumps(statement)


def test_each_answer_names_the_next_command_and_it_is_the_next(cli, become, submit):
    key, who, steps = submit(), CLERK, []
    answer = cli("request", "identify", key[:8])
    while found := re.search(r"next: compliance request (\w+) ([0-9a-f]{8})", answer.err):
        steps.append(found[1])
        who = OFFICER if found[1] == "approve" else who
        become(who)
        answer = cli("request", *found.groups())
        assert answer.code == 0, answer.err
    assert steps == ["plan", "approve", "run", "verify", "certificate"]


def test_a_person_unknown_is_a_request_that_closes_empty(cli, become, office):
    become(CLERK)
    key = cli("request", "submit", "--subject", "email=nobody@example.com").out.strip()
    answer = cli("request", "identify", key)
    assert answer.code == 0
    assert "nothing is held about this person" in answer.err


# -- who may ---------------------------------------------------------------------------------------


def test_the_submitter_does_not_approve(cli, advance, become):
    key = advance("planned")
    become(CLERK)
    answer = cli("request", "approve", key)
    assert (answer.code, answer.out) == (4, "")
    assert "another person than 'sam'" in answer.err
    assert _state(cli, key) == "planned"


def test_nor_does_the_submitter_in_the_name_of_another(cli, advance, become, office):
    path = office.folder.parent / "policies/roles.yaml"
    roles = yaml.safe_load(path.read_text())
    roles["roles"]["impersonate"]["members"] = [CLERK]
    path.write_text(yaml.safe_dump(roles))
    key = advance("planned")
    become(CLERK)
    answer = cli("--as", OFFICER, "request", "approve", key)
    assert (answer.code, answer.out) == (4, "")
    assert "another person than 'sam'" in answer.err
    assert _state(cli, key) == "planned"


def test_acting_for_another_without_the_role_is_refused_and_on_record(cli, advance, become):
    key = advance("planned")
    become("ada")
    answer = cli("--as", OFFICER, "request", "approve", key)
    assert (answer.code, answer.out) == (4, "")
    assert "impersonate" in answer.err
    become(OFFICER)
    assert "refused" in cli("trail", "list", "-n", "1").out
    assert _state(cli, key) == "planned"


def test_a_stranger_sees_and_does_nothing(cli, advance, become):
    key = advance("approved")
    become("mallory")
    for words in (
        ("list",),
        ("run", key),
        ("certificate", key),
        ("submit", "--subject", "email=a@b.c"),
    ):
        answer = cli("request", *words)
        assert (answer.code, answer.out) == (4, ""), words


def test_who_may_only_submit_still_learns_the_id(cli, become, office, email):
    path = office.folder.parent / "policies/roles.yaml"
    roles = yaml.safe_load(path.read_text())
    roles["roles"]["intake"] = {
        "members": ["ines"], "allow": [{"object": "request/*", "actions": ["submit"]}],
    }  # fmt: skip
    path.write_text(yaml.safe_dump(roles))
    become("ines")
    answer = cli("request", "submit", "--subject", f"email={email}")
    assert answer.code == 0, answer.err
    assert answer.out.strip()[:8] in answer.err


# -- out of turn -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("state", "words"),
    [
        ("received", ("plan",)),
        ("received", ("run",)),
        ("identified", ("approve",)),
        ("planned", ("run",)),
        ("planned", ("verify",)),
        ("planned", ("certificate",)),
        ("closed", ("run",)),
        ("closed", ("approve",)),
        ("closed", ("refuse", "--ground", "GDPR Art. 17(3)(b)")),
    ],
)
def test_a_step_out_of_turn_changes_nothing(cli, advance, become, state, words):
    key = advance(state)
    become(OFFICER)
    answer = cli("request", words[0], key, *words[1:])
    assert (answer.code, answer.out) == (4, "")
    assert state in answer.err
    assert _state(cli, key) == state


@pytest.mark.parametrize("prefix", ["", "0", "zzzz", "%", "' or 1=1"])
def test_a_prefix_that_is_none_or_too_short_means_no_request(cli, submit, prefix):
    """Also where there is one request only: an unset shell variable must not name it."""
    submit()
    answer = cli("request", "identify", prefix)
    assert (answer.code, answer.out) == (2, "")


def test_a_prefix_that_two_share_is_refused(cli, submit, become, monkeypatch):
    import uuid

    monkeypatch.setattr(uuid, "uuid4", iter([uuid.UUID(int=1), uuid.UUID(int=2)]).__next__)
    submit()
    assert cli("request", "submit", "--subject", "email=other@example.com").code == 0
    answer = cli("request", "identify", "0000")
    assert (answer.code, answer.out) == (2, "")
    assert "2 requests begin" in answer.err


def test_a_request_can_be_refused_with_its_ground_only(cli, advance, become, email):
    key = advance("planned")
    become(OFFICER)
    assert cli("request", "refuse", key).code == 2
    named = cli("request", "refuse", key, "--ground", f"{email} owes us money")
    assert named.code == 2
    assert email not in named.all
    assert cli("request", "refuse", key, "--ground", "GDPR Art. 17(3)(b)").code == 0
    assert _state(cli, key) == "refused"


def test_a_policy_that_changed_since_the_plan_is_a_4(cli, advance, become, office, email):
    key = advance("approved")
    path = office.folder.parent / "policies/purposes.yaml"
    path.write_text(path.read_text() + "# another word\n")
    answer = cli("request", "run", key)
    assert answer.code == 4
    assert "plan again" in answer.err
    assert _count(office, email) == 1


# -- what is submitted -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "words",
    [
        (),
        ("--subject", "emial=a@example.com"),
        ("--subject", "email="),
        ("--subject", "email=a@example.com", "--subject", "email=b@example.com"),
        ("--subject", "email=a@example.com", "--kind", "forget"),
        ("--subject", "email=a@example.com", "--regulation", "gdrp"),
    ],
)
def test_a_wrong_request_is_a_2_and_none_is_received(cli, become, office, words):
    become(CLERK)
    answer = cli("request", "submit", *words)
    assert (answer.code, answer.out) == (2, "")
    assert "example.com" not in answer.err
    assert len(cli("request", "list").out.splitlines()) == 1


def test_a_second_request_about_the_same_person_is_refused(cli, submit, email):
    submit()
    answer = cli("request", "submit", "--subject", f"email={email}")
    assert (answer.code, answer.out) == (2, "")
    assert "open already" in answer.err


def test_the_person_may_be_named_on_standard_input(cli, become, office, email, stdin):
    become(CLERK)
    stdin(f"email={email}\n".encode())
    answer = cli("request", "submit", "--subject", "-")
    assert answer.code == 0, answer.err
    assert "customer" in cli("request", "identify", answer.out.strip()).out


def test_a_bare_value_is_taken_where_it_can_mean_one_thing_only(cli, become, office, email):
    become(CLERK)
    answer = cli("request", "submit", "--subject", email)
    assert "customer" in cli("request", "identify", answer.out.strip()).out
    path = office.folder.parent / "policies/rights.yaml"
    rights = yaml.safe_load(path.read_text())
    rights["stores"]["bank"]["subjects"][0]["identifiers"] = ["email", "phone"]
    path.write_text(yaml.safe_dump(rights))
    answer = cli("request", "submit", "--subject", "other@example.com")
    assert (answer.code, answer.out) == (2, "")
    assert "email, phone" in answer.err
    assert "other" not in answer.err


def test_without_a_data_map_nobody_can_be_found(cli, project):
    answer = cli("request", "submit", "--subject", "email=a@example.com")
    assert (answer.code, answer.out) == (2, "")
    assert "data map is empty" in answer.err


def test_the_list_names_nobody(cli, advance, email):
    key = advance("planned")
    answer = cli("request", "list")
    assert (answer.code, answer.err) == (0, "")
    assert key[:8] in answer.out
    assert email not in answer.out


# -- access ----------------------------------------------------------------------------------------


def test_an_access_package_is_for_its_owner_and_never_overwritten(
    cli, advance, become, office, email
):
    key = advance("approved", kind="access")
    package = office.folder.parent / "package.json"
    answer = cli("request", "run", key, "-o", package)
    assert (answer.code, answer.out) == (0, "")
    assert stat.S_IMODE(package.stat().st_mode) == 0o600
    assert email in json.dumps(json.loads(package.read_text()))
    again = cli("request", "run", key, "-o", package)
    assert again.code == 2
    assert "already" in again.err
    assert cli("request", "run", key, "-o", office.folder.parent / "second.json").code == 0
    assert _count(office, email) == 1
    become(OFFICER)
    assert email not in cli("trail", "list", "-n", "100", "-f", "json").out


def test_an_access_package_goes_to_stdout_alone(cli, advance, email):
    answer = cli("request", "run", advance("approved", kind="access"))
    assert email in json.dumps(json.loads(answer.out))
    assert email not in answer.err


@pytest.mark.parametrize("target", ["missing/package.json", "bank"])
def test_a_package_that_cannot_be_written_is_refused_before_the_run(cli, advance, target):
    key = advance("approved", kind="access")
    answer = cli("request", "run", key, "-o", target)
    assert (answer.code, answer.out) == (2, "")
    assert _state(cli, key) == "approved"


def test_an_erasure_writes_no_package(cli, advance, office, email):
    key = advance("approved")
    answer = cli("request", "run", key, "-o", "package.json")
    assert (answer.code, answer.out) == (2, "")
    assert _count(office, email) == 1


# -- at once ---------------------------------------------------------------------------------------


def test_two_runs_at_once_erase_once(cli, advance, become, office, email):
    key = advance("approved")
    command = [sys.executable, "-m", "compliance", "request", "run", key]
    both = [
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) for _ in range(2)
    ]
    said = [process.communicate(timeout=120) for process in both]
    codes = sorted(process.returncode for process in both)
    assert codes == [0, 4], said
    assert b"internal error" not in said[0][1] + said[1][1]
    assert _count(office, email) == 0
    become(OFFICER)
    assert cli("request", "verify", key).code == 0
    assert cli("trail", "verify").code == 0
