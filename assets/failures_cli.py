"""`agentmill failures`: where failures stand, and what people decide about them."""

import getpass
from datetime import UTC, datetime, time
from typing import Annotated, Any

import typer

from assets.display import AsJson, out, parse_day, print_json, sheet, stop, the_one
from assets.entering import derive_anew
from pipelines.failures.decisions import Action, DecisionError, decide
from pipelines.failures.overview import BY_URGENCY, failure_states, find_failures, list_failures, tell_failure
from pipelines.report.failures import describe_difference
from pipelines.settings import load_settings
from pipelines.warehouse import open_for_reading
from pipelines.warehouse.connection import Warehouse

failures_app = typer.Typer(no_args_is_help=True, help="Where failures stand: look, and decide.")

Failure = Annotated[str, typer.Argument(metavar="ID", help="Id of a failure, or its first six characters or more.")]
Reason = Annotated[str, typer.Option("--reason", "-r", help="Why; kept for good.", prompt="Why")]
By = Annotated[str | None, typer.Option("--by", help="Who decides; you, where left out.")]
Environment = Annotated[str | None, typer.Option("--environment", "-e", help="Only there; everywhere where left out.")]
_SAMPLE = 300


@failures_app.command("list")
def show_failures(
    state: Annotated[str | None, typer.Option("--state", help=f"One of {', '.join(BY_URGENCY)}.")] = None,
    environment: Environment = None,
    *,
    as_json: AsJson = False,
) -> None:
    """List failures with their state, the most urgent first."""
    if state is not None and state not in BY_URGENCY:
        stop(f"There is no state `{state}`; there are: {', '.join(BY_URGENCY)}.")
    warehouse = open_for_reading(load_settings())
    told = list_failures(warehouse, state, environment)
    if as_json:
        print_json({"failures": told.rows(named=True)})
    elif told.height:
        columns = ["id", "environment", "state", "since (UTC)", "category", "times", "users", "what it says"]
        rows = [_line(one) for one in told.rows(named=True)]
        out.print(sheet("Failures", columns, rows, numbers=columns[5:7]))
        out.print("\n`agentmill failures show ID` tells everything about one.")
    else:
        out.print(_why_none(list_failures(warehouse, None, None)["environment"].unique().sort().to_list(), environment))


@failures_app.command("show")
def show_failure(failure: Failure, *, as_json: AsJson = False) -> None:
    """Tell everything about one: where it stands, how it came there, what was decided, and examples."""
    warehouse = open_for_reading(load_settings())
    told = tell_failure(warehouse, _find(warehouse, failure))
    if as_json:
        print_json(told)
        return
    facts = [
        ("says", told["title"] or told["template"]),
        ("for example", told["sample_message"][:_SAMPLE]),
        ("kind", f"{told['category']} ({told['severity']}, {told['fault_domain']})"),
        ("happened", f"{told['occurrence_count']:,} times, {told['user_count']:,} users, trend {told['trend']}"),
        ("seen", f"{_minute(told['first_seen_at'])} to {_minute(told['last_seen_at'])} UTC"),
        *[("different", describe_difference(one)) for one in told["differences"]],
        ("agents", ", ".join(told["agent_ids"])),
        ("versions", ", ".join(told["agent_versions"])),
        ("executions", ", ".join(told["sample_execution_ids"])),
        ("other ids", ", ".join(one for one in told["signature_ids"] if one != told["cluster_id"])),
    ]
    out.print(sheet(told["cluster_id"], ["", ""], [fact for fact in facts if fact[1]]))
    states = [
        (_place(one), one["state"], _minute(one["since"]), one["occurrence_count"], one["reason"])
        for one in told["states"]
    ]
    columns = ["environment", "state", "since (UTC)", "times", "why"]
    out.print(sheet("\nWhere it stands", columns, states, numbers=["times"]))
    changes = [
        (_minute(one["changed_at"]), _place(one), one["from_state"] or "", one["to_state"], one["reason"])
        for one in told["transitions"]
    ]
    out.print(sheet("\nHow it came there", ["when (UTC)", "environment", "from", "to", "why"], changes))
    if told["decisions"]:
        said = [
            (_minute(one["effective_at"]), one["decided_by"], one["environment"] or "all", one["action"], one["reason"])
            for one in told["decisions"]
        ]
        out.print(sheet("\nWhat people decided", ["when (UTC)", "who", "environment", "what", "why"], said))


@failures_app.command()
def resolve(
    failure: Failure,
    reason: Reason,
    by: By = None,
    environment: Environment = None,
    fixed_in: Annotated[str | None, typer.Option("--fixed-in", help="The version with the fix.")] = None,
) -> None:
    """Call it resolved: if it happens again from that version on, it has regressed."""
    _decide(failure, "resolve", reason, by, environment=environment, fixed_in_version=fixed_in)


@failures_app.command()
def reopen(failure: Failure, reason: Reason, by: By = None, environment: Environment = None) -> None:
    """Take a resolution back, also one by a test or by silence."""
    _decide(failure, "reopen", reason, by, environment=environment)


@failures_app.command()
def mute(  # noqa: PLR0913 - each is an option
    failure: Failure,
    reason: Reason,
    by: By = None,
    environment: Environment = None,
    until: Annotated[str | None, typer.Option("--until", metavar="DATE", help="Until this UTC day begins.")] = None,
    *,
    until_escalating: Annotated[bool, typer.Option("--until-escalating", help="Until it escalates.")] = False,
    forever: Annotated[bool, typer.Option("--forever", help="Until somebody unmutes it.")] = False,
) -> None:
    """Ask for no attention, for a time or for good; what it does is still followed."""
    if (until is not None) + until_escalating + forever != 1:
        stop("Say how long: --until DATE, --until-escalating or --forever.")
    muted_until = datetime.combine(parse_day(until), time(), tzinfo=UTC) if until else None
    how_long = {"muted_until": muted_until, "until_escalating": until_escalating}
    _decide(failure, "mute", reason, by, environment=environment, **how_long)


@failures_app.command()
def unmute(failure: Failure, reason: Reason, by: By = None, environment: Environment = None) -> None:
    """End a mute."""
    _decide(failure, "unmute", reason, by, environment=environment)


def _decide(failure: str, action: Action, reason: str, by: str | None, **given: Any) -> None:  # noqa: ANN401
    """Enter a decision, derive all states anew, and tell where the failure stands now."""
    settings = load_settings()
    warehouse = open_for_reading(settings)
    found = _find(warehouse, failure)
    try:
        decide(warehouse, found, action, by or getpass.getuser(), reason, sanitizer=settings.read_sanitizer(), **given)
    except DecisionError as error:
        stop(str(error))
    if derive_anew(warehouse, settings) is None:
        return
    for one in failure_states(warehouse, found):
        out.print(f"{found} in {_place(one)} is {one['state']}: {one['reason']}", soft_wrap=True)


def _find(warehouse: Warehouse, text: str) -> str:
    advice = ": give an id that `agentmill failures list` shows, or six characters of it"
    return the_one(find_failures(warehouse, text), text, "failure", advice)


def _why_none(environments: list[str], asked: str | None) -> str:
    if not environments:
        return "No failure has been published."
    if asked is not None and asked not in environments:
        there = ", ".join(one or "no environment" for one in environments)
        return f"No failure happened in `{asked}`; some did in: {there}."
    return "There is none."


def _line(one: dict[str, Any]) -> tuple[object, ...]:
    head = (one["cluster_id"], _place(one), one["state"], _minute(one["since"]), one["category"])
    return (*head, one["occurrence_count"], one["user_count"], one["title"])


def _place(one: dict[str, Any]) -> str:
    return one["environment"] or "no environment"


def _minute(at: datetime) -> str:
    return f"{at.astimezone(UTC):%Y-%m-%d %H:%M}"
