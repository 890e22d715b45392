"""`agentmill erase-user` and `agentmill retain`: what is asked, done and certified."""

import json
import stat
import sys
from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from assets.display import BLOCKED, FAILED, AsJson, out, print_json, sheet, stop
from pipelines.privacy import PrivacyError
from pipelines.privacy.buried import reconcile
from pipelines.privacy.erasure import Certificate, erase
from pipelines.privacy.retention import Drop, plan_retention, retain
from pipelines.regression import refresh
from pipelines.settings import Settings, load_settings
from pipelines.tombstones import pseudonyms_of
from pipelines.warehouse import open_warehouse
from pipelines.warehouse.ledger import BusyError

_OWNER_ONLY, _OWNER_ONLY_FOLDER = stat.S_IRUSR | stat.S_IWUSR, stat.S_IRWXU


def erase_user(
    *,
    restored: Annotated[
        bool, typer.Option("--restored", help="Ask for nobody: erase again whoever was erased, after a restore.")
    ] = False,
    tenant: Annotated[str, typer.Option(help="Whose user it is, where sources name tenants.")] = "",
    as_json: AsJson = False,
) -> None:
    """Erase a user everywhere and for good. The id is asked for, or read from standard input; it is never kept."""
    settings = load_settings()
    keys = [settings.read_key(), *settings.read_former_keys()]
    if restored:
        warehouse, lake = open_warehouse(settings), settings.open_lake()
        user_keys = sorted(reconcile(lake, warehouse))
        if not user_keys:
            stop("Nobody was ever erased here: there is nothing to erase again.")
    else:
        _check_tenant(tenant, settings)
        user_keys = pseudonyms_of(_ask(), tenant, keys)
        if not user_keys:
            stop("No id of a user came in: type it, or give it on standard input.")
        warehouse, lake = open_warehouse(settings), settings.open_lake()
    try:
        told = erase(user_keys, settings, lake, warehouse, datetime.now(UTC))
    except (PrivacyError, BusyError) as error:
        stop(f"{error}. What was erased by then stays so; the same command goes on.", FAILED)
    path = _keep(told, settings)
    if as_json:
        print_json({**json.loads(told.model_dump_json()), "rows": told.rows, "certificate": path})
    else:
        _tell_certificate(told, path)
    raise typer.Exit(BLOCKED if told.blocked_days else 0)


def retain_data(
    *,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print what would go; drop nothing.")] = False,
    as_json: AsJson = False,
) -> None:
    """Drop what was kept for as long as `retention` says: raw and refused records by day, executions by month."""
    settings = load_settings()
    act = plan_retention if dry_run else partial(retain, derive=partial(refresh, settings=settings))
    try:
        drops = act(settings.retention, settings.open_lake(), open_warehouse(settings), datetime.now(UTC).date())
    except BusyError as error:
        stop(f"{error}. What was dropped by then stays so; run it again.", FAILED)
    if as_json:
        print_json({"outcome": "planned" if dry_run else "dropped", "drops": [asdict(one) for one in drops]})
    else:
        _tell_drops(drops, dry_run=dry_run)


def _check_tenant(tenant: str, settings: Settings) -> None:
    """A user of an unknown tenant would be certified as erased, and stay."""
    tenants = {owner.tenant for owner in (*settings.sources.values(), settings.legacy) if owner} or {""}
    if tenant not in tenants:
        known = ", ".join(f"--tenant {name}" if name else "none" for name in sorted(tenants))
        stop(f"No source has {f'the tenant `{tenant}`' if tenant else 'users without a tenant'}; there is: {known}.")


def _ask() -> str:
    """The id of a user: typed twice and unseen at a terminal, since a wrong one cannot be told from an unknown user."""
    if sys.stdin.isatty():
        return str(typer.prompt("Id of the user, as the sources write it", hide_input=True, confirmation_prompt=True))
    lines = sys.stdin.read().splitlines()
    if len(lines) > 1:
        stop("Standard input has several lines: one user at a time.")
    return "".join(lines)


def _keep(told: Certificate, settings: Settings) -> Path:
    folder = settings.state_dir / "certificates"
    folder.mkdir(_OWNER_ONLY_FOLDER, parents=True, exist_ok=True)
    path = folder / f"erasure-{told.erased_at:%Y%m%dT%H%M%S%fZ}.json"
    path.touch(_OWNER_ONLY, exist_ok=False)
    path.write_text(told.model_dump_json(indent=1) + "\n")
    return path


def _tell_certificate(told: Certificate, path: Path) -> None:
    counts = {
        "raw records": told.raw_records,
        "clean rows": told.clean_rows,
        "quarantine rows": told.quarantine_rows,
        **{f"table {table}": rows for table, rows in told.published_rows.items()},
    }
    out.print(sheet("Erased", ["where", "rows"], list(counts.items()), numbers=["rows"]))
    if told.rows:
        out.print(f"{len(told.rebuilt_days):,} days were rebuilt, with all that is derived from them.")
    else:
        out.print("Nothing of the user is here (any more).")
    if told.struck_days:
        days = f"{len(told.struck_days):,} of them without all of their raw records"
        out.print(f"{days}: which of the refused records were the user's is not known there.", soft_wrap=True)
    if told.ended_cases:
        gone = f"These regression cases went, as others do not fail so often enough: {', '.join(told.ended_cases)}."
        out.print(gone, style="yellow", soft_wrap=True)
    for day in told.blocked_days:
        out.print(f"{day} is kept back by a check: the rows were taken out of its old data.", style="yellow")
    new = "is new" if told.new_tombstones else "was there"
    out.print(f"The tombstone of {', '.join(told.user_keys)} {new}: no run brings the user back.", soft_wrap=True)
    out.print("Out of reach:")
    for place in told.out_of_reach:
        out.print(f"- {place}", soft_wrap=True)
    out.print(f"Certificate: {path}", soft_wrap=True)


def _tell_drops(drops: Sequence[Drop], *, dry_run: bool) -> None:
    if not drops:
        out.print("Nothing was kept for longer than `retention` says.")
        return
    columns = ["place", "from", "to", "days", "rows", "bytes"]
    rows = [
        (one.place, one.first_day, one.last_day, one.days, one.rows, "" if one.size_bytes is None else one.size_bytes)
        for one in drops
    ]
    out.print(sheet("To drop" if dry_run else "Dropped", columns, rows, numbers=columns[3:]))
    if dry_run:
        out.print("Nothing was changed.")
