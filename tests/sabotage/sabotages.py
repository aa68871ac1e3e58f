"""The sabotages: which promise of the design, which edit, which test must turn red."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Sabotage:
    """One edit of one file, and the test that must notice it."""

    promise: int
    name: str
    file: str
    old: str
    new: str
    test: str


SABOTAGES = (
    Sabotage(
        1,
        "fail-open-roles",
        "access/rbac.py",
        "if not self._enforcer.enforce(",
        "if principal is None and not self._enforcer.enforce(",
        "tests/access/test_rbac.py::test_a_policy_without_roles_permits_nothing",
    ),
    Sabotage(
        1,
        "unlisted-columns-pass",
        "access/control.py",
        "return column is not None and purpose in column.purposes",
        "return column is None or purpose in column.purposes",
        "tests/access/test_access_control.py"
        "::test_columns_outside_the_purpose_and_unlisted_ones_are_dropped",
    ),
    Sabotage(
        1,
        "unrecorded-outcome-releases-the-result",
        "controls.py",
        "            self.run(call, Phase.RECORD_OUTCOME)\n",
        "            with contextlib.suppress(Exception):\n"
        "                self.run(call, Phase.RECORD_OUTCOME)\n",
        "tests/test_controls.py::test_an_outcome_that_cannot_be_recorded_replaces_result_and_error",
    ),
    Sabotage(
        2,
        "controls-in-order-of-registration",
        "controls.py",
        "self._controls = sorted(controls, key=lambda control: control.phase)",
        "self._controls = list(controls)",
        "tests/test_controls.py::test_the_order_of_registration_does_not_matter",
    ),
    Sabotage(
        2,
        "a-failed-audit-spends-nothing",
        "controls.py",
        "        try:\n            self.run(call, Phase.AUDIT)\n        finally:\n"
        "            self.run(call, Phase.SETTLE)\n",
        "        self.run(call, Phase.AUDIT)\n        self.run(call, Phase.SETTLE)\n",
        "tests/test_controls.py::test_a_failed_audit_still_settles_and_seals_nothing",
    ),
    Sabotage(
        3,
        "a-broken-trail-verifies",
        "trail/verify.py",
        "if not hash_matches:",
        "if False:",
        "tests/trail/test_trail_verify.py::test_a_changed_entry_is_named",
    ),
    Sabotage(
        3,
        "a-swapped-cell-opens",
        "crypto/columns.py",
        "if rows is None:",
        "if rows is not None:",
        "tests/guard/test_guard_dataset.py::test_cells_swapped_between_people_are_refused",
    ),
    Sabotage(
        3,
        "an-edited-row-of-a-key-unwraps",
        "crypto/hierarchy.py",
        'if len(found) != BYTES or not hmac.compare_digest(own, row.mac or b""):',
        "if len(found) != BYTES:",
        "tests/crypto/test_hierarchy_attacked.py"
        "::test_subjects_whose_names_were_exchanged_are_not_destroyed_for_one_another",
    ),
    Sabotage(
        3,
        "another-columns-key-is-accepted",
        "crypto/columns.py",
        "if not good:",
        "if False:",
        "tests/crypto/test_columns_attacks.py::test_one_foreign_cell_among_good_ones_is_refused",
    ),
    Sabotage(
        4,
        "error-texts-in-the-trail",
        "trail/control.py",
        'facts["error"] = type(call.error).__name__',
        'facts["error"] = str(call.error)',
        "tests/trail/test_trail_control.py"
        "::test_an_error_is_recorded_by_its_kind_and_never_by_its_text",
    ),
    Sabotage(
        3,
        "the-audit-is-skipped",
        "guard.py",
        "Audit(),",
        "",
        "tests/guard/test_guard_fairness.py::test_a_model_that_fails_is_withheld",
    ),
    Sabotage(
        4,
        "identifiers-in-the-consent-table",
        "access/consent.py",
        "references = self._subjects.references(subject_type, list(identifiers))\n        now",
        "references = [str(i) for i in identifiers]\n        now",
        "tests/access/test_consent.py::test_neither_table_nor_trail_holds_an_identifier",
    ),
    Sabotage(
        5,
        "the-budget-forgets-reservations",
        "dp/ledger.py",
        "            _move(inside, budget_name, asked, _caps(budget))\n",
        "",
        "tests/dp/test_ledger.py::test_a_hundred_requests_of_a_hundredth_fit_and_no_more",
    ),
    Sabotage(
        5,
        "the-head-stays-behind",
        "trail/log.py",
        "            self._move(connection, head, frontier)\n",
        "",
        "tests/trail/test_log.py::test_entries_are_numbered_from_zero_without_a_gap",
    ),
    Sabotage(
        6,
        "a-plan-looks-at-fewer-groups-than-the-command",
        "audit/runner.py",
        "sensitive=check.sensitive,",
        "sensitive=check.sensitive[:1],",
        "tests/cli/test_cli_audit_fairness.py::test_plan_and_command_agree",
    ),
    Sabotage(
        7,
        "presidio-reaches-for-the-network",
        "pii/detect.py",
        "suffix_list_urls=()",
        'suffix_list_urls=("https://publicsuffix.org/list/public_suffix_list.dat",)',
        "tests/pii/test_pii_detect.py::test_loading_and_finding_open_no_socket_and_look_up_no_name",
    ),
    Sabotage(
        7,
        "a-missing-extra-is-another-error",
        "pii/detect.py",
        'raise MissingExtra("pii", package) from error',
        "raise RuntimeError(package) from error",
        "tests/pii/test_pii_detect.py::test_a_missing_extra_names_the_install_command",
    ),
    Sabotage(
        8,
        "too-little-evidence-passes",
        "audit/runner.py",
        "return PASS if allow_insufficient else INSUFFICIENT",
        "return PASS",
        "tests/cli/test_cli_audit_fairness.py::test_too_little_is_a_3_and_no_pass",
    ),
    Sabotage(
        8,
        "a-crash-is-a-finding",
        "cli/__init__.py",
        "UNFINISHED = 4",
        "UNFINISHED = 1",
        "tests/cli/test_cli_main.py::test_a_crash_is_a_4_and_quotes_no_data",
    ),
    Sabotage(
        9,
        "summaries-on-stdout",
        "cli/context.py",
        "typer.echo(message, err=True)",
        "typer.echo(message)",
        "tests/cli/test_cli_audit_pii.py::test_every_format_stands_alone_on_stdout",
    ),
    Sabotage(
        9,
        "a-dry-run-writes",
        "config.py",
        "if not dry_run:",
        "if folder:",
        "tests/test_config.py::test_a_dry_run_writes_nothing",
    ),
)
