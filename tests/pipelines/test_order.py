"""In whatever order days come, are run again or come late, everything told about failures is the same."""

import random
from datetime import datetime, timedelta
from itertools import count

import polars as pl
import pytest
from conftest import database_url, enter_day

from pipelines.anonymize.text import sanitize_texts
from pipelines.demo.traffic import DAYS, FIRST_DAY, INCIDENTS, traffic
from pipelines.execution import EXECUTION
from pipelines.failures import publish_clusters
from pipelines.publication import publish_derived
from pipelines.regression import publish_candidates
from pipelines.warehouse.connection import Warehouse
from pipelines.warehouse.migrations import upgrade

RUNS_A_DAY = 900
LATE = 10
STATUSES = {"succeeded": "success", "errored": "error", "timed_out": "timeout", "canceled": "cancelled"}
TABLES = (
    "failure_clusters",
    "failure_cluster_signatures",
    "failure_states",
    "failure_transitions",
    "failure_differences",
    "failure_signatures_daily",
    "failure_occurrences",
    "regression_candidates",
)


def executions(day):
    """The demo's traffic of a day, as executions."""
    runs = traffic(day, RUNS_A_DAY).with_columns(
        pl.col("started_at").dt.replace_time_zone("UTC").alias("event_time"),
        pl.col("serial", "user").cast(pl.String),
        pl.col("error_message").map_batches(sanitize_texts, pl.String),
        pl.lit("0").alias("row_hash"),
        pl.col("state").replace(STATUSES).alias("status"),
        source=pl.lit("app"),
        agent_id="agent",
        agent_name="agent",
        agent_version="version",
        execution_type="kind",
        environment=pl.lit("production"),
        cost_source=pl.lit("unpriced"),
    )
    runs = runs.rename({"serial": "execution_id", "user": "user_key"}).drop("cost_usd")
    known = [name for name in EXECUTION.names() if name in runs.columns]
    missing = {name: pl.lit(None, kind) for name, kind in EXECUTION.items() if name not in known}
    return (
        runs.select(known).with_columns(**missing).match_to_schema(EXECUTION, integer_cast="upcast").sort("event_time")
    )


@pytest.fixture(scope="module")
def days():
    return [executions(day) for day in range(DAYS)]


class World:
    """A warehouse of its own, to which days come."""

    numbers = count(1)

    def __init__(self, server, days, prices):
        self.warehouse = Warehouse(database_url(server, f"order_{next(self.numbers)}"))
        upgrade(self.warehouse)
        self.days, self.prices = days, prices

    def publish(self, number, rows=None):
        rows = self.days[number] if rows is None else rows
        day = FIRST_DAY + timedelta(days=number)
        publish_derived(enter_day(self.warehouse, day, rows, f"{rows.height} rows"), self.warehouse, self.prices)

    def decide(self, cluster_id):
        """A person resolved a failure in the middle of the period."""
        with self.warehouse.connect() as connection:
            connection.execute(
                "insert into agentmill.failure_decisions (decided_at, effective_at, decided_by, cluster_id, "
                "signature_ids, action, reason) values (%s, %s, 'kim', %s, array[%s], 'resolve', 'we pay for more')",
                [datetime(2025, 3, 9).astimezone()] * 2 + [cluster_id] * 2,
            )

    def derive(self):
        publish_clusters(self.warehouse)
        publish_candidates(self.warehouse)

    def told(self):
        """Every table about failures, as it is stored."""
        self.derive()
        return {
            name: self.warehouse.read(f"select to_jsonb(t)::text as row from agentmill.{name} t order by 1").rows()
            for name in TABLES
        }


@pytest.fixture(scope="module")
def in_order(embedded_server, days, prices):
    """What is told where every day came once, in order."""
    world = World(embedded_server, days, prices)
    for number in range(DAYS):
        world.publish(number)
    world.derive()
    (cluster_id,) = world.warehouse.read(
        "select cluster_id from agentmill.failure_clusters where category = 'rate_limit'"
    ).to_series()
    world.decide(cluster_id)
    told = world.told()
    assert all(told.values())
    assert '"regressed"' in "".join(row for (row,) in told["failure_states"])
    return world, told, cluster_id


@pytest.mark.parametrize("seed", range(6))
def test_days_in_any_order_with_runs_again_tell_the_same(embedded_server, days, prices, in_order, seed):
    draw = random.Random(seed)
    _, expected, cluster_id = in_order
    world = World(embedded_server, days, prices)
    world.decide(cluster_id)
    for number in draw.sample(range(DAYS), DAYS):
        if draw.random() < 0.4:
            world.publish(number, days[number].sample(fraction=0.5, seed=seed).sort("event_time"))
        if draw.random() < 0.3:
            world.derive()
        world.publish(number)
        if draw.random() < 0.3:
            world.publish(number)
    assert world.told() == expected


def test_the_oldest_ten_days_may_come_late(embedded_server, days, prices, in_order):
    _, expected, cluster_id = in_order
    world = World(embedded_server, days, prices)
    for number in range(LATE, DAYS):
        world.publish(number)
    world.decide(cluster_id)
    world.derive()
    early = world.warehouse.read("select cluster_id from agentmill.failure_clusters").to_series()
    assert len(early)
    for number in reversed(range(LATE)):
        world.publish(number)
    assert world.told() == expected
    known = world.warehouse.read("select signature_id from agentmill.failure_cluster_signatures").to_series()
    assert set(early) <= set(known), "every id ever published still finds its cluster"


def test_the_causes_of_the_incidents_are_what_is_different(in_order):
    """As in the known truth: the provider, the version and the agent that were behind them."""
    world, *_ = in_order
    told = world.warehouse.read(
        "select category, dimension, value, agent_id from agentmill.failure_differences "
        "join agentmill.failure_clusters using (cluster_id) where rank = 1"
    )
    first = {category: told for category, *told in told.iter_rows()}
    causes = {"provider outage": ["provider", "anthropic", None], "slow creep": ["agent_id", "travel-planner", None]}
    causes["bad release"] = ["agent_version", "2.4.0", "invoice-reader"]
    assert {incident.name: first[incident.category] for incident in INCIDENTS} == causes
