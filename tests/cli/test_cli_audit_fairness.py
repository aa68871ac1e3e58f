"""``compliance audit fairness``: labels of every spelling, groups of every size, norms by name."""

import json

import pytest

COLUMNS = ("--label", "label", "--prediction", "prediction", "--sensitive", "sex")
FAIR = [(sex, v, v, 100) for sex in "fm" for v in (0, 1)]
UNFAIR = [("f", 1, 0, 150), ("f", 1, 1, 50), ("m", 1, 1, 150), ("m", 0, 0, 50)]


@pytest.fixture
def audit(cli, outside):
    return lambda file, *options: cli("audit", "fairness", file, *COLUMNS, *options)


def _verdict(answer):
    return json.loads(answer.out)["verdict"]


def test_equal_rates_pass_and_a_gap_beyond_chance_fails(audit, scored):
    fair, unfair = audit(scored(*FAIR)), audit(scored(*UNFAIR))
    assert (fair.code, unfair.code) == (0, 1)
    assert unfair.err.endswith("Fairness audit: fail, 1 finding\n")


def test_a_gap_that_fails_is_no_failure_below_the_severity_asked_for(audit, scored):
    assert audit(scored(*UNFAIR), "--fail-on", "critical").code == 0


@pytest.mark.parametrize(
    ("no", "yes"),
    [("no", "yes"), ("No", "Yes"), ("false", "true"), ("0.0", "1.0"), ("n", "y"), (0, 1)],
)
def test_every_spelling_of_yes_gives_the_same_figures(audit, scored, no, yes):
    def spelled(rows):
        return [(sex, [no, yes][a], [no, yes][b], n) for sex, a, b, n in rows]

    answer = audit(scored(*spelled(UNFAIR)), "-f", "json")
    plain = audit(scored(*UNFAIR, name="plain.csv"), "-f", "json")
    tables = [json.loads(a.out)["outcomes"][0]["tables"] for a in (answer, plain)]
    assert answer.code == 1
    assert tables[0] == tables[1]


@pytest.mark.parametrize("positive", ["good", "bad"])
def test_the_favourable_value_can_be_named(audit, scored, positive):
    rows = [(sex, ["bad", "good"][a], ["bad", "good"][b], n) for sex, a, b, n in FAIR]
    assert audit(scored(*rows), "--positive", positive).code == 0


@pytest.mark.parametrize("positive", ["1", "1.0", "true"])
def test_a_favourable_number_may_be_typed_in_any_way(audit, scored, positive):
    spelled = {"true": ("false", "true")}.get(positive, ("0.0", "1.0"))
    rows = [(sex, spelled[a], spelled[b], n) for sex, a, b, n in FAIR]
    assert audit(scored(*rows), "--positive", positive).code == 0


def test_without_a_name_an_unknown_spelling_is_refused_and_never_a_zero(audit, scored):
    rows = [(sex, ["bad", "good"][a], ["bad", "good"][b], n) for sex, a, b, n in FAIR]
    answer = audit(scored(*rows))
    assert (answer.code, answer.out) == (2, "")
    assert "--positive" in answer.err
    assert audit(scored(*rows), "--positive", "splendid").code == 2


def test_scores_are_no_decisions(audit, scored):
    rows = [(s, v % 2, v / 40, 5) for s in "fm" for v in range(40)]
    answer = audit(scored(*rows))
    assert (answer.code, answer.out) == (2, "")
    assert "threshold" in answer.err


def test_a_column_is_refused_with_the_nearest_one(cli, outside, scored):
    file = scored(*FAIR)
    for wrong, right in (("lable", "label"), ("predictoin", "prediction"), ("sexx", "sex")):
        options = [wrong if o == right else o for o in COLUMNS]
        answer = cli("audit", "fairness", file, *options)
        assert (answer.code, answer.out) == (2, "")
        assert f"did you mean {right!r}" in answer.err


def test_a_header_that_is_a_person_is_not_told(cli, outside, scored):
    file = scored(*FAIR, header="Jane Doe,jane@example.com,1970-01-01")
    answer = cli("audit", "fairness", file, *COLUMNS)
    assert answer.code == 2
    assert "jane" not in answer.err.lower()


@pytest.mark.parametrize("sensitive", ["", ",", "sex,sex"])
def test_columns_of_groups_must_be_named_once(cli, outside, scored, sensitive):
    options = [sensitive if o == "sex" else o for o in COLUMNS]
    assert cli("audit", "fairness", scored(*FAIR), *options).code == 2


# -- too little to decide ----------------------------------------------------------------------


@pytest.mark.parametrize(
    "rows",
    [
        [("f", 1, 1, 100), ("f", 0, 0, 100)],
        [("f", 1, 0, 5), ("m", 1, 1, 5)],
        [],
    ],
    ids=["one-group", "tiny-groups", "no-row"],
)
def test_too_little_is_a_3_and_no_pass(audit, scored, rows):
    file = scored(*rows)
    answer = audit(file, "-f", "json")
    assert (answer.code, _verdict(answer)) == (3, "insufficient evidence")
    allowed = audit(file, "--allow-insufficient", "-f", "json")
    assert (allowed.code, _verdict(allowed)) == (0, "insufficient evidence")
    assert "allowed" in allowed.out


def test_leaving_the_group_out_does_not_hide_a_gap(audit, scored):
    hidden = [("" if sex == "f" else sex, *rest) for sex, *rest in UNFAIR]
    answer = audit(scored(*hidden), "-f", "json")
    assert (answer.code, _verdict(answer)) == (1, "fail")


def test_rows_without_a_prediction_are_refused(audit, scored):
    answer = audit(scored(*FAIR, ("f", 1, "", 3)))
    assert answer.code == 2
    assert "3 of 403 rows have no value" in answer.err


@pytest.mark.parametrize("name", ["missing.csv", "scored.xlsx"])
def test_a_file_that_cannot_be_read_is_a_2(audit, outside, name):
    answer = audit(name)
    assert (answer.code, answer.out) == (2, "")
    assert name in answer.err


# -- norms ---------------------------------------------------------------------------------------


def test_norms_are_named_and_may_be_several(audit, scored):
    answer = audit(
        scored(*UNFAIR), "--norm", "parity-20", "--norm", "equal-opportunity-10", "-f", "json"
    )
    kinds = {f["kind"] for f in json.loads(answer.out)["outcomes"][0]["findings"]}
    assert answer.code == 1
    assert len(kinds) == 2


def test_an_unknown_norm_is_refused_with_the_nearest_one(audit, scored):
    answer = audit(scored(*FAIR), "--norm", "four-fifth")
    assert (answer.code, answer.out) == (2, "")
    assert "did you mean 'four-fifths'" in answer.err


def test_the_norms_of_the_project_are_in_force(cli, project, scored):
    path = project / "policies/thresholds.yaml"
    path.write_text(path.read_text().replace("at_least: 0.8", "at_least: 0.1"))
    assert cli("audit", "fairness", scored(*UNFAIR), *COLUMNS).code == 0


# -- the bank and the census ------------------------------------------------------------------------

BANK = ("--label", "repaid", "--prediction", "predicted", "--sensitive", "sex,age_group")


def test_the_bank_s_export_is_audited_with_intersections(cli, exports, outside):
    answer = cli("audit", "fairness", exports / "applications.csv", *BANK, "-f", "json")
    titles = [t["title"] for t in json.loads(answer.out)["outcomes"][0]["tables"]]
    assert answer.code in {0, 1, 3}
    assert any("sex x age_group" in title for title in titles)


def test_plan_and_command_agree(cli, exports, project):
    (project / "audits/one.yaml").write_text(
        "title: One\nchecks:\n"
        f"  - {{check: fairness, source: {exports}/applications.csv, label: repaid,\n"
        "     prediction: predicted, sensitive: [sex, age_group], positive: yes}\n"
    )  # a bare yes is true to YAML, and 1 in the file
    command = cli("audit", "fairness", exports / "applications.csv", *BANK, "-f", "json")
    plan = cli("audit", "run", "one", "-f", "json")
    assert plan.code == command.code
    assert json.loads(plan.out)["outcomes"] == json.loads(command.out)["outcomes"]


def test_a_census_whose_decisions_follow_the_label_fails_by_sex(cli, data, tmp_path, outside):
    """Incomes differ by sex in Adult: deciding by them fails four fifths beyond any chance."""
    rows = (line.split(", ") for line in (data / "fairness/adult.data").read_text().splitlines())
    cells = [(r[9], r[8], r[14]) for r in rows if len(r) == 15]
    path = tmp_path / "adult.csv"
    lines = [f"{sex},{race},{income},{income}" for sex, race, income in cells]
    path.write_text("\n".join(["sex,race,label,prediction", *lines]) + "\n")
    options = [*COLUMNS[:-1], "sex,race"]
    answer = cli("audit", "fairness", path, *options, "--positive", ">50K", "-f", "json")
    assert (answer.code, _verdict(answer)) == (1, "fail")
    assert cli("audit", "fairness", path, *options).code == 2
