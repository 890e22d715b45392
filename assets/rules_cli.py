"""`agentmill failures shadow` and `adopt`: a change of the rules of clustering, tried, then taken over."""

import getpass
from pathlib import Path
from typing import Annotated

import typer

from assets.display import AsJson, out, print_json, sheet, stop
from assets.entering import derive_anew
from pipelines.failures.derived import known_overrides
from pipelines.failures.fingerprint import RULES_VERSION
from pipelines.failures.shadow import Shadow, adopt, run_shadow
from pipelines.settings import load_settings
from pipelines.warehouse import find_warehouse, open_for_reading

_MOST_SHOWN = 30
_LONGEST_TEXT = 100


def show_shadow(
    target: Annotated[Path | None, typer.Option("--out", help="Write all changes there too, as CSV.")] = None,
    *,
    as_json: AsJson = False,
) -> None:
    """Tell what the installed rules would split, merge and move of all published failures. Changes nothing.

    Run it with a new release, before that is the one that runs the days.
    """
    settings = load_settings()
    shadow = run_shadow(find_warehouse(settings), known_overrides(settings.failures))
    if target is not None:
        shadow.changes.write_csv(target)
    if as_json:
        print_json(_as_dict(shadow))
        return
    rows = [(kind, old, new, count, text[:_LONGEST_TEXT]) for kind, old, new, count, text in shadow.changes.iter_rows()]
    if rows:
        columns = ["what", "cluster", "would be", "times", "for example"]
        out.print(sheet("Clusters that change", columns, rows[:_MOST_SHOWN], numbers=["times"]))
    if len(rows) > _MOST_SHOWN:
        out.print(f"... and {len(rows) - _MOST_SHOWN:,} more: --out FILE writes them all.")
    _tell(shadow)


def adopt_rules(
    reason: Annotated[str, typer.Option("--reason", "-r", help="Why; kept for good.", prompt="Why")],
    by: Annotated[str | None, typer.Option("--by", help="Who has looked at it; you, where left out.")] = None,
) -> None:
    """Take over what the shadow run tells: each old signature finds the cluster that most of it is in by the new rules.

    Days keep their signatures until they are run again.
    """
    settings = load_settings()
    warehouse = open_for_reading(settings)
    shadow = run_shadow(warehouse, known_overrides(settings.failures))
    if shadow.aliases.is_empty():
        stop("Every signature is what the installed rules make of it: there is nothing to adopt.", code=0)
    count = adopt(warehouse, shadow, by or getpass.getuser(), reason, settings.read_sanitizer())
    derive_anew(warehouse, settings)
    out.print(f"{count:,} signatures lead to their successors by version {RULES_VERSION} of the rules.")


def _tell(shadow: Shadow) -> None:
    kept = shadow.occurrence_count - shadow.moved_count
    share = kept / shadow.occurrence_count if shadow.occurrence_count else 1.0
    out.print(
        f"{kept:,} of {shadow.occurrence_count:,} occurrences ({share:.2%}) stay with their cluster; "
        f"{shadow.aliases.height:,} signatures get another id under version {RULES_VERSION} of the rules.",
        soft_wrap=True,
    )
    if shadow.sampled_count:
        out.print(
            f"{shadow.sampled_count:,} occurrences were judged by one message of their day: their executions are gone.",
            soft_wrap=True,
        )
    if shadow.aliases.height:
        out.print("`agentmill failures adopt` takes it over, once you have looked at it.")


def _as_dict(shadow: Shadow) -> dict[str, object]:
    return {
        "rules_version": RULES_VERSION,
        "occurrence_count": shadow.occurrence_count,
        "moved_count": shadow.moved_count,
        "sampled_count": shadow.sampled_count,
        "changes": shadow.changes.to_dicts(),
        "aliases": shadow.aliases.to_dicts(),
    }
