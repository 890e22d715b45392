"""A change of the rules, tried in the dark: what the installed rules would make of all that is published.

Nothing is written but, once a person has looked at the report, the aliases by which published signatures find the
clusters of their successors.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import polars as pl

from pipelines.anonymize.text import Sanitizer
from pipelines.failures.cluster import cluster
from pipelines.failures.fingerprint import RULES_VERSION, identify
from pipelines.failures.overrides import NO_OVERRIDES, Overrides
from pipelines.failures.text import failure_text
from pipelines.warehouse.connection import Warehouse

TEXTS = pl.Schema(
    {
        "day": pl.Date(),
        "signature_id": pl.String(),
        "text": pl.String(),
        "stack": pl.String(),
        "occurrence_count": pl.Int64(),
    }
)
"""Grain: distinct text of a signature on a UTC day, and how often it was said."""

CHANGES = pl.Schema(
    {
        "kind": pl.String(),
        "cluster_id": pl.String(),
        "new_cluster_id": pl.String(),
        "occurrence_count": pl.Int64(),
        "text": pl.String(),
    }
)
"""Grain: cluster as published and cluster by the installed rules that have occurrences in common, where one of the two
has more than that."""

_TEXTS = """
select occurrence.day, occurrence.signature_id, failure.status, failure.error_type, failure.error_message,
    failure.stack, count(*)::bigint as occurrence_count
from agentmill.failure_occurrences as occurrence
join agentmill.executions as failure
    on failure.event_time = occurrence.event_time
    and failure.source = occurrence.source and failure.execution_id = occurrence.execution_id
group by 1, 2, 3, 4, 5, 6
"""
_SAMPLES = """
select fact.day, fact.signature_id, fact.sample_message as text, null::text as stack,
    sum(fact.occurrence_count)::bigint as occurrence_count
from agentmill.failure_signatures_daily as fact
where not exists (
    select from agentmill.failure_occurrences as occurrence
    join agentmill.executions as failure
        on failure.event_time = occurrence.event_time
        and failure.source = occurrence.source and failure.execution_id = occurrence.execution_id
    where occurrence.day = fact.day and occurrence.signature_id = fact.signature_id
) and fact.match_key !~ ' @'
group by 1, 2, 3
"""
_ADOPT = """
insert into agentmill.signature_aliases
    (adopted_by, old_signature_id, new_signature_id, rules_version, occurrence_count, reason)
values (%s, %s, %s, %s, %s, %s)
"""


@dataclass(frozen=True, slots=True)
class Shadow:
    """What the installed rules would change."""

    changes: pl.DataFrame
    """CHANGES, split and merged clusters, the most frequent first."""
    aliases: pl.DataFrame
    """old_signature_id, new_signature_id, occurrence_count: the successor that most occurrences have."""
    occurrence_count: int
    moved_count: int
    """Occurrences whose cluster would not be the successor of theirs."""
    sampled_count: int
    """Occurrences judged by one text of their signature and day, because their executions are gone. Those that the
    frames of a stack tell apart are left out then: no stack is kept."""


def run_shadow(warehouse: Warehouse, overrides: Overrides = NO_OVERRIDES) -> Shadow:
    """Compare the clusters as published with those that the installed rules make of the same failures."""
    told, samples = read_texts(warehouse)
    published = warehouse.read("select signature_id, cluster_id from agentmill.failure_cluster_signatures")
    clusters = dict(published.iter_rows())
    return compare(pl.concat([told, samples]), clusters, overrides, int(samples["occurrence_count"].sum()))


def compare(
    texts: pl.DataFrame, clusters: Mapping[str, str], overrides: Overrides = NO_OVERRIDES, sampled_count: int = 0
) -> Shadow:
    """What becomes of texts of published signatures; `clusters` tells the published cluster of each.

    A cluster's successor is the one that most of its occurrences would be in.
    """
    rows = texts.rename({"signature_id": "old_signature_id"})
    rows = rows.with_columns(*identify(rows["text"], rows["stack"]))
    aliases = _aliases(rows)
    successor_of = dict(aliases.select("old_signature_id", "new_signature_id").iter_rows())
    members = cluster(rows.select("signature_id", "match_key", "day"), overrides, successor_of).members
    rows = rows.join(members.select("signature_id", new_cluster_id="cluster_id"), on="signature_id").with_columns(
        cluster_id=pl.col("old_signature_id").replace(clusters)
    )
    flows = (
        rows.sort("text")
        .group_by("cluster_id", "new_cluster_id")
        .agg(pl.col("occurrence_count").sum(), pl.col("text").first())
    )
    most_first = ["occurrence_count", "new_cluster_id"]
    main = flows.sort(most_first, descending=[True, False]).group_by("cluster_id", maintain_order=True)
    successors = main.agg(pl.col("new_cluster_id").first().alias("successor"))
    moved = flows.join(successors, on="cluster_id").filter(pl.col("new_cluster_id") != pl.col("successor"))
    return Shadow(
        changes=_changes(flows),
        aliases=aliases,
        occurrence_count=int(rows["occurrence_count"].sum()),
        moved_count=int(moved["occurrence_count"].sum()),
        sampled_count=sampled_count,
    )


def read_texts(warehouse: Warehouse) -> tuple[pl.DataFrame, pl.DataFrame]:
    """The texts of all failures that are still published, and one of each signature and day without executions."""
    told = warehouse.read(_TEXTS)
    if told.height:
        told = (
            told.with_columns(failure_text().alias("text"))
            .group_by("day", "signature_id", "text", "stack")
            .agg(pl.col("occurrence_count").sum())
        )
    samples = warehouse.read(_SAMPLES)
    return tuple(  # type: ignore[return-value]  # there are two
        rows.select(TEXTS.names()).cast(TEXTS) if rows.height else TEXTS.to_frame() for rows in (told, samples)
    )


def adopt(warehouse: Warehouse, shadow: Shadow, by: str, reason: str, sanitizer: Sanitizer) -> int:
    """Enter the aliases of signatures that change, for good; how many. Clusters follow when they are derived next."""
    who, why = sanitizer.sanitize_texts(pl.Series([by, reason]))
    with warehouse.connect() as connection, connection.transaction(), connection.cursor() as cursor:
        entries = [(who, old, new, RULES_VERSION, count, why) for old, new, count in shadow.aliases.iter_rows()]
        cursor.executemany(_ADOPT, entries)
    return len(entries)


def read_aliases(warehouse: Warehouse) -> dict[str, str]:
    """The successor of each signature of earlier rules; where it was told twice, the later one."""
    query = "select old_signature_id, new_signature_id from agentmill.signature_aliases order by alias_id"
    return dict(warehouse.read(query).iter_rows())


def _changes(flows: pl.DataFrame) -> pl.DataFrame:
    is_split = pl.len().over("cluster_id") > 1
    is_merged = pl.len().over("new_cluster_id") > 1
    kind = (
        pl.when(is_split & is_merged)
        .then(pl.lit("split and merged"))
        .when(is_split)
        .then(pl.lit("split"))
        .when(is_merged)
        .then(pl.lit("merged"))
    )
    told = flows.with_columns(kind.alias("kind")).filter(pl.col("kind").is_not_null()).select(CHANGES.names())
    return told.sort("occurrence_count", "cluster_id", "new_cluster_id", descending=[True, False, False])


def _aliases(rows: pl.DataFrame) -> pl.DataFrame:
    counted = rows.group_by("old_signature_id", new_signature_id="signature_id").agg(pl.col("occurrence_count").sum())
    counted = counted.sort("old_signature_id", "occurrence_count", "new_signature_id", descending=[False, True, False])
    first = counted.unique("old_signature_id", keep="first", maintain_order=True)
    return first.filter(pl.col("old_signature_id") != pl.col("new_signature_id"))
