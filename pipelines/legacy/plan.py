"""What a migration would add: every row of the older application becomes one of ours, is a repetition, or is refused.

Rows are as the warehouse gets them: pseudonyms for users and ids, sanitized words for the rest.
"""

import hashlib
from dataclasses import dataclass
from datetime import UTC, datetime

import polars as pl
from polars import Date, Float64, Int64, String

from pipelines.anonymize.keys import PseudonymKey
from pipelines.anonymize.pseudonyms import pseudonymize
from pipelines.clean.anonymity import sanitize_words
from pipelines.clean.repair import briefly
from pipelines.execution import TIMESTAMP
from pipelines.legacy.source import Received, open_snapshot
from pipelines.legacy.stats import FIGURES, RefusedError, read_stats
from pipelines.settings import LegacySettings
from pipelines.sources.mapping import MappedField
from pipelines.sources.timestamps import EARLIEST, to_utc
from pipelines.tombstones import NOBODY, Erased

BALANCES, INTERACTIONS = "agent_opening_balances", "interaction_history"

BALANCE = pl.Schema(
    {
        "agent_id": String(),
        "agent_name": String(),
        "as_of": Date(),
        **{column: Float64() if column.endswith("_ms") else Int64() for column in FIGURES},
    }
)
"""Grain: one agent of the older application that says something of itself. Without the id of the migration."""

INTERACTION = pl.Schema(
    {
        "interaction_id": String(),
        "user_key": String(),
        "agent_id": String(),
        "status": String(),
        "occurred_at": TIMESTAMP,
    }
)
"""Grain: one transaction of the older application before the cut. Without the id of the migration."""

SCHEMAS = {BALANCES: BALANCE, INTERACTIONS: INTERACTION}

REASONS = {
    "no_agent": "Nothing names the agent.",
    "no_stats": "The agent has none.",
    "not_an_object": "The stats are no JSON object.",
    "no_figures": "The stats hold none of the five figures.",
    "not_a_number": "A figure is no number, NaN included.",
    "negative_number": "A figure is below zero.",
    "not_a_whole_number": "A count has a fraction.",
    "number_out_of_range": "A count above a trillion, or an average above 1e15 ms.",
    "more_outcomes_than_executions": "More successes and failures than executions.",
    "ambiguous_agent": "Rows of one agent id that say different things.",
    "no_user": "Nothing names the user.",
    "erased_user": "The user was erased.",
    "no_event_time": "The transaction has no time.",
    "bad_timestamp": "A time that is none, such as `infinity`.",
    "timestamp_out_of_range": "A time before 2000.",
    "after_cut": "At the cut or later: it belongs to what is measured.",
    "ambiguous_transaction": "Transactions of one id that say different things.",
}
"""Why a row is refused."""


@dataclass(frozen=True, slots=True)
class Part:
    """What one table gets, and an account of every row that it could have got."""

    table: str
    origin: str
    received: int
    rows: pl.DataFrame
    duplicates: int
    refused: dict[str, int]

    @property
    def content(self) -> str:
        """Digest of the rows."""
        return rows_digest(self.rows)

    @property
    def account(self) -> dict[str, object]:
        """The part in numbers."""
        return {
            "origin": self.origin,
            "received": self.received,
            "migrated": self.rows.height,
            "duplicates": self.duplicates,
            "refused": self.refused,
        }


@dataclass(frozen=True, slots=True)
class Plan:
    """A migration that could be made, and how many interactions are with agents that are not listed."""

    cut: datetime
    balances: Part
    interactions: Part
    unlisted: int

    @property
    def parts(self) -> tuple[Part, Part]:
        """What each table gets."""
        return self.balances, self.interactions

    @property
    def content(self) -> str:
        """Digest of all that would be added. What is refused may change meanwhile: the application may be in use."""
        return plan_content(self.cut, [part.content for part in self.parts])

    @property
    def migration_id(self) -> str:
        """Id of the migration: the same content is the same migration."""
        return self.content[:16]


def plan_content(cut: datetime, parts: list[str]) -> str:
    """Digest of a migration of the rows with these digests."""
    return hashlib.sha256(repr((cut, parts)).encode()).hexdigest()


def make_plan(legacy: LegacySettings, key: PseudonymKey, erased: Erased = NOBODY) -> Plan:
    """Read the older application at one moment and judge every row. Raises LegacyError."""
    cut = datetime.combine(legacy.cut, datetime.min.time(), tzinfo=UTC)
    with open_snapshot(legacy.url) as snapshot:
        agents = snapshot.read(legacy.agents, ["id", "stats"], ["name"])
        transactions = snapshot.read(legacy.transactions, ["userId", "agentId", "status", "createdAt"], ["id"])
    interactions = _judge_transactions(transactions, cut, key.of(legacy.tenant), erased)
    listed = sanitize_words(agents.rows.select("id"))["id"].drop_nulls().unique()
    return Plan(
        cut=cut,
        balances=_judge_agents(agents, cut),
        interactions=interactions,
        unlisted=interactions.rows.filter(~pl.col("agent_id").is_in(listed.implode())).height,
    )


def rows_digest(rows: pl.DataFrame) -> str:
    """Digest of rows in any order; their first column identifies them."""
    digest = hashlib.sha256()
    for batch in rows.sort(rows.columns[0]).iter_slices(50_000):
        digest.update(batch.write_ndjson().encode())
    return digest.hexdigest()


def _judge_agents(agents: Received, cut: datetime) -> Part:
    words = sanitize_words(agents.rows.select("id", "name"))
    judged = pl.DataFrame(
        {
            "id": agents.rows["id"],
            "agent_id": words["id"],
            "agent_name": words.select(pl.coalesce("name", "id")).to_series(),
            "as_of": pl.Series([cut.date()], dtype=Date()).new_from_index(0, agents.rows.height),
        }
    ).hstack(_figures(agents.rows["stats"]))
    no_agent = pl.when(pl.col("agent_id").is_null()).then(pl.lit("no_agent"))
    judged = judged.with_columns(problem=pl.coalesce(no_agent, "problem"))
    return _settle(judged, agents, BALANCES, "ambiguous_agent")


def _figures(stats: pl.Series) -> pl.DataFrame:
    """The figures of each agent, and the problem of those that have none."""
    told: list[dict[str, object]] = []
    for text in stats:
        try:
            told.append({**read_stats(text)})
        except RefusedError as error:
            told.append({"problem": str(error)})
    schema = {**{column: BALANCE[column] for column in FIGURES}, "problem": pl.String()}
    return pl.DataFrame([{**dict.fromkeys(schema), **one} for one in told], schema=schema, orient="row")


def _judge_transactions(transactions: Received, cut: datetime, key: PseudonymKey, erased: Erased) -> Part:
    rows = transactions.rows
    words = sanitize_words(rows.select("agentId", status=briefly("status")))
    whole_row = pl.struct("userId", "agentId", "status", "createdAt").struct.json_encode()
    judged = pl.DataFrame(
        {
            "interaction_id": pseudonymize(rows.select(pl.coalesce("id", whole_row)).to_series(), "interaction", key),
            "user_key": pseudonymize(rows["userId"], "user", key),
            "agent_id": words["agentId"],
            "status": words["status"],
            "occurred_at": to_utc(rows["createdAt"], MappedField(source="createdAt"), "UTC"),
        }
    )
    at = pl.col("occurred_at")
    problem = (
        pl.when(pl.col("user_key").is_null())
        .then(pl.lit("no_user"))
        .when(erased.among(rows["userId"], key.tenant))
        .then(pl.lit("erased_user"))
        .when(pl.col("agent_id").is_null())
        .then(pl.lit("no_agent"))
        .when(rows["createdAt"].is_null())
        .then(pl.lit("no_event_time"))
        .when(at.is_null())
        .then(pl.lit("bad_timestamp"))
        .when(at < EARLIEST)
        .then(pl.lit("timestamp_out_of_range"))
        .when(at >= cut)
        .then(pl.lit("after_cut"))
    )
    return _settle(judged.with_columns(problem=problem), transactions, INTERACTIONS, "ambiguous_transaction")


def _settle(judged: pl.DataFrame, received: Received, table: str, ambiguous: str) -> Part:
    """Judged rows as a part: repetitions are left out once, contradictions altogether."""
    schema = SCHEMAS[table]
    usable = judged.filter(pl.col("problem").is_null())
    distinct = usable.unique(maintain_order=True)
    is_ambiguous = distinct[schema.names()[0]].is_duplicated()
    refused = dict(sorted(judged["problem"].drop_nulls().value_counts().iter_rows()))
    if is_ambiguous.any():
        refused[ambiguous] = is_ambiguous.sum()
    rows = distinct.filter(~is_ambiguous).select(schema.names()).cast(schema)
    return Part(table, received.table, received.count, rows, usable.height - distinct.height, refused)
