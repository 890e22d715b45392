"""Failures with an identity: daily facts per signature, and the clusters derived from all of them."""

import polars as pl

from pipelines.execution import TEXTS, TIMESTAMP
from pipelines.failures.classify import categorize, classify
from pipelines.failures.cluster import cluster
from pipelines.failures.fingerprint import identify, normalise
from pipelines.failures.text import failure_text, is_failure
from pipelines.warehouse.connection import Warehouse
from pipelines.warehouse.ledger import ALL_DAYS, Load, content_digest, table_contents, while_made_of
from pipelines.warehouse.publish import replace_rows

SIGNATURES = "failure_signatures_daily"
CLUSTERS = "failure_clusters"

COLUMNS = (
    "event_time",
    "source",
    "execution_id",
    "status",
    "error_type",
    "error_message",
    "stack",
    "agent_id",
    "agent_version",
    "model",
    "user_key",
    "occurrences",
)
"""What is read of an execution."""

_SAMPLES = 5
_AFFECTED = ("agent_ids", "agent_versions", "models")
FACTS = pl.Schema(
    {
        "day": pl.Date(),
        "signature_id": pl.String(),
        "template": pl.String(),
        "match_key": pl.String(),
        "category": pl.String(),
        "severity": pl.String(),
        "fault_domain": pl.String(),
        "occurrence_count": pl.Int64(),
        "reported_count": pl.Int64(),
        "first_seen_at": TIMESTAMP,
        "second_seen_at": TIMESTAMP,
        "third_seen_at": TIMESTAMP,
        "previous_seen_at": TIMESTAMP,
        "last_seen_at": TIMESTAMP,
        "agent_ids": TEXTS,
        "agent_versions": TEXTS,
        "models": TEXTS,
        "user_keys": TEXTS,
        "sample_message": pl.String(),
        "sample_execution_ids": TEXTS,
    }
)
"""Grain: one UTC day and signature. `reported_count` adds the repetitions that a source counts without telling their
times. Of many occurrences, the first three and the last two are all that a rule across days can need; `edge_times`
lists those there are."""


def categorize_failures(executions: pl.DataFrame) -> pl.Series:
    """The failure category of each execution; null where it is no failure."""
    return categorize(executions.select(pl.when(is_failure()).then(failure_text())).to_series())


def publish_clusters(warehouse: Warehouse) -> pl.DataFrame:
    """Derive the clusters from the facts of all days, publish them, and return them."""
    contents = table_contents(warehouse, SIGNATURES)
    clusters = derive_clusters(read_facts(warehouse))
    load = Load(table=CLUSTERS, day=ALL_DAYS, content=content_digest(CLUSTERS, contents), rows=clusters.height)
    replace_rows(warehouse, [(load, clusters)], basis=while_made_of(SIGNATURES, contents))
    return clusters


def read_facts(warehouse: Warehouse) -> pl.DataFrame:
    """All daily failure facts, ordered by day and signature."""
    facts = warehouse.read("select * from agentmill.failure_signatures_daily order by day, signature_id")
    return facts.match_to_schema(FACTS) if facts.height else FACTS.to_frame()


def signature_facts(executions: pl.DataFrame) -> pl.DataFrame:
    """One row per UTC day and signature: how often, when, and who was hit. A pure function of the executions."""
    failures = executions.filter(is_failure()).sort("event_time", "source", "execution_id")
    failures = failures.with_columns(failure_text().alias("text"), day=pl.col("event_time").dt.date())
    failures = failures.with_columns(*identify(failures["text"], failures["stack"]))
    times = pl.col("event_time")
    facts = failures.group_by("day", "signature_id").agg(
        pl.col("match_key", "stack").first(),
        occurrence_count=pl.len().cast(pl.Int64),
        reported_count=pl.max_horizontal(pl.col("occurrences").fill_null(1), 1).sum(),
        first_seen_at=times.first(),
        second_seen_at=times.get(1, null_on_oob=True),
        third_seen_at=times.get(2, null_on_oob=True),
        previous_seen_at=times.get(-2, null_on_oob=True),
        last_seen_at=times.last(),
        agent_ids=_distinct("agent_id"),
        agent_versions=_distinct("agent_version"),
        models=_distinct("model"),
        user_keys=_distinct("user_key"),
        sample_message=pl.col("text").first(),
        sample_execution_ids=pl.col("execution_id").head(_SAMPLES),
    )
    kinds = classify(facts["match_key"]).select("category", "severity", "fault_domain")
    templates = normalise(facts["sample_message"], facts["stack"])["template"]
    return facts.with_columns(*kinds, templates).select(FACTS.names()).sort("day", "signature_id")


def edge_times() -> pl.Expr:
    """The occurrence times that a row of FACTS tells, each occurrence once."""
    names = ("first_seen_at", "second_seen_at", "third_seen_at", "previous_seen_at", "last_seen_at")
    first, second, third, previous, last = (pl.col(name) for name in names)
    count = pl.col("occurrence_count")
    return (
        pl.when(count == 1)
        .then(pl.concat_list(first))
        .when(count == 2)  # noqa: PLR2004
        .then(pl.concat_list(first, last))
        .when(count == 3)  # noqa: PLR2004
        .then(pl.concat_list(first, second, last))
        .when(count == 4)  # noqa: PLR2004
        .then(pl.concat_list(first, second, third, last))
        .otherwise(pl.concat_list(first, second, third, previous, last))
    )


def derive_clusters(facts: pl.DataFrame) -> pl.DataFrame:
    """One row per cluster over the facts of all days; their order does not matter.

    A cluster's id is the signature of its earliest member (day, then id), so every id ever published is one of its
    `signature_ids`. Its words are those of its most frequent member.
    """
    members = cluster(facts.select("signature_id", "match_key", "day")).members.select("signature_id", "cluster_id")
    rows = (
        facts.join(members, on="signature_id")
        .sort("day", "signature_id")
        .with_columns(total=pl.col("occurrence_count").sum().over("signature_id"))
    )
    words = pl.col("template", "category", "severity", "fault_domain", "sample_message")
    return (
        rows.group_by("cluster_id")
        .agg(
            words.sort_by("total", "day", "signature_id", descending=[True, False, False]).first(),
            signature_ids=_distinct("signature_id"),
            occurrence_count=pl.col("occurrence_count").sum(),
            reported_count=pl.col("reported_count").sum(),
            day_count=pl.col("day").n_unique().cast(pl.Int64),
            first_seen_at=pl.col("first_seen_at").min(),
            last_seen_at=pl.col("last_seen_at").max(),
            user_count=pl.col("user_keys").list.explode().drop_nulls().n_unique().cast(pl.Int64),
            **{
                name: pl.col(name).list.explode().drop_nulls().unique().sort()
                for name in ("agent_ids", "agent_versions", "models")
            },
            sample_execution_ids=pl.col("sample_execution_ids").list.explode().head(_SAMPLES),
        )
        .sort("cluster_id")
    )


def _distinct(column: str) -> pl.Expr:
    return pl.col(column).drop_nulls().unique().sort()
