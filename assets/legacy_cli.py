"""`agentmill migrate-legacy`: what is planned, done, checked and undone, as a person and a script read it."""

from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Annotated, Any

import typer

from assets.display import FAILED, AsJson, out, print_json, sheet, stop
from pipelines.legacy import LegacyError
from pipelines.legacy.backup import BackupPlan, plan_backup
from pipelines.legacy.checks import Check, ChecksFailedError
from pipelines.legacy.migrate import Outcome, Standing, compare, measured_before, migrate, roll_back, unmeasured_agents
from pipelines.legacy.plan import Plan, make_plan
from pipelines.privacy.buried import reconcile
from pipelines.settings import LegacySettings, Settings, load_settings
from pipelines.tombstones import read_erased
from pipelines.warehouse import open_warehouse
from pipelines.warehouse.connection import Warehouse
from pipelines.warehouse.ledger import BusyError

_STANDING: dict[Standing, str] = {
    "new": "not migrated yet",
    "unchanged": "already migrated; nothing would change",
    "changed": "something else was migrated before; --rollback takes it back",
}
_MOST_NAMES = 5


def migrate_legacy(
    *,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the plan; change nothing.")] = False,
    rollback: Annotated[bool, typer.Option("--rollback", help="Take back exactly what was migrated.")] = False,
    as_json: AsJson = False,
) -> None:
    """Bring in, once, what an older application knows: agents' totals and transactions. After a backup, with checks."""
    if dry_run and rollback:
        stop("Choose --dry-run or --rollback.")
    settings = load_settings()
    try:
        if rollback:
            _tell_outcome(roll_back(open_warehouse(settings)), "rolled back", as_json=as_json)
            return
        legacy = _configured(settings)
        key, warehouse, lake = settings.read_key(), open_warehouse(settings), settings.open_lake()
        reconcile(lake, warehouse)
        plan = make_plan(legacy, key, read_erased(lake, [key, *settings.read_former_keys()]))
        backups = settings.state_dir / "backups"
        if dry_run:
            _tell_plan(plan, warehouse, plan_backup(warehouse, backups), as_json=as_json)
            return
        _tell_outcome(migrate(warehouse, plan, backups), "migrated", as_json=as_json)
    except ChecksFailedError as error:
        if as_json:
            print_json({"outcome": "failed", **_checks(error.checks)})
        else:
            _tell_checks(error.checks)
        stop(str(error), FAILED)
    except (LegacyError, BusyError) as error:
        stop(str(error), FAILED)


def _configured(settings: Settings) -> LegacySettings:
    if settings.legacy is None:
        stop("There is no older application to migrate from: add `legacy:` with its `url` and `cut` to agentmill.yaml.")
    if settings.legacy.cut > datetime.now(UTC).date():
        stop(f"The cut {settings.legacy.cut} lies in the future: nobody knows yet what happens until then.")
    return settings.legacy


def _tell_plan(plan: Plan, warehouse: Warehouse, backup: BackupPlan, *, as_json: bool) -> None:
    standing, unmeasured = compare(warehouse, plan), unmeasured_agents(warehouse, plan)
    overlap = measured_before(warehouse, plan.cut.date())
    if as_json:
        print_json(
            {
                "outcome": "planned",
                "standing": standing,
                "cut": plan.cut.date(),
                "tables": {part.table: part.account for part in plan.parts},
                "unmeasured_agents": unmeasured,
                "interactions_of_unlisted_agents": plan.unlisted,
                "executions_measured_before_cut": overlap,
                "backup": {"path": backup.path, "method": backup.method},
            }
        )
        return
    columns = ["table", "from", "received", "to add", "duplicates", "refused", "why refused"]
    rows = [
        (
            part.table,
            part.origin,
            part.received,
            part.rows.height,
            part.duplicates,
            sum(part.refused.values()),
            ", ".join(f"{reason} {count:,}" for reason, count in part.refused.items()),
        )
        for part in plan.parts
    ]
    out.print(sheet("Plan", columns, rows, numbers=columns[2:6]))
    names = ", ".join(unmeasured[:_MOST_NAMES]) + (", ..." if len(unmeasured) > _MOST_NAMES else "")
    facts = [
        ("state", _STANDING[standing]),
        ("cut", plan.cut.date()),
        ("agents that no measured execution names", f"{len(unmeasured):,}" + (f" ({names})" if names else "")),
        ("interactions with agents that are not listed", f"{plan.unlisted:,}"),
        ("measured executions of before the cut", f"{overlap:,}"),
        ("backup", f"{backup.path} ({backup.method})"),
    ]
    out.print(sheet("Facts", ["what", "found"], facts))
    out.print("Nothing was changed.")


def _tell_outcome(outcome: Outcome, done: str, *, as_json: bool) -> None:
    """What was done. Without checks there was nothing to do."""
    migration = outcome.migration
    if as_json:
        held = None if migration is None else asdict(migration)
        print_json(
            {
                "outcome": done.replace(" ", "_") if outcome.checks else "unchanged",
                "migration": held,
                **_checks(outcome.checks),
            }
        )
    elif migration is None:
        out.print("There is no migration to roll back; nothing changed.")
    elif not outcome.checks:
        out.print(f"Migration {migration.migration_id} was made already; nothing changed.")
    else:
        _tell_checks(outcome.checks)
        before = f"The warehouse as it was before the migration: backup {migration.backup}."
        out.print(f"{done.capitalize()}: {migration.migration_id}. {before}", soft_wrap=True)


def _tell_checks(checks: Sequence[Check]) -> None:
    rows = [(check.check, check.expected, check.found, "yes" if check.is_ok else "NO") for check in checks]
    out.print(sheet("Checks", ["check", "expected", "found", "ok"], rows, numbers=["expected", "found"]))


def _checks(checks: Sequence[Check]) -> dict[str, Any]:
    return {"checks": [{**asdict(check), "ok": check.is_ok} for check in checks]}
