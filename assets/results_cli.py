"""`agentmill results` and `agentmill gate`: results of regression tests come in, and decide on a version."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from assets.cases_cli import cases_sheet
from assets.display import FAILED, AsJson, err, out, print_json, sheet, stop
from assets.entering import derive_anew
from pipelines.regression.gate import Judgement, judge
from pipelines.regression.results import ImportedFile, import_results
from pipelines.regression.scores import CASES
from pipelines.settings import Settings, load_settings
from pipelines.warehouse import open_for_reading, open_warehouse
from pipelines.warehouse.connection import Warehouse

results_app = typer.Typer(no_args_is_help=True, help="Results of regression tests.")

_MOST_LISTED = 200

Version = Annotated[str | None, typer.Option(help="The version that was tested, where a file does not tell it.")]
Environment = Annotated[str | None, typer.Option(help="Where it was tested, where a file does not tell it.")]


@results_app.command("import")
def import_files(
    files: Annotated[list[Path], typer.Argument(metavar="FILE", help="JSON of our plugin, JUnit XML, or a folder.")],
    version: Version = None,
    environment: Environment = None,
    *,
    as_json: AsJson = False,
) -> None:
    """Take in results, and tell what the cases come to.

    What was imported before is left alone; a file with a problem is kept with it, and exits 1.
    """
    settings = load_settings()
    warehouse = open_warehouse(settings)
    imported = _import(warehouse, settings, files, version, environment)
    tables = derive_anew(warehouse, settings) if any(one.new_count for one in imported) else None
    if as_json:
        print_json({"files": [asdict(one) for one in imported]})
    else:
        _tell_files(imported)
        if tables is not None and tables[CASES].height:
            out.print(cases_sheet(tables[CASES]))
    raise typer.Exit(FAILED if any((one.is_new and one.problem) or one.file_sha256 is None for one in imported) else 0)


@results_app.command("list")
def list_results(
    case: Annotated[str | None, typer.Option(help="Only results of this case.")] = None,
    *,
    as_json: AsJson = False,
) -> None:
    """Show the latest 200 results, the newest first."""
    columns = ("executed_at", "case_id", "part", "repetition", "outcome", "agent_version", "environment", "message")
    wanted = "where case_id = %s" if case is not None else ""
    rows = (
        open_for_reading(load_settings())
        .read(
            f"select {', '.join(columns)} from agentmill.regression_results {wanted} "  # noqa: S608 - our own words
            f"order by executed_at desc, case_id, part, repetition limit {_MOST_LISTED}",
            [case] if case is not None else [],
        )
        .rows()
    )
    if as_json:
        print_json({"results": [dict(zip(columns, row, strict=True)) for row in rows]})
    elif rows:
        shown = [tuple("" if value is None else value for value in row) for row in rows]
        out.print(sheet("Results", columns, shown, numbers=["repetition"]))
    else:
        out.print("There is no result: `agentmill results import` takes them in.")


def gate(
    version: Annotated[str, typer.Option(help="The version that is to be released.")],
    baseline: Annotated[str | None, typer.Option(help="The version to compare with; else all that was before.")] = None,
    results: Annotated[
        list[Path] | None, typer.Option(metavar="FILE", help="Results to import first; may be repeated.")
    ] = None,
    environment: Annotated[str | None, typer.Option(help="Only this environment; else all together.")] = None,
    *,
    as_json: AsJson = False,
) -> None:
    """Decide on a version: exit 0 where its regression tests passed and it fails in no new severe way, else 1."""
    settings = load_settings()
    warehouse = open_warehouse(settings) if results else open_for_reading(settings)
    brought = {path: _import(warehouse, settings, [path], version, environment) for path in results or []}
    imported = [one for files in brought.values() for one in files]
    if any(one.new_count for one in imported):
        derive_anew(warehouse, settings)
    for one in imported:
        if told := one.problem or one.notes:
            err.print(f"{one.file_name}: {told}", style="yellow" if one.problem else None, soft_wrap=True)
    judgement = judge(warehouse, version, baseline, environment, [*_broken(brought)])
    if as_json:
        print_json({**judgement.to_dict(), "files": [asdict(one) for one in imported]})
    else:
        _tell_judgement(judgement)
    raise typer.Exit(0 if judgement.passes else FAILED)


def _broken(brought: Mapping[Path, Sequence[ImportedFile]]) -> Iterator[tuple[str, str]]:
    """Paths that brought no result, new or known, and why."""
    for path, files in brought.items():
        if not any(one.result_count for one in files):
            problems = [one.problem for one in files if one.problem]
            yield str(path), problems[0] if problems else "there is none in it"


def _import(
    warehouse: Warehouse, settings: Settings, files: Sequence[Path], version: str | None, environment: str | None
) -> list[ImportedFile]:
    for path in files:
        if not path.exists():
            stop(f"There is no file {path}.")
    sanitizer = settings.read_sanitizer()
    return import_results(warehouse, files, version=version, environment=environment, sanitizer=sanitizer)


def _tell_files(imported: Sequence[ImportedFile]) -> None:
    if not imported:
        out.print("There is no file of results there.")
        return
    columns = ["file", "format", "results", "new", "problem", "to know"]
    rows = [
        (
            one.file_name,
            one.format or "",
            one.result_count,
            one.new_count,
            one.problem or "",
            (one.notes or "") if one.is_new or one.file_sha256 is None else "imported before",
        )
        for one in imported
    ]
    out.print(sheet("Files", columns, rows, numbers=["results", "new"]))


def _tell_judgement(judgement: Judgement) -> None:
    columns = ["what", "which", "why"]
    for title, told in (("Against it", judgement.reasons), ("To know", judgement.notes)):
        if told:
            rows = [(one.kind.replace("_", " "), one.subject or "", one.text) for one in told]
            out.print(sheet(title, columns, rows))
    compared = f", compared with {judgement.baseline}" if judgement.baseline else ""
    if judgement.first_day:
        compared = f", compared with all before its first day, {judgement.first_day}"
    out.print(f"Cases that gate: {judgement.case_count}{compared}. {judgement.advice}", soft_wrap=True)
