"""`agentmill candidates`: what asks for a regression test, and what people say about it."""

import getpass
import json
from pathlib import Path
from typing import Annotated, Any, get_args

import typer

from assets.display import AsJson, out, print_json, sheet, stop, the_one
from assets.entering import derive_anew
from pipelines.regression import find_candidate, tell_candidate
from pipelines.regression.candidates import State
from pipelines.regression.reviews import Action, Review, ReviewError, review_candidate
from pipelines.settings import load_settings
from pipelines.warehouse import open_for_reading
from pipelines.warehouse.connection import Warehouse

candidates_app = typer.Typer(no_args_is_help=True, help="What asks for a regression test: look, and decide.")

Candidate = Annotated[str, typer.Argument(metavar="ID", help="Id of a candidate; the first characters are enough.")]
Reason = Annotated[str, typer.Option("--reason", "-r", help="Why; kept for good.", prompt="Why")]
By = Annotated[str | None, typer.Option("--by", help="Who says so; you, where left out.")]
_STATES: tuple[str, ...] = get_args(State)
_SAMPLE = 300


@candidates_app.command("list")
def list_candidates(
    state: Annotated[str | None, typer.Option("--state", help=f"One of {', '.join(_STATES)}.")] = None,
    *,
    as_json: AsJson = False,
) -> None:
    """List what asks for a test, what matters most first."""
    if state is not None and state not in _STATES:
        stop(f"There is no state `{state}`; there are: {', '.join(_STATES)}.")
    told = open_for_reading(load_settings()).read(_LIST, [state, state])
    if as_json:
        print_json({"candidates": told.rows(named=True)})
        return
    rows = [(*row[:2], f"{row[2]:.2f}", *row[3:]) for row in told.drop("state_reason").iter_rows()]
    if not rows:
        out.print("No failure has struck three times within seven days." if state is None else f"None is {state}.")
        return
    columns = ["id", "state", "priority", "kind", "category", "times", "users", "what it says"]
    out.print(sheet("Candidates for regression tests", columns, rows, numbers=columns[5:7]))
    if any(row[1] == "proposed" for row in rows):
        out.print("\n`agentmill candidates show ID` tells the evidence; approve or reject says what you think.")


@candidates_app.command("show")
def show_candidate(candidate: Candidate, *, as_json: AsJson = False) -> None:
    """Tell everything about one: the failure, the evidence, its gates, its priority, and what people said."""
    settings = load_settings()
    warehouse = open_for_reading(settings)
    told = tell_candidate(warehouse, _find(warehouse, candidate))
    if as_json:
        print_json(told)
        return
    facts = [
        ("state", f"{told['state']}, {told['state_reason']}"),
        ("kind", told["kind"]),
        ("failure", f"{told['cluster_id']}, {told['category']} ({told['severity']}, {told['fault_domain']})"),
        ("says", told["title"]),
        ("for example", told["sample_message"][:_SAMPLE]),
        ("happened", f"{told['occurrence_count']:,} times, {told['user_count']:,} users, trend {told['trend']}"),
        ("seen", f"{told['first_seen_at']:%Y-%m-%d %H:%M} to {told['last_seen_at']:%Y-%m-%d %H:%M} UTC"),
        ("struck", f"{told['struck_at']:%Y-%m-%d %H:%M} UTC, with {told['window_occurrence_count']:,} in seven days"),
        ("executions", ", ".join(told["evidence_execution_ids"])),
    ]
    out.print(sheet(told["candidate_id"], ["", ""], facts))
    gates = [(gate["gate"], "yes" if gate["passed"] else "NO", gate["reason"]) for gate in told["gates"]]
    out.print(sheet("\nGates", ["gate", "passed", "why"], gates))
    parts = [
        (name, f"{part['share']:.2f}", part["weight"], part["reason"]) for name, part in told["priority_parts"].items()
    ]
    out.print(sheet(f"\nPriority {told['priority']:.2f}", ["part", "share", "weight", "why"], parts))
    if told["differences"]:
        with_it = [(one["what"], f"{one['lift']:.1f} times as often", one["detail"]) for one in told["differences"]]
        out.print(sheet("\nWhat is different about it", ["with", "happens", ""], with_it))
    if told["reviews"]:
        said = [
            (f"{one['reviewed_at']:%Y-%m-%d %H:%M}", one["reviewed_by"], one["action"], one["reason"])
            for one in told["reviews"]
        ]
        out.print(sheet("\nWhat people said", ["when (UTC)", "who", "what", "why"], said))


@candidates_app.command()
def approve(
    candidate: Candidate,
    reason: Reason,
    by: By = None,
    fixture: Annotated[Path | None, typer.Option("--fixture", help="Input for the test, a JSON file.")] = None,
    *,
    blocking: Annotated[bool, typer.Option(help="Whether the test may stop a release.")] = True,
) -> None:
    """Make it a test."""
    _review(candidate, "approve", reason, by, is_blocking=blocking, fixture=_read_fixture(fixture))


@candidates_app.command()
def reject(candidate: Candidate, reason: Reason, by: By = None) -> None:
    """Make it no test; it comes back only if the failure changes materially."""
    _review(candidate, "reject", reason, by)


@candidates_app.command()
def merge(
    candidate: Candidate,
    into: Annotated[str, typer.Option("--into", metavar="ID", help="The candidate whose test covers it.")],
    reason: Reason,
    by: By = None,
) -> None:
    """Let the test of another candidate cover it."""
    _review(candidate, "merge", reason, by, into=into)


@candidates_app.command()
def retire(candidate: Candidate, reason: Reason, by: By = None) -> None:
    """End its test."""
    _review(candidate, "retire", reason, by)


@candidates_app.command()
def reopen(candidate: Candidate, reason: Reason, by: By = None) -> None:
    """Take back what was said: it is proposed again."""
    _review(candidate, "reopen", reason, by)


def _review(  # noqa: PLR0913 - each is a part of what is said
    candidate: str,
    action: Action,
    reason: str,
    by: str | None,
    *,
    into: str | None = None,
    is_blocking: bool = True,
    fixture: Any = None,  # noqa: ANN401 - whatever JSON holds
) -> None:
    settings = load_settings()
    warehouse = open_for_reading(settings)
    found = _find(warehouse, candidate)
    review = Review(
        candidate_id=found,
        action=action,
        reviewed_by=by or getpass.getuser(),
        reason=reason,
        merged_into=_find(warehouse, into) if into else None,
        is_blocking=is_blocking,
        fixture=fixture,
    )
    try:
        review_candidate(warehouse, review, settings.read_sanitizer())
    except ReviewError as error:
        stop(str(error))
    if derive_anew(warehouse, settings) is None:
        return
    told = tell_candidate(warehouse, found)
    out.print(f"{told['candidate_id']} is {told['state']}, {told['state_reason']}", soft_wrap=True)


def _find(warehouse: Warehouse, text: str) -> str:
    advice = "; `agentmill candidates list` shows those there are"
    return the_one(find_candidate(warehouse, text), text, "candidate", advice)


def _read_fixture(path: Path | None) -> Any:  # noqa: ANN401
    if path is None:
        return None
    try:
        return json.loads(path.read_text())
    except (OSError, ValueError) as error:
        stop(f"{path} cannot be used as a fixture: {error}. Give a file that holds JSON.")


_LIST = """
select candidate.candidate_id, candidate.state, candidate.priority, candidate.kind, cluster.category,
    cluster.occurrence_count, cluster.user_count, cluster.title, candidate.state_reason
from agentmill.regression_candidates as candidate
join agentmill.failure_clusters as cluster using (cluster_id)
where %s::text is null or candidate.state = %s
order by candidate.priority desc, candidate.candidate_id
"""
