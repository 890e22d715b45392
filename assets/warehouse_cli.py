"""`agentmill export` and `agentmill roles apply`: files for other tools, and who may read what."""

from datetime import date
from pathlib import Path
from typing import Annotated

import typer
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from assets.display import Role, Zone, err, out, parse_day, sheet, stop
from pipelines.settings import load_settings
from pipelines.warehouse import find_warehouse, open_for_reading, open_warehouse
from pipelines.warehouse.export import ExportError, Format, export
from pipelines.warehouse.migrations import current_revision
from pipelines.warehouse.roles import READS, apply_roles, plan_roles, readable

roles_app = typer.Typer(no_args_is_help=True, help="Who may read and write the warehouse.")


def export_view(  # noqa: PLR0913, PLR0917 - each is an option
    name: Annotated[str, typer.Argument(metavar="VIEW", help="A table or view.")],
    form: Annotated[Format, typer.Option("--format", help="What to write.")] = "csv",
    first: Annotated[str | None, typer.Option("--from", help="First UTC day.")] = None,
    end: Annotated[str | None, typer.Option("--to", help="The UTC day to stop before.")] = None,
    target: Annotated[Path | None, typer.Option("--out", help="The file; VIEW.FORMAT where left out.")] = None,
    role: Role = "analyst",
    timezone: Zone = None,
) -> None:
    """Write a table or view to a file, in batches, as the read-only role. A file is whole, or it is not there."""
    path = target or Path(f"{name}.{form}")
    days: dict[str, date | None] = {
        "first": parse_day(first) if first else None,
        "end": parse_day(end) if end else None,
    }
    if not path.parent.is_dir():
        stop(f"There is no folder {path.parent}.")
    columns = (SpinnerColumn(), TextColumn(name), TextColumn("{task.completed:,.0f} rows"), TimeElapsedColumn())
    with Progress(*columns, console=err, transient=True) as bar:
        task = bar.add_task(name, total=None)
        try:
            done = export(
                open_for_reading(load_settings()),
                name,
                form,
                path,
                **days,
                role=f"agentmill_{role}",
                timezone=timezone,
                progress=lambda rows: bar.update(task, completed=rows),
            )
        except ExportError as error:
            bar.stop()
            stop(f"{error}.")
    err.print(f"{done.rows:,} rows of {name} are in {done.path}.", soft_wrap=True)
    if done.left_out:
        err.print(f"Columns that {role} does not read are left out: {', '.join(done.left_out)}.", soft_wrap=True)
    if done.hidden_rows:
        err.print(f"{done.hidden_rows:,} rows of {name} are hidden: too few users stand behind them.", soft_wrap=True)


@roles_app.command("apply")
def change_roles(
    *,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print what would change; change nothing.")] = False,
) -> None:
    """Make roles and grants follow the data dictionary again, and audit every reader's login; show what each reads."""
    settings = load_settings()
    warehouse = find_warehouse(settings) if dry_run else open_warehouse(settings)
    if current_revision(warehouse) is None:
        stop("There is no warehouse yet: without --dry-run it is made, with roles and grants.")
    with warehouse.connect() as connection:
        statements = plan_roles(connection) if dry_run else apply_roles(connection)
        seen = readable(connection)
    for statement in statements:
        out.print(f"{statement};", soft_wrap=True)
    if not statements:
        out.print("Nothing is to be changed.")
    groups = list(READS)
    rows = [(name, *(of_role.get(group) or "-" for group in groups)) for name, of_role in seen.items()]
    out.print(sheet("What they read now", ["table or view", *groups], rows))
