"""Settings: file, environment and flags, each over the one before; a typo is an error."""

from pathlib import Path

import pytest

from compliance import config
from compliance.config import Settings
from compliance.errors import ConfigurationError
from compliance.policy import Policy


def load(folder, environ=None, **overrides):
    return config.load(folder, environ=environ or {}, overrides=overrides)


@pytest.fixture
def project(tmp_path):
    (tmp_path / "compliance.toml").write_text('policies = "norms"\ntenant = "file"\n', "utf-8")
    return tmp_path


def test_without_a_file_everything_lies_in_the_starting_folder(tmp_path):
    settings = load(tmp_path)
    assert (settings.root, settings.policies) == (tmp_path, tmp_path / "policies")
    assert settings.database_url == f"sqlite:///{tmp_path}/.compliance/compliance.db"
    assert settings.key_file == tmp_path / ".compliance" / "keys" / "master.json"
    assert settings.models == tmp_path / ".compliance" / "models"


def test_later_sources_win(project):
    assert load(project).tenant == "file"
    environ = {"COMPLIANCE_TENANT": "environment"}
    assert load(project, environ).tenant == "environment"
    assert load(project, environ, tenant="flag").tenant == "flag"
    assert load(project, environ, tenant=None).tenant == "environment"


def test_a_file_further_up_is_found_and_paths_are_relative_to_it(project):
    below = project / "a" / "b"
    below.mkdir(parents=True)
    settings = load(below)
    assert (settings.root, settings.policies) == (project, project / "norms")


def test_absolute_paths_stay(project, tmp_path):
    assert load(project, policies=Path("/etc/norms")).policies == Path("/etc/norms")


def test_pyproject_counts_when_it_has_our_table(tmp_path):
    (tmp_path / "pyproject.toml").write_text('[tool.compliance]\ntenant = "x"\n', "utf-8")
    assert load(tmp_path).tenant == "x"


def test_a_pyproject_without_our_table_is_passed_over(project):
    below = project / "package"
    below.mkdir()
    (below / "pyproject.toml").write_text('[tool.other]\nx = 1\n[project]\nname = "p"\n', "utf-8")
    assert load(below).root == project


def test_compliance_toml_counts_before_pyproject(project):
    (project / "pyproject.toml").write_text('[tool.compliance]\ntenant = "other"\n', "utf-8")
    assert load(project).tenant == "file"


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ('polices = "x"', "compliance.toml: unknown setting 'polices'; did you mean 'policies'"),
        ('xyzzy = "x"', "known: policies"),
        ('root = "x"', "unknown setting 'root'"),
        ("tenant = 5", "tenant must be a string"),
        ("tenant = ", "cannot be read as TOML"),
        ('tenant = "a"\ntenant = "b"', "cannot be read as TOML"),
    ],
)
def test_a_wrong_file_is_named_with_what_is_wrong(tmp_path, text, match):
    (tmp_path / "compliance.toml").write_text(text, "utf-8")
    with pytest.raises(ConfigurationError, match=match):
        load(tmp_path)


@pytest.mark.parametrize("data", [b"\xff\xfe", b"\x00", b'tenant = "\xe9"'])
def test_a_file_that_is_no_utf_8_is_named(tmp_path, data):
    (tmp_path / "compliance.toml").write_bytes(data)
    with pytest.raises(ConfigurationError, match="cannot be read as TOML"):
        load(tmp_path)


def test_a_table_that_is_no_table_is_named(tmp_path):
    (tmp_path / "pyproject.toml").write_text('[tool]\ncompliance = "x"\n', "utf-8")
    with pytest.raises(ConfigurationError, match="must be a table"):
        load(tmp_path)


def test_a_typo_in_the_environment_or_in_a_flag_is_an_error(tmp_path):
    with pytest.raises(ConfigurationError, match=r"COMPLIANCE_TENNANT.*did you mean 'tenant'"):
        load(tmp_path, {"COMPLIANCE_TENNANT": "x"})
    with pytest.raises(ConfigurationError, match="argument: unknown setting"):
        load(tmp_path, tennant="x")


def test_the_master_key_is_a_file_unless_it_is_said(tmp_path):
    assert load(tmp_path).master == "file"
    assert (
        load(tmp_path, {"COMPLIANCE_MASTER": "vault:transit/domain"}).master
        == "vault:transit/domain"
    )


def test_variables_that_are_no_settings_are_left_alone(tmp_path):
    environ = {
        f"COMPLIANCE_{name}": "x" for name in ("PASSPHRASE", "REQUIRE", "TEST_DATA", "DEBUG")
    }
    assert load(tmp_path, environ | {"HOME": "/"}) == load(tmp_path)


def test_a_password_in_the_database_url_is_not_shown():
    settings = Settings(database="postgresql://ana:hunter2@db/audit")
    assert settings.database_url == "postgresql://ana:hunter2@db/audit"
    assert "hunter2" not in repr(settings)


# -- a project of one's own -------------------------------------------------------------


def test_a_new_project_has_norms_that_load_and_plans(tmp_path):
    folder = tmp_path / "project"
    written = config.initialise(folder, member="o'brien: [x]")
    assert all(path.is_file() for path in written)
    assert load(folder).policies == folder / "policies"
    policy = Policy.load(folder / "policies")
    assert policy.roles["privacy-officer"].members == ("o'brien: [x]",)
    assert policy.roles["impersonate"].members == ()
    assert list((folder / "audits").glob("*.yaml"))
    assert (folder / ".gitignore").read_text("utf-8") == ".compliance/\n"


def test_what_is_there_is_never_replaced(tmp_path):
    (tmp_path / "policies").mkdir()
    (tmp_path / "policies" / "roles.yaml").write_text("roles: {}\n", "utf-8")
    written = config.initialise(tmp_path, member="ana")
    assert tmp_path / "policies" / "roles.yaml" not in written
    assert (tmp_path / "policies" / "roles.yaml").read_text("utf-8") == "roles: {}\n"
    assert config.initialise(tmp_path, member="ana") == []


def test_a_dry_run_writes_nothing(tmp_path):
    assert config.initialise(tmp_path, member="ana", dry_run=True)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_written_is_a_clear_error(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigurationError, match="cannot be written"):
        config.initialise(tmp_path / "file" / "project", member="ana")


def test_a_kind_that_we_do_not_ship_is_a_clear_error():
    with pytest.raises(ConfigurationError, match="reinstall"):
        config.shipped("nothing")
