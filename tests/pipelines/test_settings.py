import contextlib
import re
from pathlib import Path

import pytest
from conftest import KEY_TEXT, REPOSITORY

from pipelines.anonymize.keys import KeyProblemError
from pipelines.settings import (
    CONFIG_VARIABLE,
    EXAMPLE_CONFIG,
    ConfigError,
    Settings,
    load_settings,
    parse_settings,
)

GOOD = """\
state_dir: here
sources:
  app:
    path: logs/*.ndjson
    mapping:
      execution_id: id
      agent_name: agent
      status: state
      started_at: started
"""


def problems(text: str) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        parse_settings(text, Path("agentmill.yaml"))
    return [str(problem) for problem in caught.value.problems]


def test_a_good_file_names_its_sources():
    settings = parse_settings(GOOD, Path("agentmill.yaml"))
    assert settings.sources["app"].name == "app"
    assert settings.reports == Path("here/reports")


def test_no_file_means_defaults_and_no_source(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    assert load_settings().sources == {}
    assert not list(tmp_path.iterdir())


def test_the_environment_wins_over_the_file(monkeypatch):
    monkeypatch.setenv("AGENTMILL_STATE_DIR", "elsewhere")
    assert parse_settings(GOOD, Path("agentmill.yaml")).state_dir == Path("elsewhere")


def test_a_named_file_that_is_missing_is_an_error(monkeypatch, tmp_path):
    monkeypatch.setenv(CONFIG_VARIABLE, str(tmp_path / "none.yaml"))
    with pytest.raises(ConfigError, match="agentmill init"):
        load_settings()


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (("state_dir", "state_dri"), ["line 1: state_dri: this key is unknown; did you mean `state_dir`?"]),
        (
            ("    path", "    paht"),
            ["line 4: sources.app.paht", "did you mean `path`?", "sources.app.path: it is missing"],
        ),
        (("      status: state\n", ""), ["line 5: sources.app.mapping: map `status`"]),
        (
            ("execution_id", "execution_uid"),
            ["line 6: sources.app.mapping.execution_uid", "did you mean `execution_id`?"],
        ),
        (("status: state", "status: {from: state, vals: {}}"), ["line 8", "vals", "did you mean `values`?"]),
        (
            ("status: state", "status: {from: state, values: {ok: fine}}"),
            ["line 5: sources.app.mapping: `fine` is not a status"],
        ),
        (("agent_name: agent", "agent_name: coalesce(agent"), ["line 7: sources.app.mapping.agent_name"]),
        (("state_dir: here", "state_dir: here\nstate_dir: there"), ["line 2: state_dir: the key stands on line 1 too"]),
        (("state_dir: here", "state_dir: [here"), ["line 2: YAML"]),
        (("state_dir: here", "start_date: soon"), ["line 1: start_date"]),
    ],
)
def test_every_mistake_is_told_with_its_line_and_a_way_out(change, says):
    told = " | ".join(problems(GOOD.replace(*change)))
    for words in says:
        assert words in told


def test_a_file_that_is_no_mapping_is_told_so():
    assert problems("- a\n- b\n") == ["line 1: YAML: it is not a mapping of settings. Write `key: value` lines."]


LEGACY_KEYS = "There are: agents, cut, tenant, transactions, url."
LEGACY = "legacy:\n  url: postgresql://u:hunter2@db/shop\n  cut: 2026-03-01\n"


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (
            ("cut:", "cup:"),
            [
                "line 1: legacy.cut: it is missing. Add a line `cut: ...`.",
                "line 3: legacy.cup: this key is unknown; did you mean `cut`? " + LEGACY_KEYS,
            ],
        ),
        (
            ("postgresql", "mysql"),
            ["line 2: legacy.url: only a PostgreSQL database can be migrated from. Change it as the message says."],
        ),
    ],
)
def test_a_mistake_in_the_older_application_is_told(change, says):
    assert problems(LEGACY.replace(*change)) == says


def test_the_older_application_has_prismas_names_unless_others_are_given():
    legacy = parse_settings(LEGACY, Path("x")).legacy
    assert (legacy.agents, legacy.transactions) == ("Agent", "Transaction")
    assert "hunter2" not in repr(legacy)


DATABASE = """\
sources:
  app:
    kind: database
    url: ${APP_DATABASE_URL}
    table: runs
    mapping: {agent_name: agent, status: state, started_at: started}
"""


def test_a_secret_comes_from_the_variable_that_the_file_names(monkeypatch):
    assert problems(DATABASE) == [
        "line 4: sources.app.url: the variable APP_DATABASE_URL is not set. Set it: export APP_DATABASE_URL=..."
    ]
    monkeypatch.setenv("APP_DATABASE_URL", "postgresql://u:hunter2@db/x")
    settings = parse_settings(DATABASE, Path("x"))
    assert settings.sources["app"].location == "runs of postgresql://db/x"
    assert "hunter2" not in repr(settings)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (("postgresql://", "oracle://"), ["line 4: sources.app.url", "`oracle` is not read yet"]),
        (("table: runs", "tabel: runs"), ["line 5: sources.app.tabel", "did you mean `table`?"]),
        (("table: runs", "attributes: [a]"), ["line 2: sources.app", "give either `table` or `query`"]),
        (("started_at: started", "started_at: upper(a)"), ["map `started_at` to a column as it is"]),
        (
            ("kind: database", "kind: databank"),
            ["line 3: sources.app.kind: `databank`", "There are: files, database"],
        ),
    ],
    ids=str,
)
def test_a_mistake_about_a_database_is_told_with_its_line(change, says):
    told = " | ".join(problems(DATABASE.replace("${APP_DATABASE_URL}", "postgresql://db/x").replace(*change)))
    for words in says:
        assert words in told


def test_former_keys_and_retention_are_told_what_is_wrong_with_them(monkeypatch):
    monkeypatch.delenv("OLD_KEY", raising=False)
    listed = 'former_pseudonym_keys:\n  - "${OLD_KEY}"\n'
    assert problems(listed) == [
        "line 1: former_pseudonym_keys: the variable OLD_KEY is not set. Set it: export OLD_KEY=..."
    ]
    monkeypatch.setenv("OLD_KEY", "k0:" + "ab" * 32)
    assert [key.id for key in parse_settings(listed, Path("f")).read_former_keys()] == ["k0"]
    monkeypatch.setenv("OLD_KEY", "k0:ab")
    with pytest.raises(KeyProblemError, match="former_pseudonym_keys needs at least 64 hex digits"):
        parse_settings(listed, Path("f")).read_former_keys()
    monkeypatch.setenv("OLD_KEY", "k1:" + "ab" * 32)
    for digits, refused in (("ab", False), ("cd", True)):
        settings = parse_settings(f"pseudonym_key: k1:{digits * 32}\n{listed}", Path("f"))
        with pytest.raises(KeyProblemError, match=r"two .* have the id `k1`") if refused else contextlib.nullcontext():
            settings.read_former_keys()
    assert problems("retention: {raw_day: 3}")[0].startswith(
        "line 1: retention.raw_day: this key is unknown; did you mean `raw_days`?"
    )
    assert "greater than or equal to 1" in problems("retention: {raw_days: 0}")[0]


@pytest.mark.parametrize("text", ["1: 2\n", "a: \x01\n"])
def test_what_is_hardly_yaml_is_told_too(text):
    assert problems(text)[0].startswith("line 1: YAML" if "2" in text else "YAML")


def test_the_words_yes_and_no_of_a_source_stay_words():
    mapping = "mapping: {agent_name: a, started_at: t, status: {from: s, values: {yes: success, no: failed}}}"
    settings = parse_settings(f"sources: {{app: {{path: x, {mapping}}}}}", Path("x"))
    assert settings.sources["app"].mapping["status"].values == {"yes": "success", "no": "failed"}


@pytest.mark.parametrize(
    ("name", "value"),
    [("START_DATE", "soon"), ("LAKE_OPTIONS", '{"secret": ["hunter2"]}'), ("LAKE_OPTIONS", "hunter2")],
)
def test_a_mistake_in_the_environment_is_told_without_its_value(monkeypatch, tmp_path, name, value):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv(f"AGENTMILL_{name}", value)
    with pytest.raises(ConfigError) as told:
        load_settings()
    assert "hunter2" not in f"{told.value}"


def test_all_mistakes_are_told_at_once():
    assert len(problems(GOOD.replace("state_dir", "state_dri").replace("path", "paht"))) >= 3


def test_secrets_are_neither_printed_nor_quoted_in_errors(monkeypatch):
    monkeypatch.setenv("AGENTMILL_DATABASE_URL", "postgresql://u:hunter2@db/x")
    monkeypatch.setenv("AGENTMILL_PSEUDONYM_KEY", KEY_TEXT)
    settings = Settings()
    for text in (repr(settings), str(settings), settings.model_dump_json()):
        assert "hunter2" not in text
        assert KEY_TEXT[3:] not in text
    assert settings.read_key().id == "k1"
    assert "hunter2" not in " ".join(problems("lake_options: {secret_access_key: [hunter2]}"))


def test_nothing_runs_without_a_key(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(KeyProblemError, match="agentmill init"):
        Settings().read_key()


def test_the_example_is_valid_and_names_every_setting():
    text = EXAMPLE_CONFIG.read_text()
    settings = parse_settings(text, EXAMPLE_CONFIG)
    assert list(settings.sources) == ["my_agents"]
    told_elsewhere = {"pseudonym_key", "pseudonym_key_file", "dagster_database_url", "lake_options"}
    for name in Settings.model_fields.keys() - told_elsewhere:
        assert f"{name}:" in text, name


def test_only_one_module_reads_the_environment():
    readers = [
        str(path.relative_to(REPOSITORY))
        for folder in ("pipelines", "assets")
        for path in (REPOSITORY / folder).rglob("*.py")
        if re.search(r"os\.(?:environ\.get|environ\[\w+\](?! =)|getenv)", path.read_text())
    ]
    assert readers == ["pipelines/settings.py"]
