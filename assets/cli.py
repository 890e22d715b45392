"""The command line: what a person types, and what a script can trust. Work is done elsewhere; here it is asked for.

Exit codes: 0 done, 1 something failed, 2 the command or the configuration is wrong, 3 done but a day is blocked.
"""

import itertools
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Sequence
from datetime import UTC, date, datetime, timedelta
from importlib.metadata import version
from pathlib import Path
from typing import Annotated

import polars as pl
import psycopg
import typer
from sqlalchemy.exc import DBAPIError

from assets.candidates_cli import candidates_app
from assets.cases_cli import cases_app
from assets.display import (
    BLOCKED,
    FAILED,
    WRONG,
    AsJson,
    Role,
    Zone,
    accounts_table,
    err,
    out,
    parse_day,
    print_json,
    progress_of_days,
    sheet,
    stop,
)
from assets.explain_cli import tell_why, tell_why_not
from assets.failures_cli import failures_app
from assets.legacy_cli import migrate_legacy
from assets.privacy_cli import erase_user, retain_data
from assets.results_cli import gate, results_app
from assets.rules_cli import adopt_rules, show_shadow
from assets.warehouse_cli import export_view, roles_app
from pipelines import demo as marketplace
from pipelines.anonymize.errors import describe_error
from pipelines.anonymize.keys import KeyProblemError, write_key_file
from pipelines.clean import CLEAN_EXECUTIONS
from pipelines.clean.preview import count_inputs, preview
from pipelines.clean.stale import find_stale_days
from pipelines.extract import ExtractionError, accept, find_dirty_days, tell
from pipelines.failures.fingerprint import RULES_VERSION
from pipelines.failures.overrides import OverridesError
from pipelines.failures.overview import count_urgent
from pipelines.settings import (
    CONFIG_VARIABLE,
    DEFAULT_CONFIG,
    EXAMPLE_CONFIG,
    ConfigError,
    Settings,
    find_config,
    load_settings,
)
from pipelines.sources.kinds import AnySource
from pipelines.warehouse import NothingHereError, OutdatedSchemaError, open_for_reading, open_warehouse
from pipelines.warehouse.executions import DayAccount, account
from pipelines.warehouse.publish import sweep_staging
from pipelines.warehouse.query import ask, write_csv, write_json
from pipelines.warehouse.questions import ready_questions
from pipelines.warehouse.roles import ANALYST

_RECENT_DAYS = 92
_BEGIN, _RUN, _ASK, _FAILURES, _KEEP = "Begin", "Run", "Ask", "Failures and their tests", "Keep, protect, erase"

app = typer.Typer(no_args_is_help=True, pretty_exceptions_enable=False, help="From AI-agent logs to numbers and tests.")
config_app = typer.Typer(no_args_is_help=True, help="Check the configuration.")
source_app = typer.Typer(no_args_is_help=True, help="Where logs come from: look before you run, agree to new fields.")
app.add_typer(config_app, name="config", rich_help_panel=_BEGIN)
app.add_typer(source_app, name="source", rich_help_panel=_BEGIN)
app.add_typer(failures_app, name="failures", rich_help_panel=_FAILURES)
app.add_typer(candidates_app, name="candidates", rich_help_panel=_FAILURES)
app.add_typer(cases_app, name="cases", rich_help_panel=_FAILURES)
app.add_typer(results_app, name="results", rich_help_panel=_FAILURES)
app.add_typer(roles_app, name="roles", rich_help_panel=_KEEP)
failures_app.command("why")(tell_why)
failures_app.command("why-not")(tell_why_not)
failures_app.command("shadow")(show_shadow)
failures_app.command("adopt")(adopt_rules)


def main() -> None:
    """Run the command line. What a person can mend is told in a sentence, without a trace."""
    try:
        app()
    except (ConfigError, KeyProblemError, NothingHereError, OutdatedSchemaError, OverridesError) as error:
        err.print(str(error), style="red", soft_wrap=True)
        sys.exit(WRONG)
    except (psycopg.Error, DBAPIError) as error:
        refused = error.orig if isinstance(error, DBAPIError) else error
        if not isinstance(refused, psycopg.Error):
            raise
        err.print(f"The warehouse refused: {_refusal(refused)}", style="red", soft_wrap=True)
        sys.exit(FAILED)
    except OSError as error:
        if error.filename is None:
            raise
        err.print(f"{error.filename} cannot be used: {error.strerror}", style="red", soft_wrap=True)
        sys.exit(FAILED)


def _refusal(error: psycopg.Error) -> str:
    """What the database says, with its place in the question and what helps. Never details, which may quote rows."""
    said = str(error).splitlines() or [type(error).__name__]
    told = said[:3] if said[1:] and said[1].startswith("LINE ") else said[:1]
    if error.diag.message_hint:
        told.append(error.diag.message_hint)
    if isinstance(error, psycopg.errors.InsufficientPrivilege):
        told.append(
            "Name the columns you need; `*` asks for all. `agentmill roles apply --dry-run` shows who reads what; "
            "--role chooses one of yours."
        )
    if error.sqlstate is None and isinstance(error, psycopg.OperationalError):
        told.append("`database_url` (or AGENTMILL_DATABASE_URL) says where it is.")
    return "\n".join(told)


def _tell_version(asked: bool) -> None:  # noqa: FBT001 - as typer calls it
    if asked:
        out.print(f"agentmill {version('agentmill')} (rules of failures: version {RULES_VERSION})", highlight=False)
        raise typer.Exit


@app.callback()
def choose_config(
    config: Annotated[Path | None, typer.Option("--config", "-c", help="Another file than ./agentmill.yaml.")] = None,
    *,
    _: Annotated[
        bool, typer.Option("--version", is_eager=True, callback=_tell_version, help="Say which version this is.")
    ] = False,
) -> None:
    """From AI-agent logs to numbers people trust and tests that stop failures from coming back."""
    if config is not None:
        os.environ[CONFIG_VARIABLE] = str(config)


@app.command(rich_help_panel=_BEGIN)
def init() -> None:
    """Write a starter agentmill.yaml and a pseudonym key into this folder. Nothing is overwritten."""
    writers: dict[Path, Callable[[Path], object]] = {
        DEFAULT_CONFIG: lambda path: path.write_text(EXAMPLE_CONFIG.read_text()),
        load_settings().pseudonym_key_file: write_key_file,
    }
    has_config = DEFAULT_CONFIG.exists()
    for path, write in writers.items():
        if path.exists():
            out.print(f"{path} is there already and stays as it is.")
        else:
            write(path)
            out.print(f"{path} written.")
    describe = "" if has_config else "describe your source in agentmill.yaml, then "
    out.print(f"Next: {describe}run `agentmill config check`.")


@config_app.command("check")
def check_config(*, as_json: AsJson = False) -> None:
    """Say what is wrong with the configuration, where, and how to mend it; else what it would read."""
    try:
        settings = load_settings()
        settings.read_prices()
        settings.read_sanitizer()
    except ConfigError as error:
        rows = [(problem.line or "", problem.where, problem.what, problem.fix) for problem in error.problems]
        columns = ["line", "where", "what", "fix"]
        if as_json:
            print_json({"ok": False, "problems": [dict(zip(columns, row, strict=True)) for row in rows]})
        else:
            out.print(sheet(f"{error.path} cannot be used", columns, rows))
        raise typer.Exit(WRONG) from None
    key = settings.read_key()
    settings.read_former_keys()
    inputs = {name: count_inputs(source) for name, source in settings.sources.items()}
    if as_json:
        print_json({"ok": True, "key_id": key.id, "inputs": inputs})
        return
    out.print(f"{find_config() or 'No configuration file'}: valid. Pseudonym key {key.id} is in place.")
    found = [(name, settings.sources[name].location, count) for name, count in inputs.items()]
    out.print(sheet("Sources", ["source", "where", "inputs"], found, numbers=["inputs"]))
    for name in [name for name, count in inputs.items() if count == 0]:
        hint = f"No file matches the path of {name}. A relative path starts at {Path.cwd()}."
        out.print(hint, style="yellow", soft_wrap=True)
    if not inputs:
        out.print("There is no source yet: add one under `sources:`.")


@source_app.command("preview")
def preview_source(
    name: str,
    rows: Annotated[int, typer.Option(help="How many sample rows to show.")] = 5,
    *,
    as_json: AsJson = False,
) -> None:
    """Show what a source would become: sample rows, anonymized, and every problem in its first records."""
    settings = load_settings()
    source = _source(settings, name)
    seen = preview(source, settings.read_key(), settings.read_prices(), sanitizer=settings.read_sanitizer())
    if not seen.inputs and not as_json:
        stop(f"Nothing of {name} can be read: {'; '.join(seen.problems)}.", FAILED)
    sample = seen.rows.head(rows)
    known = [column for column in sample.columns if sample[column].null_count() < sample.height]
    sample = sample.select(known)
    if as_json:
        samples = json.loads(sample.write_json())
        print_json({"inputs": seen.inputs, "records": seen.records, "problems": seen.problems, "sample": samples})
        return
    inputs = f"{seen.inputs} input{'s' * (seen.inputs != 1)}"
    out.print(f"{seen.records:,} records read of {inputs}: {seen.rows.height:,} {source.records}.")
    values = [[column, *("" if value is None else value for value in sample[column].to_list())] for column in known]
    columns = ["column", *(str(number) for number in range(1, sample.height + 1))]
    if sample.height:
        out.print(sheet("Sample", columns, values, is_list=False))
    for problem in seen.problems:
        out.print(f"- {problem}", style="yellow", soft_wrap=True)
    if not seen.problems:
        out.print("No problem found.")


@source_app.command("accept")
def accept_fields(name: str) -> None:
    """Agree with how the fields of a source have changed: from now on they belong to its contract."""
    settings = load_settings()
    source = _source(settings, name)
    if source.contract == "evolve":
        out.print(f"{name} may change as it likes (`contract: evolve`): there is nothing to agree with.")
        return
    changes, days = accept(source, settings.open_lake())
    for change in tell(changes):
        out.print(f"Agreed: {change}.", soft_wrap=True)
    again = f"Found on {', '.join(map(str, days))}: run these days again, or `agentmill run --dirty`."
    out.print(again if days else f"The fields of {name} are those agreed.", soft_wrap=True)


@app.command(rich_help_panel=_RUN)
def run(
    first: Annotated[str | None, typer.Option("--from", help="First UTC day; yesterday if left out.")] = None,
    last: Annotated[str | None, typer.Option("--to", help="Last UTC day, included; else the first.")] = None,
    *,
    dirty: Annotated[
        bool, typer.Option("--dirty", help="Only days whose source has changed since they were run.")
    ] = False,
    accept_missing: Annotated[bool, typer.Option(help="Let days lose records whose files are gone.")] = False,
    as_json: AsJson = False,
) -> None:
    """Run everything for some days: from raw logs to published tables, clusters, candidates and reports."""
    settings = load_settings()
    settings.read_key()
    settings.read_former_keys()
    settings.read_prices()
    settings.read_sanitizer()
    today = datetime.now(UTC).date()
    start = parse_day(first) if first else settings.start_date if dirty else today - timedelta(days=1)
    end = parse_day(last) if last else today if dirty else start
    if not settings.sources:
        stop("There is nothing to run: add a source to agentmill.yaml, or try `agentmill demo`.")
    if start > end:
        stop(f"The first day, {start}, is after the last, {end}.")
    if start < settings.start_date or end > today:
        stop(f"The days {start} to {end} are not all between `start_date` ({settings.start_date}) and today ({today}).")
    days = [start + timedelta(days=n) for n in range((end - start).days + 1)]
    all_seen = True
    if dirty:
        looking = {"far_back": first is not None, "accept_missing": accept_missing, "tell": not as_json}
        changed, all_seen = _dirty_days(settings, start, **looking)
        days = [day for day in changed if day <= end]
    code, accounts = _run(settings, days, accept_missing=accept_missing) if days else (0, [])
    code = code if all_seen else FAILED
    if as_json:
        print_json({"exit_code": code, "days": [json.loads(one.model_dump_json()) for one in accounts]})
    elif days:
        _tell_accounts(accounts)
    raise typer.Exit(code)


@app.command(rich_help_panel=_RUN)
def status(*, as_json: AsJson = False) -> None:
    """Show what is configured, how fresh each source is, and which days are kept back."""
    settings = load_settings()
    warehouse, lake = open_for_reading(settings), settings.open_lake()
    freshness = warehouse.read("select * from agentmill.data_freshness order by source")
    recent = lake.days(CLEAN_EXECUTIONS)[-_RECENT_DAYS:]
    kept_back = [one for day in recent if (one := account(day, lake, warehouse)) and not one.is_published]
    urgent = count_urgent(warehouse)
    if as_json:
        sources = json.loads(freshness.write_json()) if freshness.height else []
        blocked = {str(one.day): one.blocked_by for one in kept_back}
        seen = {"looked_back_to": str(recent[0]) if recent else None, "sources": sources, "not_published": blocked}
        seen |= {"failures": urgent}
        print_json({"warehouse": warehouse.name, "lake": lake.url, **seen})
        return
    out.print(
        f"Configuration  {find_config() or 'none, all defaults'}\nWarehouse      {warehouse.name}", soft_wrap=True
    )
    out.print(f"Lake           {lake.url}\nReports        {settings.reports.absolute()}", soft_wrap=True)
    if freshness.height:
        shown = freshness.select(
            "source",
            pl.col("last_event_at").dt.strftime("%Y-%m-%d %H:%M").alias("last event (UTC)"),
            pl.col("last_published_at").dt.strftime("%Y-%m-%d %H:%M").alias("published (UTC)"),
            pl.when("is_final").then(pl.lit("final")).otherwise(pl.lit("provisional")).alias("day"),
            pl.col("received_count", "clean_count", "quarantined_count", "duplicate_count").name.replace("_count", ""),
        )
        out.print(sheet("Sources, on their last day", shown.columns, shown.rows(), numbers=shown.columns[4:]))
    else:
        out.print("No day has been published yet: `agentmill run` does it.")
    _tell_kept_back(kept_back)
    if recent and not kept_back:
        out.print(f"No day since {recent[0]} is kept back.")
    if urgent:
        told = ", ".join(f"{count} {state}" for state, count in urgent.items())
        out.print(f"Failures that need somebody: {told}. `agentmill failures list` names them.", style="yellow")


@app.command(rich_help_panel=_ASK)
def sql(  # noqa: PLR0913 - each is an option
    query: Annotated[str | None, typer.Argument(help="One SELECT; `-` reads it from standard input.")] = None,
    file: Annotated[Path | None, typer.Option("--file", "-f", help="A file that holds the query.")] = None,
    *,
    as_csv: Annotated[bool, typer.Option("--csv", help="Print CSV.")] = False,
    as_json: AsJson = False,
    role: Role = "analyst",
    timezone: Zone = None,
) -> None:
    """Ask the warehouse, as the read-only role: a query or a file; a table, CSV or JSON comes back."""
    if (query is None) == (file is None):
        stop("Give either a query or --file.")
    if file is not None and not file.is_file():
        stop(f"There is no file {file}.")
    text = file.read_text() if file else sys.stdin.read() if query == "-" else str(query)
    _tell_answer(text, role=f"agentmill_{role}", timezone=timezone, as_csv=as_csv, as_json=as_json)


@app.command(rich_help_panel=_ASK)
def queries(
    name: Annotated[str | None, typer.Argument(help="The question to ask; all are listed if left out.")] = None,
    *,
    as_csv: Annotated[bool, typer.Option("--csv", help="Print CSV.")] = False,
    as_json: AsJson = False,
    timezone: Zone = None,
) -> None:
    """List the ready questions, or ask one of them, as the read-only role."""
    ready = {one.name: one for one in ready_questions()}
    if name is None:
        rows = [(one.name, one.asked_by, one.title) for one in ready.values()]
        if as_json:
            print_json({"queries": [dict(zip(("name", "asked_by", "title"), row, strict=True)) for row in rows]})
        else:
            out.print(sheet("Ready questions", ["name", "asked by", "question"], rows))
        return
    if name not in ready:
        stop(f"There is no question `{name}`; `agentmill queries` lists them.")
    if not (as_csv or as_json):
        out.print(f"{ready[name].title} {ready[name].how_to_read}", soft_wrap=True)
    _tell_answer(ready[name].query, timezone=timezone, as_csv=as_csv, as_json=as_json)


@app.command(rich_help_panel=_RUN)
def dev(
    port: Annotated[int, typer.Option(help="Port of the Dagster UI.")] = 3000,
    host: Annotated[str, typer.Option(help="Address it listens on.")] = "127.0.0.1",
) -> None:
    """Open the Dagster UI with everything set: storage, schedules, state folder. Ends with Ctrl-C."""
    from assets.instance import prepare_home  # noqa: PLC0415 - Dagster is slow to import

    settings = load_settings()
    settings.read_key()
    settings.read_prices()
    settings.read_sanitizer()
    _refuse_taken(host, port)
    open_warehouse(settings)
    prepare_home(settings)
    if (config := find_config()) is not None:
        os.environ[CONFIG_VARIABLE] = str(config.absolute())
    out.print(f"Dagster opens at http://{host}:{port}")
    command = [
        sys.executable,
        "-W",
        "ignore",
        "-m",
        "dagster",
        "dev",
        "-m",
        "assets.definitions",
        "-h",
        host,
        "-p",
        str(port),
    ]
    with subprocess.Popen(command) as process:  # noqa: S603 - our own words
        signal.signal(signal.SIGTERM, lambda *_: process.send_signal(signal.SIGINT))
        signal.signal(signal.SIGINT, lambda *_: process.send_signal(signal.SIGINT))
        raise typer.Exit(process.wait())


def _refuse_taken(host: str, port: int) -> None:
    """End where nothing can listen at the port: Dagster would tell it among its own lines, and go."""
    try:
        with socket.create_server((host, port)):
            pass
    except OSError as error:
        taken = f"Nothing can listen at {host}:{port} ({error.strerror})"
        stop(f"{taken}: end what does, or choose another port with --port.", FAILED)


@app.command(rich_help_panel=_BEGIN)
def demo(
    folder: Annotated[Path, typer.Option("--dir", help="Where the demo lives.")] = Path("agentmill-demo"),
) -> None:
    """Run the real pipeline on two weeks of invented logs with known incidents, and show what it finds."""
    out.print(f"Writing two weeks of logs of a small agent marketplace to {folder}/logs ...")
    truth = marketplace.write_demo(folder)
    out.print(f"{truth.records:,} records, {truth.repeated:,} of them repeated and {truth.broken:,} broken.\n")
    config = folder / marketplace.CONFIG_NAME
    os.environ[CONFIG_VARIABLE] = str(config)
    settings = load_settings()
    code, accounts = _run(settings, [marketplace.FIRST_DAY + timedelta(days=n) for n in range(marketplace.DAYS)])
    _tell_accounts(accounts)
    if code == 0:
        _tell_findings(settings, config)
    raise typer.Exit(code)


# Here and not above, because panels are shown in the order of their first command.
app.command("export", rich_help_panel=_ASK)(export_view)
app.command(rich_help_panel=_FAILURES)(gate)
app.command("retain", rich_help_panel=_KEEP)(retain_data)
app.command(rich_help_panel=_KEEP)(erase_user)
app.command(rich_help_panel=_KEEP)(migrate_legacy)


def _tell_answer(question: str, *, as_csv: bool, as_json: bool, timezone: str | None, role: str = ANALYST) -> None:
    """Ask as a group of readers, and print what comes back."""
    if as_csv and as_json:
        stop("Choose --csv or --json.")
    with ask(open_for_reading(load_settings()), question, role=role, timezone=timezone) as answer:
        if as_csv:
            write_csv(answer, sys.stdout)
        elif as_json:
            write_json(answer, sys.stdout)
        else:
            rows = [["" if value is None else value for value in row] for row in answer.rows]
            out.print(sheet(f"{len(rows):,} row{'s' * (len(rows) != 1)}", answer.columns, rows))


def _dirty_days(
    settings: Settings, since: date, *, far_back: bool, accept_missing: bool, tell: bool
) -> tuple[list[date], bool]:
    """The days that differ from what was extracted of them, told with the reason; and whether every source was seen."""
    lake, now = settings.open_lake(), datetime.now(UTC)
    found, all_seen = [], True
    for name, source in settings.sources.items():
        try:
            dirty = find_dirty_days(source, lake, now, since, far_back=far_back)
        except ExtractionError as error:
            err.print(describe_error(error).splitlines()[0], style="red", soft_wrap=True)
            all_seen = False
            continue
        found += [(day, name, one.reason, one.needs_consent and not accept_missing) for day, one in dirty.items()]
    known = {(day, name) for day, name, _, _ in found}
    stale = find_stale_days(list(settings.sources.values()), lake, since, now)
    again = "read before, and not cleaned since"
    found += [(day, name, again, False) for day in stale for name in stale[day] if (day, name) not in known]
    if tell:
        rows = [
            (day, name, reason + ("; left alone without --accept-missing" if is_left else ""))
            for day, name, reason, is_left in sorted(found)
        ]
        out.print(sheet("Days to run again", ["day", "source", "why"], rows) if rows else "No day has changed.")
    return sorted({day for day, _, _, is_left in found if not is_left}), all_seen


def _run(settings: Settings, days: Sequence[date], *, accept_missing: bool = False) -> tuple[int, list[DayAccount]]:
    """Run the days in this process; the exit code, and what became of each day's records."""
    from assets.instance import prepare_home  # noqa: PLC0415 - Dagster is slow to import

    warehouse = open_warehouse(settings)
    sweep_staging(warehouse)
    prepare_home(settings)
    from assets.definitions import defs  # noqa: PLC0415 - needs the home
    from assets.extract import ACCEPT_MISSING_TAG  # noqa: PLC0415
    from assets.run import run_days  # noqa: PLC0415

    with progress_of_days(len(days)):
        failures = run_days(defs, days, {ACCEPT_MISSING_TAG: "true"} if accept_missing else {})
    for failure in failures:
        err.print(f"{failure.step} failed: {failure.message}", style="red", soft_wrap=True)
    lake = settings.open_lake()
    accounts = [one for day in days if (one := account(day, lake, warehouse)) is not None]
    blocked = any(not one.is_published for one in accounts)
    return (FAILED if failures else BLOCKED if blocked else 0), accounts


def _tell_accounts(accounts: list[DayAccount]) -> None:
    if accounts:
        out.print(accounts_table(accounts))
    _tell_kept_back([one for one in accounts if not one.is_published])
    watched: dict[str, list[str]] = {}
    for one in accounts:
        for check, message in one.warnings.items():
            watched.setdefault(check, []).append(f"{one.day}: {message}")
    for check, messages in watched.items():
        more = f" (and {len(messages) - 1} more days)" if len(messages) > 1 else ""
        out.print(f"To watch: {check}, {messages[0]}{more}", style="yellow", soft_wrap=True)


def _tell_kept_back(kept_back: list[DayAccount]) -> None:
    """Which days keep their old data, why, and what to do; days in a row that share the reason take one line."""
    for why, same in itertools.groupby(
        kept_back, lambda one: "; ".join(one.blocked_by) or "its publication has not run"
    ):
        days = [one.day for one in same]
        told = f"{days[0]} keeps its" if len(days) == 1 else f"{days[0]} to {days[-1]} ({len(days)} days) keep their"
        out.print(f"{told} old data: {why}", style="red", soft_wrap=True)
    if kept_back:
        out.print(
            'docs/operations.md, "At 3 a.m.", tells what each check means and what to do about it.', soft_wrap=True
        )


def _tell_findings(settings: Settings, config: Path) -> None:
    """What the demo found, where to read on, and what to ask next."""
    rows = open_warehouse(settings).read(marketplace.FINDINGS).rows()
    columns = ["category", "times", "first seen", "agents", "what it says"]
    out.print(sheet("What fails most", columns, rows, numbers=["times"]))
    out.print(f"Read on in {settings.reports / 'failure_report.html'} and regression_report.html.", soft_wrap=True)
    out.print("\nThree questions to try:")
    for question in marketplace.QUESTIONS:
        out.print(f'  agentmill -c {config} sql "{question}"', soft_wrap=True)


def _source(settings: Settings, name: str) -> AnySource:
    if name not in settings.sources:
        stop(f"There is no source `{name}`; there are: {', '.join(settings.sources) or 'none'}.")
    return settings.sources[name]
