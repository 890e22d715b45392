"""Executions that stand on more than one day: within a day the latest record wins, across days both are counted."""

from datetime import date, timedelta

import polars as pl

from pipelines.clean import CLEAN_EXECUTIONS, CleanReceipt
from pipelines.lake import Lake
from pipelines.validate.verdict import Finding, Verdict

_WITHIN = timedelta(days=7)
_MOST_EXAMPLES = 5
_KEY = ("source", "execution_id")


def judge_repeats(day: date, rows: pl.DataFrame, lake: Lake) -> Verdict:
    """No execution of the day stands on another day within a week of it as well."""
    near = [other for other in lake.days(CLEAN_EXECUTIONS) if other != day and abs(other - day) <= _WITHIN]
    ids = rows.select(_KEY)
    repeated = {other: ids.join(_ids_of(other, lake), on=_KEY, how="semi") for other in near}
    findings = [
        Finding(
            rule=f"executions stand on {other} too",
            failed=found.height,
            of=rows.height,
            examples=found["execution_id"].sort().head(_MOST_EXAMPLES).to_list(),
        )
        for other, found in repeated.items()
        if found.height
    ]
    told = [f"{one.failed} {one.rule}, such as {', '.join(one.examples)}" for one in findings]
    return Verdict(
        check="repeated_on_other_days",
        severity="warning",
        passed=not findings,
        message="; ".join(told) or f"no execution stands on any of {len(near)} days around",
        figures={"repeated": sum(one.failed for one in findings), "days_compared": len(near)},
        findings=findings,
    )


def _ids_of(day: date, lake: Lake) -> pl.DataFrame:
    receipt = lake.receipt(CLEAN_EXECUTIONS, day, CleanReceipt)
    parts = receipt.parts if receipt is not None else []
    empty = pl.DataFrame(schema=dict.fromkeys(_KEY, pl.String))
    return pl.concat([empty, *(lake.read(part, _KEY) for part in parts if part.rows)])
