"""What holds for the rows of a clean day: rules of ours and column expectations, run by Great Expectations.

Great Expectations takes seconds to import and needs pandas, so both are imported only where a day is judged.
"""

from dataclasses import dataclass
from datetime import date
from functools import cache
from typing import TYPE_CHECKING, Any

import polars as pl

from pipelines.execution import FAILURES, STATUSES
from pipelines.validate.verdict import Finding, Severity, Verdict

if TYPE_CHECKING:
    import great_expectations as gx
    import pandas as pd


@dataclass(frozen=True, slots=True)
class Rule:
    """What a good row satisfies, as a name, a sentence and an expression; `applies` limits it to some rows.

    A null verdict is a broken rule, so nullable columns say what null means.
    """

    name: str
    sentence: str
    holds: pl.Expr
    severity: Severity = "error"
    mostly: float = 1.0
    applies: pl.Expr | None = None


_CACHED = pl.col("cache_read_tokens").fill_null(0) + pl.col("cache_write_tokens").fill_null(0)
_NEVER_NULL = ("source", "execution_id", "row_hash", "agent_id", "agent_name", "status", "event_time", "cost_source")
_NOT_NEGATIVE = ("duration_ms", "input_tokens", "output_tokens", "cost_usd", "input_bytes", "output_bytes")
COLUMNS = (
    *_NEVER_NULL,
    *_NOT_NEGATIVE,
    "started_at",
    "completed_at",
    "cache_read_tokens",
    "cache_write_tokens",
    "provider",
    "model",
    "error_type",
    "error_message",
    "user_key",
    "session_key",
    "client_ip_prefix",
    "quality_flags",
)
"""What is looked at of an execution."""
PSEUDONYM = r"^[a-z0-9]+_[0-9a-f]{32}$"
_PREFIX = r"^[0-9a-f.:]+/(?:24|48)$"


def has_form(column: str, form: str) -> pl.Expr:
    """Whether a text looks as it should, or is null."""
    return pl.col(column).str.contains(form).fill_null(value=True)


RULES = (
    Rule(
        "identity_is_known",
        "Source, id, digest, agent, status, event time and origin of the cost are known.",
        pl.all_horizontal(pl.col(_NEVER_NULL).is_not_null()),
    ),
    Rule(
        "occurs_once",
        "An execution occurs once per source and day.",
        ~pl.struct("source", "execution_id").is_duplicated(),
    ),
    Rule(
        "is_anonymized",
        "Users and sessions are pseudonyms, addresses are prefixes.",
        has_form("user_key", PSEUDONYM) & has_form("session_key", PSEUDONYM) & has_form("client_ip_prefix", _PREFIX),
    ),
    Rule(
        "ends_after_start",
        "An execution with a duration does not end before it starts.",
        (pl.col("completed_at") >= pl.col("started_at")).fill_null(value=True) | pl.col("duration_ms").is_null(),
    ),
    Rule(
        "unpriced_without_cost",
        "The cost is null exactly where it is unpriced.",
        pl.col("cost_usd").is_null() == (pl.col("cost_source") == "unpriced"),
    ),
    Rule(
        "success_without_error",
        "A success carries no error.",
        pl.all_horizontal(pl.col("error_type", "error_message").is_null()),
        applies=pl.col("status") == "success",
    ),
    Rule(
        "cached_within_input",
        "Cached tokens are part of the input tokens.",
        (pl.col("input_tokens") >= _CACHED).fill_null(value=True),
    ),
    Rule(
        "failure_says_why",
        "At least half of the failures carry an error type or message.",
        pl.any_horizontal(pl.col("error_type", "error_message").is_not_null()),
        severity="warning",
        mostly=0.5,
        applies=pl.col("status").is_in(FAILURES),
    ),
    Rule(
        "clock_is_sound",
        "At least 95 % of the executions do not end before they start.",
        ~pl.col("quality_flags").list.contains("clock_skew"),
        severity="warning",
        mostly=0.95,
    ),
)

_CHECKS: dict[Severity, str] = {"error": "expectations", "warning": "expectations_to_watch"}
_MOST_EXAMPLES = 5


def judge_rows(rows: pl.DataFrame, day: date, expected_rows: int) -> list[Verdict]:
    """One verdict per severity over all expectations on the rows of a day."""
    if rows.is_empty() and expected_rows == 0:
        return [_verdict_on(check, severity, 0, []) for severity, check in _CHECKS.items()]
    results = _run(_as_pandas(rows), expectations(day, expected_rows))
    verdicts = []
    for severity, check in _CHECKS.items():
        level = "critical" if severity == "error" else "warning"
        ours = [result for result in results if result.expectation_config.severity == level]
        findings = [_finding(result, rows["execution_id"]) for result in ours if not bool(result.success)]
        verdicts.append(_verdict_on(check, severity, rows.height, findings, len(ours)))
    return verdicts


def _verdict_on(check: str, severity: Severity, executions: int, findings: list[Finding], asked: int = 0) -> Verdict:
    good = f"all {asked} expectations hold on {executions} executions" if executions else "the day has no executions"
    return Verdict(
        check=check,
        severity=severity,
        passed=not findings,
        message="; ".join(map(_told, findings)) or good,
        figures={"executions": executions, "expectations": asked, "failed": len(findings)},
        findings=findings,
    )


def _told(finding: Finding) -> str:
    such_as = f", such as {' and '.join(finding.examples[:2])}" if finding.examples else ""
    return f"{finding.rule} {finding.failed} of {finding.of} fail{such_as}"


def expectations(day: date, rows: int) -> "list[gx.expectations.Expectation]":
    """Everything expected of a clean day that should have so many rows."""
    from great_expectations import expectations as gxe  # noqa: PLC0415 - slow to import

    return [
        gxe.ExpectTableRowCountToEqual(value=rows, notes=f"The day has {rows} executions."),
        gxe.ExpectColumnValuesToBeInSet(column="status", value_set=list(STATUSES), notes="The status is canonical."),
        gxe.ExpectColumnValuesToBeInSet(column="event_day", value_set=[str(day)], notes="The event lies in its day."),
        *[
            gxe.ExpectColumnValuesToBeBetween(column=name, min_value=0, notes=f"`{name}` is not negative.")
            for name in _NOT_NEGATIVE
        ],
        *[
            gxe.ExpectColumnValuesToBeInSet(
                column=rule.name,
                value_set=[True],
                mostly=rule.mostly,
                severity="critical" if rule.severity == "error" else "warning",
                notes=rule.sentence,
            )
            for rule in RULES
        ],
    ]


def _as_pandas(rows: pl.DataFrame) -> "pd.DataFrame":
    """What expectations look at, and one verdict column per rule. Few and narrow columns: each is fingerprinted."""
    return rows.select(
        pl.col("status").cast(pl.Categorical),
        pl.col("event_time").dt.date().cast(pl.String).cast(pl.Categorical).alias("event_day"),
        *[pl.col(name).cast(pl.Float64) for name in _NOT_NEGATIVE],
        *[_judged(rule) for rule in RULES],
    ).to_pandas()


def _judged(rule: Rule) -> pl.Expr:
    """Whether each row keeps the rule; null where it does not apply."""
    holds = rule.holds.fill_null(value=False)
    return (holds if rule.applies is None else pl.when(rule.applies).then(holds)).alias(rule.name)


def _run(frame: "pd.DataFrame", expected: "list[gx.expectations.Expectation]") -> list[Any]:
    """The result of every expectation. Raises RuntimeError where one cannot be evaluated at all."""
    import great_expectations as gx  # noqa: PLC0415 - slow to import

    batch = _batch_definition().get_batch(batch_parameters={"dataframe": frame})
    outcome = batch.validate(
        gx.ExpectationSuite(name="clean_executions", expectations=expected), result_format="SUMMARY"
    )
    for result in outcome.results:
        if result.exception_info and result.exception_info.get("raised_exception"):
            raise RuntimeError(f"the expectation on {result.expectation_config.kwargs} could not be evaluated")
    return list(outcome.results)


@cache
def _batch_definition() -> Any:  # noqa: ANN401 - the library gives it no public type
    import great_expectations as gx  # noqa: PLC0415 - slow to import

    context = gx.get_context(mode="ephemeral")
    context.variables.progress_bars = {"globally": False, "metric_calculations": False}
    asset = context.data_sources.add_pandas("clean").add_dataframe_asset("executions")
    return asset.add_batch_definition_whole_dataframe("day")


def _finding(result: Any, ids: pl.Series) -> Finding:  # noqa: ANN401 - the library's own result
    details = result.result
    rows = details.get("partial_unexpected_index_list") or []
    return Finding(
        rule=result.expectation_config.notes or result.expectation_config.type,
        failed=int(details.get("unexpected_count", abs(details.get("observed_value", 0)))),
        of=int(details.get("element_count", len(ids))),
        examples=[ids[row] for row in rows[:_MOST_EXAMPLES]],
    )
