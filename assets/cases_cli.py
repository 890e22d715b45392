"""`agentmill cases`: approved regression tests as files, for pytest and for other tools."""

from pathlib import Path
from typing import Annotated

import polars as pl
import psycopg
import typer
from rich.console import Group

from assets.display import FAILED, AsJson, out, print_json, sheet, stop
from pipelines.regression.case_file import BrokenCase, Case, read_cases
from pipelines.regression.case_table import publish_cases
from pipelines.regression.exporters import Kind, export
from pipelines.settings import load_settings
from pipelines.warehouse import open_for_reading
from pipelines.warehouse.ledger import BusyError

_SHOWN = (
    pl.col("case_id", "state", "is_blocking", "run_count"),
    pl.col("confidence_score").round(2),
    pl.col("last_outcome"),
)

cases_app = typer.Typer(no_args_is_help=True, help="Approved regression tests, as files.")


@cases_app.command("write")
def write_files(*, as_json: AsJson = False) -> None:
    """Derive the cases of approved candidates now, and write their files."""
    settings = load_settings()
    try:
        cases = publish_cases(open_for_reading(settings), settings.cases)
    except BusyError as error:
        stop(f"{error}.", FAILED)
    except psycopg.errors.InsufficientPrivilege as error:
        stop(f"Cases are written by members of agentmill_loader ({str(error).splitlines()[0]}).", FAILED)
    shown = cases.select(_SHOWN)
    if as_json:
        print_json({"folder": settings.cases.absolute(), "cases": shown.rows(named=True)})
        return
    if cases.is_empty():
        out.print("No candidate is approved: `agentmill candidates list` shows what asks for a test.")
        return
    out.print(cases_sheet(cases))
    out.print(f"Those that are not retired are in {settings.cases.absolute()}.", soft_wrap=True)


def cases_sheet(cases: pl.DataFrame) -> Group:
    """The cases as a table: where each stands, and how far it can be trusted."""
    shown = cases.select(_SHOWN)
    rows = [tuple("" if value is None else value for value in row) for row in shown.rows()]
    return sheet("Cases", shown.columns, rows, numbers=["run_count"])


@cases_app.command("export")
def export_cases(
    kind: Annotated[Kind, typer.Argument(help="The tool that is to read them.")],
    target: Annotated[Path | None, typer.Option("--out", help="The file; cases.KIND.jsonl where left out.")] = None,
) -> None:
    """Write the cases as a data set of another tool, a line of JSON for each case and control."""
    folder = load_settings().cases
    found = read_cases(folder)
    if broken := [str(one) for one in found if isinstance(one, BrokenCase)]:
        stop(f"{broken[0]}. `agentmill cases write` writes it anew.", FAILED)
    if not found:
        stop(f"There is no case in {folder}: `agentmill cases write` writes them.")
    path = target or Path(f"cases.{kind}.jsonl")
    count = export([one for one in found if isinstance(one, Case)], kind, path)
    out.print(f"{count:,} lines for {kind} are in {path}.", soft_wrap=True)


@cases_app.command("schema")
def print_schema() -> None:
    """Print the JSON Schema of a case's file."""
    print_json(Case.model_json_schema())
