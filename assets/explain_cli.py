"""`agentmill failures why` and `why-not`: how a failure got its identity, and why two are not one."""

from dataclasses import asdict
from typing import Annotated

import typer

from assets.display import AsJson, out, print_json, sheet, stop
from pipelines.failures import find_clusters, read_history
from pipelines.failures.explain import Explanation, why, why_not
from pipelines.failures.lookup import Named, find_text
from pipelines.settings import load_settings
from pipelines.warehouse import open_for_reading
from pipelines.warehouse.connection import Warehouse

_MOST_VALUES = 8

Name = Annotated[str, typer.Argument(metavar="ID", help="Id of an execution, of a signature or of a cluster.")]


def tell_why(failure: Name, *, as_json: AsJson = False) -> None:
    """Explain a failure: what was read of its message, what was masked, its category, and what made its cluster."""
    settings = load_settings()
    warehouse = open_for_reading(settings)
    named = _find(warehouse, failure)
    clusters = find_clusters(read_history(warehouse, settings.failures))
    told = why(named.message, named.stack, clusters, named.identity)
    if as_json:
        print_json({"found": named.found, **asdict(told)})
        return
    _tell(named, told)


def tell_why_not(one: Name, other: Name, *, as_json: AsJson = False) -> None:
    """Tell whether two failures are one, and if not, what keeps them apart."""
    settings = load_settings()
    warehouse = open_for_reading(settings)
    first, second = _find(warehouse, one), _find(warehouse, other)
    told = why_not(first.identity, second.identity, find_clusters(read_history(warehouse, settings.failures)))
    if as_json:
        print_json({"one": asdict(first), "other": asdict(second), **asdict(told)})
        return
    out.print(sheet("", ["", ""], [(first.found, first.message), (second.found, second.message)]))
    out.print(f"\n{'One failure' if told.is_one else 'Two failures'}. {told.sentence}", soft_wrap=True)
    if not told.is_one:
        out.print(
            "People have the last word: `together` in the file of overrides makes them one (docs/failures.md).",
            soft_wrap=True,
        )


def _find(warehouse: Warehouse, name: str) -> Named:
    found = find_text(warehouse, name)
    if found is None:
        stop(f"No failed execution, signature or cluster is named `{name}`; `agentmill failures list` shows ids.")
    return found


def _tell(named: Named, told: Explanation) -> None:
    facets = ", ".join(f"{name} {value}" for name, value in told.facets.items() if value is not None)
    rows = [
        ("found", named.found),
        ("head", told.head),
        ("facets", facets or "none"),
        *([("frames", " < ".join(told.frames))] if told.frames else []),
        ("template", told.template),
        ("key", told.match_key),
        ("signature", told.signature_id),
        ("category", f"{told.category}, by {told.rule}: {told.evidence!r}" if told.rule else "unknown: no rule fits"),
        ("cluster", told.cluster_id or "none: it has not been published"),
        *([("kept apart", told.apart)] if told.apart else []),
    ]
    out.print(sheet("Why it is what it is", ["", ""], rows))
    if told.masked:
        out.print(sheet("\nMasked, in order", ["as", "text"], [(one.type, one.text) for one in told.masked]))
    if told.merges:
        merges = [(one.pattern, one.position, _some(one.values)) for one in told.merges]
        out.print(sheet("\nMade one by what varies", ["pattern", "position", "values"], merges, numbers=["position"]))
    if told.joins:
        joins = [(one.joined_by, ", ".join(one.signature_ids), one.reason or "") for one in told.joins]
        out.print(sheet("\nMade one otherwise", ["by", "signatures", "why"], joins))


def _some(values: tuple[str, ...]) -> str:
    more = f" and {len(values) - _MOST_VALUES:,} more" if len(values) > _MOST_VALUES else ""
    return ", ".join(values[:_MOST_VALUES]) + more
