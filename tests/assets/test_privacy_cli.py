"""`agentmill erase-user` and `agentmill retain` as a person and a script meet them, with the real graph around them."""

import json
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from conftest import DAY, KEY_TEXT, MAPPING
from typer.testing import CliRunner

from assets import privacy_cli
from assets.cli import app
from assets.display import out
from pipelines.extract import extract
from pipelines.privacy.erasure import Certificate
from pipelines.settings import load_settings
from pipelines.warehouse import open_warehouse


@pytest.fixture
def agentmill(monkeypatch):
    """Run a command; `said` comes in on standard input."""
    monkeypatch.setattr(out, "width", 200)
    return lambda *words, said="": CliRunner().invoke(app, [*words], input=said)


@pytest.fixture
def configured(tmp_path, monkeypatch, empty_database):
    path = tmp_path / "agentmill.yaml"
    source = {"path": f"{tmp_path}/logs/*", "settle_seconds": 0, "mapping": MAPPING}
    content = {"state_dir": str(tmp_path / "state"), "database_url": empty_database, "pseudonym_key": KEY_TEXT}
    path.write_text(json.dumps({**content, "sources": {"app": source}}))
    monkeypatch.setenv("AGENTMILL_CONFIG", str(path))
    return open_warehouse(load_settings())


def test_a_user_is_erased_and_a_run_of_all_days_brings_nobody_back(agentmill, configured, write_log, record, tmp_path):
    def run():
        command = [Path(sys.executable).with_name("agentmill"), "run", "--from", f"{DAY}", "--json"]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)["days"][0]["sources"][0]

    write_log(record(), record(user="bob"), record(user="bob", state="failed", error="boom"))
    assert run()["clean"] == 3
    erased = agentmill("erase-user", "--json", said="ann@example.org\n")
    assert erased.exit_code == 0, erased.stderr
    told = json.loads(erased.stdout)
    assert (told["raw_records"], told["clean_rows"], told["published_rows"]["executions"]) == (1, 1, 1)
    (certificate,) = (tmp_path / "state" / "certificates").iterdir()
    assert certificate.stat().st_mode & 0o777 == 0o600
    assert json.loads(certificate.read_text())["user_keys"] == told["user_keys"]
    assert "ann@example.org" not in erased.output + certificate.read_text()
    count = run()
    assert (count["received"], count["clean"], count["erased"]) == (3, 2, 1)
    users = configured.read("select distinct user_key from agentmill.executions")["user_key"].to_list()
    assert len(users) == 1
    assert users != told["user_keys"]
    nothing = agentmill("erase-user", said="ann@example.org")
    assert "Nothing of the user is here (any more)." in nothing.stdout
    assert "was there: no run brings the user back" in nothing.stdout
    restored = agentmill("erase-user", "--restored", "--json")
    assert json.loads(restored.stdout)["user_keys"] == told["user_keys"]
    assert len(list((tmp_path / "state" / "certificates").iterdir())) == 3


def test_the_id_is_typed_twice_and_unseen_at_a_terminal(monkeypatch):
    asked = []
    monkeypatch.setattr(privacy_cli.sys, "stdin", type("Terminal", (), {"isatty": staticmethod(lambda: True)}))
    monkeypatch.setattr(privacy_cli.typer, "prompt", lambda *_, **how: asked.append(how) or "eve")
    assert privacy_cli._ask() == "eve"
    assert asked == [{"hide_input": True, "confirmation_prompt": True}]


@pytest.mark.parametrize(
    ("words", "said", "code", "tells"),
    [
        (["ann"], "", 2, "unexpected extra argument"),
        ([], " \n", 2, "No id of a user came in"),
        ([], "ann\nbob\n", 2, "one user at a time"),
        (["--restored"], "", 2, "Nobody was ever erased"),
        (["--tenant", "acme"], "ann\n", 2, "No source has the tenant `acme`"),
    ],
)
def test_what_cannot_be_done_is_told(agentmill, configured, words, said, code, tells):
    told = agentmill("erase-user", *words, said=said)
    assert told.exit_code == code
    assert tells in told.output
    assert configured.read("select count(*) from agentmill.erased_users").item() == 0


def test_a_user_is_erased_of_one_tenant_only(agentmill, configured, write_log, record, tmp_path):
    config = json.loads((tmp_path / "agentmill.yaml").read_text())
    config["sources"]["app"]["tenant"] = "acme"
    (tmp_path / "agentmill.yaml").write_text(json.dumps(config))
    write_log(record())
    settings = load_settings()
    extract(settings.sources["app"], [DAY], settings.open_lake(), datetime.now(UTC))
    refused = agentmill("erase-user", said="ann@example.org\n")
    assert refused.exit_code == 2
    assert "users without a tenant; there is: --tenant acme" in refused.output
    erased = agentmill("erase-user", "--tenant", "acme", "--json", said="ann@example.org\n")
    assert json.loads(erased.stdout)["raw_records"] == 1


def test_cases_that_went_with_a_user_are_told(agentmill, configured, monkeypatch):
    def erase(user_keys, *_):
        told = {"erased_at": datetime.now(UTC), "new_tombstones": user_keys, "published_rows": {}, "out_of_reach": []}
        return Certificate(user_keys=user_keys, ended_cases=["rc_0123456789abcdef"], **told)

    monkeypatch.setattr(privacy_cli, "erase", erase)
    told = agentmill("erase-user", said="ann").stdout
    assert "These regression cases went, as others do not fail so often enough: rc_0123456789abcdef." in told


def test_what_is_old_is_planned_and_then_dropped(agentmill, configured, write_log, record):
    assert "Nothing was kept for longer" in agentmill("retain").stdout
    settings, now = load_settings(), datetime.now(UTC)
    old = now.date() - timedelta(days=40)
    write_log(record(started=f"{old}T10:00:00Z", ended=None))
    extract(settings.sources["app"], [old], settings.open_lake(), now)
    planned = agentmill("retain", "--dry-run")
    assert planned.stdout.splitlines()[-1] == "Nothing was changed."
    assert ["lake", "raw/app", f"{old}", f"{old}", "1", "1"] in [
        line.split()[:6] for line in planned.stdout.splitlines()
    ]
    dropped = json.loads(agentmill("retain", "--json").stdout)
    assert dropped["outcome"] == "dropped"
    assert [one["place"] for one in dropped["drops"]] == ["lake raw/app"]
    assert json.loads(agentmill("retain", "--dry-run", "--json").stdout) == {"outcome": "planned", "drops": []}
