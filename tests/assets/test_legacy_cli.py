"""`agentmill migrate-legacy` as a person and a script meet it: tables, JSON, exit codes."""

import json
from datetime import UTC, datetime, timedelta

import pytest
from conftest import KEY_TEXT, checksums
from typer.testing import CliRunner

from assets.cli import app
from assets.display import out
from pipelines.legacy import migrate
from pipelines.legacy.checks import Check
from pipelines.settings import load_settings
from pipelines.warehouse import open_warehouse


@pytest.fixture
def command(monkeypatch):
    """Run `agentmill migrate-legacy`."""
    monkeypatch.setattr(out, "width", 200)
    return lambda *words: CliRunner().invoke(app, ["migrate-legacy", *words])


@pytest.fixture
def configure(tmp_path, monkeypatch, empty_database):
    """Write a configuration; arguments are added."""

    def write(**more):
        path = tmp_path / "agentmill.yaml"
        state = {"state_dir": str(tmp_path / "state"), "database_url": empty_database, "pseudonym_key": KEY_TEXT}
        path.write_text(json.dumps({**state, **more}))
        monkeypatch.setenv("AGENTMILL_CONFIG", str(path))
        return open_warehouse(load_settings())

    return write


@pytest.fixture
def shop(postgres, configure):
    """A warehouse that is to get what a small shop knows."""
    postgres.run(
        """create table "Agent" (id text primary key, stats jsonb)""",
        """insert into "Agent" values ('a1', '{"totalExecutions": 1200}'), ('a2', null)""",
        """create table "Transaction" ("userId" text, "agentId" text, status text, "createdAt" timestamp(3))""",
        """insert into "Transaction" values ('u1', 'a1', 'ok', '2026-02-01'), ('u1', 'a1', 'ok', '2026-04-01')""",
    )
    return configure(legacy={"url": postgres.url, "cut": "2026-03-01"})


def test_the_plan_is_told_and_nothing_is_done(command, shop, tmp_path):
    before = checksums(shop)
    told = command("--dry-run")
    assert told.exit_code == 0, told.stderr
    lines = [" ".join(line.split()) for line in told.stdout.splitlines()]
    assert "agent_opening_balances Agent 2 1 0 1 no_stats 1" in lines
    assert "interaction_history Transaction 2 1 0 1 after_cut 1" in lines
    assert "state not migrated yet" in lines
    assert "agents that no measured execution names 1 (a1)" in lines
    assert lines[-1] == "Nothing was changed."
    plan = json.loads(command("--dry-run", "--json").stdout)
    assert plan["tables"]["interaction_history"]["refused"] == {"after_cut": 1}
    assert plan["backup"]["path"].startswith(str(tmp_path / "state" / "backups" / "legacy-"))
    assert checksums(shop) == before
    assert not (tmp_path / "state" / "backups").exists()


def test_it_is_done_once_and_undone(command, shop, tmp_path):
    before = checksums(shop)
    done = command()
    assert done.exit_code == 0, done.stderr
    lines = [" ".join(line.split()) for line in done.stdout.splitlines()]
    assert "agent_opening_balances: sum of execution_count 1,200 1,200 yes" in lines
    assert "Agent: received = migrated + duplicates + refused (no_stats 1) 2 2 yes" in lines
    (backup,) = (tmp_path / "state" / "backups").iterdir()
    assert lines[-1].endswith(f"backup {backup.name}.")
    assert "nothing changed" in command().stdout
    assert json.loads(command("--json").stdout)["outcome"] == "unchanged"
    assert list((tmp_path / "state" / "backups").iterdir()) == [backup]
    undone = json.loads(command("--rollback", "--json").stdout)
    assert undone["outcome"] == "rolled_back"
    assert {check["ok"] for check in undone["checks"]} == {True}
    assert checksums(shop) == before
    nothing = command("--rollback")
    assert (nothing.exit_code, nothing.stdout) == (0, "There is no migration to roll back; nothing changed.\n")


def test_a_failing_check_and_a_changed_source_end_with_1(command, shop, postgres, monkeypatch):
    before = checksums(shop)
    with monkeypatch.context() as broken:
        broken.setattr(migrate, "elsewhere", lambda *_: Check("everything else", "as before", "not so"))
        failed = command()
        assert json.loads(command("--json").stdout)["outcome"] == "failed"
    assert failed.exit_code == 1
    assert "NO" in failed.stdout
    assert "nothing was changed: everything else" in failed.stderr
    assert checksums(shop) == before
    assert command().exit_code == 0
    postgres.run("""update "Agent" set stats = '{"totalExecutions": 1201}' where id = 'a1'""")
    refused = command()
    assert refused.exit_code == 1
    assert "agentmill migrate-legacy --rollback" in refused.stderr
    assert "something else was migrated before" in command("--dry-run").stdout


def test_what_makes_no_sense_ends_with_2(command, configure, postgres):
    configure()
    assert command("--dry-run", "--rollback").exit_code == 2
    unset = command()
    assert unset.exit_code == 2
    assert "add `legacy:`" in unset.stderr
    configure(legacy={"url": postgres.url, "cut": str(datetime.now(UTC).date() + timedelta(days=1))})
    early = command()
    assert early.exit_code == 2
    assert "lies in the future" in early.stderr
    configure(legacy={"url": postgres.url, "cut": "2026-03-01"})
    absent = command()
    assert absent.exit_code == 1
    assert 'relation "Agent" does not exist' in absent.stderr
