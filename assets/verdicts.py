"""How figures and verdicts of single days reach Dagster, also where one run covers many days."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import date

import dagster as dg

from pipelines.validate.verdict import Severity, Verdict

_SEVERITIES: Mapping[Severity, dg.AssetCheckSeverity] = {
    "error": dg.AssetCheckSeverity.ERROR,
    "warning": dg.AssetCheckSeverity.WARN,
}


def check_results(
    context: dg.AssetExecutionContext, asset: str, verdicts: Mapping[date, Sequence[Verdict]]
) -> list[dg.AssetCheckResult]:
    """One result per check over all days of the run; in a run of many days, each day's own evaluation besides.

    Dagster stores the result of a many-day run without its partition, so the days' evaluations are reported one by one.
    """
    by_check: dict[str, dict[date, Verdict]] = {}
    for day, given in verdicts.items():
        for verdict in given:
            by_check.setdefault(verdict.check, {})[day] = verdict
            if len(verdicts) > 1:
                context.log_event(_of_day(asset, day, verdict))
    return [_overall(asset, check, of_days) for check, of_days in by_check.items()]


def table(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> dg.MetadataValue:
    """A small table for the UI."""
    return dg.MetadataValue.md(
        "\n".join(
            [
                "| " + " | ".join(columns) + " |",
                "|" + "---|" * len(columns),
                *("| " + " | ".join(str(value).replace("|", "\\|") for value in row) + " |" for row in rows),
            ]
        )
    )


def _overall(asset: str, check: str, of_days: Mapping[date, Verdict]) -> dg.AssetCheckResult:
    failed = {day: verdict for day, verdict in of_days.items() if not verdict.passed}
    told = "  \n".join(f"{day}: {verdict.message}" for day, verdict in (failed or of_days).items())
    return dg.AssetCheckResult(
        asset_key=asset,
        check_name=check,
        passed=not failed,
        severity=_SEVERITIES[next(iter(of_days.values())).severity],
        description=told if failed or len(of_days) == 1 else f"Passed on all {len(of_days)} days.",
        metadata={
            "days": len(of_days),
            "failed_days": len(failed),
            "figures": table(
                ["day", *next(iter(of_days.values())).figures],
                [[day, *verdict.figures.values()] for day, verdict in of_days.items()],
            ),
        },
    )


def _of_day(asset: str, day: date, verdict: Verdict) -> dg.AssetCheckEvaluation:
    return dg.AssetCheckEvaluation(
        asset_key=dg.AssetKey(asset),
        check_name=verdict.check,
        passed=verdict.passed,
        metadata=dict(verdict.figures),
        severity=_SEVERITIES[verdict.severity],
        description=verdict.message,
        partition=day.isoformat(),
    )
