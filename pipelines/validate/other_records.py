"""What holds for clean rows that are no executions: log lines and what users said of agents."""

from collections.abc import Mapping
from datetime import date

import polars as pl

from pipelines.record_types import RecordType
from pipelines.validate.expectations import PSEUDONYM, has_form
from pipelines.validate.verdict import Finding, Verdict

_MOST_EXAMPLES = 5


def judge_others(tables: Mapping[RecordType, pl.DataFrame], day: date) -> Verdict:
    """Every row is known by its key, stands once, lies in its day, and names users by pseudonyms only."""
    findings = [
        Finding(
            rule=f"{kind.name}: {sentence}",
            failed=int((~kept).sum()),
            of=rows.height,
            examples=rows.filter(~kept)["row_hash"].head(_MOST_EXAMPLES).to_list(),
        )
        for kind, rows in tables.items()
        for sentence, rule in _rules(kind, day).items()
        if not (kept := rows.select(rule.fill_null(value=False)).to_series()).all()
    ]
    judged = sum(rows.height for rows in tables.values())
    return Verdict(
        check="other_records",
        severity="error",
        passed=not findings,
        message="; ".join(f"{one.rule} {one.failed} of {one.of} fail" for one in findings)
        or f"all rules hold on {judged} rows",
        figures={"rows": judged},
        findings=findings,
    )


def _rules(kind: RecordType, day: date) -> dict[str, pl.Expr]:
    key = ("source", *kind.key)
    return {
        "Each row is known by its key.": pl.all_horizontal(pl.col(*key, "row_hash").is_not_null()),
        "A key stands once per source and day.": ~pl.struct(key).is_duplicated(),
        "The event lies in its day.": pl.col("event_time").dt.date() == day,
        "Users are pseudonyms.": has_form("user_key", PSEUDONYM),
    }
