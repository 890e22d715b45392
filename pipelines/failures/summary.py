"""One row per cluster: what it says, how often it happened, whom it hit, and whether it becomes more or less."""

import math
from datetime import date, timedelta

import polars as pl

from pipelines.failures.classify import CATEGORIES, UNKNOWN, classify
from pipelines.failures.closure import HOLE
from pipelines.failures.cluster import Clusters
from pipelines.failures.facts import DIMENSIONS

_SAMPLES = 5
_WEEK = timedelta(days=7)
_NEGLIGIBLE = 1e-12
_SURE = 0.01
"""How unlikely a change must be by chance to be called a trend."""


def summarise(facts: pl.DataFrame, found: Clusters, activity: pl.DataFrame) -> pl.DataFrame:
    """One row per cluster over the facts of all days; their order does not matter.

    `activity` tells the executions of each day. The words of a cluster are those of its most frequent member; its
    title is what a person calls it, else what its members agree on.
    """
    members = found.members
    rows = (
        facts.join(members.select("signature_id", "cluster_id"), on="signature_id")
        .sort("day", "signature_id", "first_seen_at", "sample_message")
        .with_columns(total=pl.col("occurrence_count").sum().over("signature_id"))
    )
    words = pl.col("template", "match_key", "sample_message")
    several = {"agent_ids": "agent_id", "agent_versions": "agent_version", "models": "model"}
    several |= {"environments": "environment", "releases": "release"}
    counts = ("occurrence_count", "reported_count", "session_count", "ended_session_count")
    clusters = rows.group_by("cluster_id").agg(
        words.sort_by("total", "day", "signature_id", descending=[True, False, False], maintain_order=True).first(),
        pl.col(*counts).sum(),
        signature_ids=_distinct("signature_id"),
        day_count=pl.col("day").n_unique().cast(pl.Int64),
        first_seen_at=pl.col("first_seen_at").min(),
        last_seen_at=pl.col("last_seen_at").max(),
        user_count=pl.col("user_keys").list.explode().drop_nulls().n_unique().cast(pl.Int64),
        templates=_distinct("template"),
        **{name: _distinct(column) for name, column in several.items()},
        sample_execution_ids=pl.col("sample_execution_ids").list.explode().head(_SAMPLES),
    )
    kinds = classify(clusters["match_key"]).rename(
        {"retryable": "is_retryable", "rule": "category_rule", "evidence": "category_evidence"}
    )
    return (
        clusters.drop("match_key", "templates")
        .with_columns(*kinds.select("category", "severity", "fault_domain", "is_retryable", r"^category_.+$"))
        .with_columns(clusters["templates"].map_elements(agree, pl.String).alias("agreed"))
        .with_columns(failure_share=pl.col("occurrence_count") / pl.col("occurrence_count").sum())
        .pipe(_as_decided, found)
        .join(_trends(rows, activity), on="cluster_id", how="left")
        .join(_same_inputs(rows), on="cluster_id", how="left")
        .sort("cluster_id")
    )


def _as_decided(clusters: pl.DataFrame, found: Clusters) -> pl.DataFrame:
    """The clusters with a title, and with the name and category that people gave them."""
    kinds = pl.DataFrame(
        [(one.name, one.fault_domain, one.retryable) for one in (*CATEGORIES, UNKNOWN)],
        schema={"decided_category": pl.String, "decided_domain": pl.String, "decided_retryable": pl.Boolean},
        orient="row",
    )
    decided = found.decided.rename({name: f"decided_{name}" for name in ("category", "severity")})
    told = clusters.join(decided, on="cluster_id", how="left").join(kinds, on="decided_category", how="left")
    is_decided = pl.col("decided_category").is_not_null()
    return told.with_columns(
        title=pl.coalesce("name", "agreed", "template"),
        category=pl.coalesce("decided_category", "category"),
        severity=pl.coalesce("decided_severity", "severity"),
        fault_domain=pl.coalesce("decided_domain", "fault_domain"),
        is_retryable=pl.coalesce("decided_retryable", "is_retryable"),
        category_rule=pl.when(is_decided).then(pl.lit("override")).otherwise("category_rule"),
        category_evidence=pl.when(~is_decided).then("category_evidence"),
    ).drop("agreed", "name", r"^decided_.+$")


def agree(templates: pl.Series) -> str | None:
    """What templates of equally many words have in common, `<?>` where they differ; None where that is little."""
    told = [template.split() for template in templates]
    if len({len(words) for words in told}) != 1:
        return None
    words = [HOLE if len(set(place)) > 1 else place[0] for place in zip(*told, strict=True)]
    return " ".join(words) if words.count(HOLE) * 2 < len(words) else None


def _same_inputs(rows: pl.DataFrame) -> pl.DataFrame:
    """shaped_count and same_input_count of each cluster; signatures of one cell share their runs: the most count."""
    cells = rows.group_by("cluster_id", "day", *DIMENSIONS).agg(
        pl.col("shaped_count").sum(), pl.col("same_input_count").max()
    )
    runs = pl.max_horizontal("shaped_count", "same_input_count").alias("same_input_count")
    return cells.with_columns(runs).group_by("cluster_id").agg(pl.col("shaped_count", "same_input_count").sum())


def _trends(rows: pl.DataFrame, activity: pl.DataFrame) -> pl.DataFrame:
    """last_week_count, week_before_count and trend of each cluster: the last seven days of data beside those before."""
    last = activity["day"].max() or rows["day"].max()
    weeks = (_days_back(last, 0), _days_back(last, 1)) if isinstance(last, date) else (pl.lit(value=False),) * 2
    runs = activity.select(pl.col("execution_count").filter(week).sum().alias(f"{n}") for n, week in enumerate(weeks))
    now, before = runs.row(0)
    counted = rows.group_by("cluster_id").agg(
        pl.col("occurrence_count").filter(week).sum().alias(name)
        for name, week in zip(("last_week_count", "week_before_count"), weeks, strict=True)
    )
    trend = [trend_of(one, other, now, before) for _, one, other in counted.iter_rows()]
    return counted.with_columns(pl.Series("trend", trend, pl.String))


def _days_back(last: date, weeks: int) -> pl.Expr:
    return pl.col("day").is_between(last - _WEEK * (weeks + 1), last - _WEEK * weeks, closed="right")


def trend_of(now: int, before: int, runs_now: int, runs_before: int) -> str:
    """rising, falling or steady; unknown where a week has no runs.

    Of all occurrences, those of the last week are binomial with the week's share of the runs, if nothing changed
    (Przyborowski and Wilenski, 1940). A change that chance makes in fewer than 1 of 100 cases is a trend.
    """
    if not runs_now or not runs_before:
        return "unknown"
    share = runs_now / (runs_now + runs_before)
    at_least, at_most = _binomial_tail(now, now + before, share), _binomial_tail(before, now + before, 1 - share)
    return "rising" if at_least < _SURE / 2 else "falling" if at_most < _SURE / 2 else "steady"


def _binomial_tail(count: int, total: int, share: float) -> float:
    """How likely `count` or more of `total` are; 1 where that is no more than to be expected."""
    if count <= total * share:
        return 1.0
    logs, tail = (math.log(share), math.log1p(-share)), 0.0
    for n in range(count, total + 1):
        ways = math.lgamma(total + 1) - math.lgamma(n + 1) - math.lgamma(total - n + 1)
        term = math.exp(ways + n * logs[0] + (total - n) * logs[1])
        tail += term
        if term <= tail * _NEGLIGIBLE:
            break
    return tail


def _distinct(column: str) -> pl.Expr:
    return pl.col(column).drop_nulls().unique().sort()
