"""What is derived from the facts of all days, decisions and tests: clusters, their states, what is different.

A pure function of what was published and said, in whatever order; all its tables change in one moment.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta

import polars as pl

from pipelines.failures.cluster import Clusters, alias_ends, cluster
from pipelines.failures.decisions import of_clusters, read_decisions
from pipelines.failures.differences import find_differences
from pipelines.failures.escalation import LifeCycleRules
from pipelines.failures.facts import DIMENSIONS, SIGNATURES, edge_times, read_facts
from pipelines.failures.lifecycle import DECISIONS, PASSES, derive_states
from pipelines.failures.overrides import NO_OVERRIDES, Overrides, read_overrides
from pipelines.failures.shadow import read_aliases
from pipelines.failures.summary import summarise
from pipelines.rollup import CUBE_DAILY
from pipelines.settings import FailureSettings
from pipelines.warehouse.connection import Warehouse
from pipelines.warehouse.ledger import ALL_DAYS, Load, content_digest, table_contents, while_made_of
from pipelines.warehouse.publish import replace_rows

CLUSTERS = "failure_clusters"
CLUSTER_SIGNATURES = "failure_cluster_signatures"
STATES = "failure_states"
TRANSITIONS = "failure_transitions"
DIFFERENCES = "failure_differences"

_CUBED = [name for name in DIMENSIONS if name != "release"]
EXECUTION_COUNTS = pl.Schema({"day": pl.Date(), **dict.fromkeys(_CUBED, pl.String()), "execution_count": pl.Int64()})
"""Grain: UTC day and cell of the dimensions that the cubes have."""

_NAMED = """
select cluster_id as signature_id, signature_ids from agentmill.failure_decisions
union
select substr(candidate_id, 4), signature_ids from agentmill.candidate_reviews
order by 1, 2
"""
_LAST_DAY = """
select (select max(last_at) from agentmill.agent_metrics_daily as metrics where metrics.day = ledger.day),
    agentmill.was_over(ledger.day, ledger.published_at)
from agentmill.load_ledger as ledger
where ledger.table_name = 'execution_rollup_daily' and ledger.row_count > 0
order by ledger.day desc limit 1
"""
_DEFAULTS = FailureSettings()


@dataclass(frozen=True, slots=True)
class History:
    """All that failures are judged by: facts and executions by day, what people decided and know, tests that passed."""

    facts: pl.DataFrame
    executions: pl.DataFrame
    decisions: pl.DataFrame = field(default_factory=DECISIONS.to_frame)
    passes: pl.DataFrame = field(default_factory=PASSES.to_frame)
    overrides: Overrides = NO_OVERRIDES
    aliases: Mapping[str, str] = field(default_factory=dict)
    """The successor of each signature of earlier rules."""
    named: Sequence[tuple[str, Sequence[str]]] = ()
    """The ids under which people decided something, each with all signatures that the failure had then."""
    last_event_at: datetime | None = None
    """The last event of the last day, where that was not over when it was published."""

    @property
    def as_of(self) -> datetime:
        """The end of the data: of the last day, or its last event where the day goes on."""
        last_day = self.executions["day"].max() or self.facts["day"].max()
        end = _midnight(last_day if isinstance(last_day, date) else ALL_DAYS) + timedelta(days=1)
        return self.last_event_at or end

    @property
    def decided_until(self) -> datetime:
        """The end of the data, or the last decision if that came later: states are told as of then."""
        decided = self.decisions["effective_at"].max()
        return max(self.as_of, decided) if isinstance(decided, datetime) else self.as_of


def publish_clusters(
    warehouse: Warehouse, settings: FailureSettings = _DEFAULTS, passes: pl.DataFrame | None = None
) -> dict[str, pl.DataFrame]:
    """Derive the tables about clusters, publish them in one transaction, and return them by name.

    `passes` are the regression tests that passed. Raises BusyError where facts change meanwhile.
    """
    contents = table_contents(warehouse, SIGNATURES)
    history = read_history(warehouse, settings, passes)
    tables = derive_clusters(history, settings)
    said = [history.decisions.write_json(), history.passes.write_json(), repr(sorted(history.aliases.items()))]
    content = content_digest(CLUSTERS, contents, said, history.overrides.digest, settings.model_dump_json())
    loads = [(Load(table=name, day=ALL_DAYS, content=content, rows=rows.height), rows) for name, rows in tables.items()]
    replace_rows(warehouse, loads, basis=while_made_of(SIGNATURES, contents))
    return tables


def read_history(
    warehouse: Warehouse, settings: FailureSettings = _DEFAULTS, passes: pl.DataFrame | None = None
) -> History:
    """What is published of failures, and what people decided. Raises OverridesError for a file of no use."""
    return History(
        facts=read_facts(warehouse),
        executions=read_execution_counts(warehouse),
        decisions=read_decisions(warehouse),
        passes=PASSES.to_frame() if passes is None else passes,
        overrides=known_overrides(settings),
        aliases=read_aliases(warehouse),
        named=warehouse.read(_NAMED).rows(),
        last_event_at=_last_event(warehouse),
    )


def _last_event(warehouse: Warehouse) -> datetime | None:
    """The last event of the last day, where that is not over; None where it is, and where there is none."""
    (told,) = warehouse.read(_LAST_DAY).rows() or [(None, None)]
    last_at, is_over = told
    return None if is_over else last_at


def known_overrides(settings: FailureSettings) -> Overrides:
    """What people know better about clusters. Raises OverridesError for a file of no use."""
    return read_overrides(settings.overrides) if settings.overrides else NO_OVERRIDES


def read_execution_counts(warehouse: Warehouse) -> pl.DataFrame:
    """All executions, counted by day and dimension."""
    cells = ", ".join(["day", *_CUBED])
    counts = warehouse.read(
        f"select {cells}, sum(execution_count)::bigint as execution_count from agentmill.{CUBE_DAILY} group by {cells}"  # noqa: S608 - our own words
    )
    return counts.match_to_schema(EXECUTION_COUNTS) if counts.height else EXECUTION_COUNTS.to_frame()


def derive_clusters(history: History, settings: FailureSettings = _DEFAULTS) -> dict[str, pl.DataFrame]:
    """The tables about clusters, by name.

    A cluster's id is the signature of its earliest member (day, then id), so every id ever published is one of its
    `signature_ids`.
    """
    facts, executions = history.facts, history.executions
    found = find_clusters(history)
    activity = executions.group_by("day").agg(pl.col("execution_count").sum())
    signatures = _signatures(history, found.members)
    lives = derive_states(
        _daily(facts, found.members),
        executions.group_by("environment", "day").agg(pl.col("execution_count").sum()),
        _versions(executions),
        of_clusters(history.decisions, signatures),
        of_clusters(history.passes, signatures),
        history.decided_until,
        LifeCycleRules(silent_days=settings.silent_days),
    )
    return {
        CLUSTERS: summarise(facts, found, activity),
        CLUSTER_SIGNATURES: signatures,
        STATES: lives.states,
        TRANSITIONS: lives.transitions,
        DIFFERENCES: find_differences(facts, found.members, executions),
    }


def find_clusters(history: History) -> Clusters:
    """The clusters of all signatures."""
    told = history.facts.select("signature_id", "match_key", "day")
    return cluster(told, history.overrides, history.aliases)


def _daily(facts: pl.DataFrame, members: pl.DataFrame) -> pl.DataFrame:
    rows = facts.join(members.select("signature_id", "cluster_id"), on="signature_id")
    return rows.with_columns(edge_times().alias("times"))


def _versions(executions: pl.DataFrame) -> pl.DataFrame:
    known = executions.filter(pl.col("agent_version").is_not_null())
    return known.group_by("environment", "agent_id", "agent_version").agg(pl.col("day").min().alias("first_day"))


def _signatures(history: History, members: pl.DataFrame) -> pl.DataFrame:
    """One row per known signature, and the cluster it belongs to. Those that are in no facts have no day.

    Such are signatures of earlier rules, and those under which people decided something and which are gone since,
    with a user who was erased or a day that was dropped: they lead where most of what was one with them is.
    """
    counted = history.facts.group_by("signature_id").agg(
        pl.col("day").min().alias("first_day"), pl.col("occurrence_count").sum()
    )
    named = members.select("signature_id", "cluster_id").join(counted, on="signature_id", how="left")
    known = dict(members.select("signature_id", "cluster_id").iter_rows())
    ends = alias_ends(history.aliases)
    gone = [(old, known[new], None, 0) for old, new in ends.items() if old not in known and new in known]
    known |= {old: cluster_id for old, cluster_id, _, _ in gone}
    for name, together in history.named:
        there = Counter(known[one] for one in together if one in known)
        if name not in known and there:
            gone.append((name, min(there, key=lambda one: (-there[one], one)), None, 0))
            known[name] = gone[-1][1]
    columns = named.select("signature_id", "cluster_id", "first_day", "occurrence_count")
    return pl.concat([columns, pl.DataFrame(gone, schema=columns.schema, orient="row")]).sort("signature_id")


def _midnight(day: date) -> datetime:
    return datetime.combine(day, time(), tzinfo=UTC)
