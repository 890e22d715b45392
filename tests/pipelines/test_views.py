import math
import random
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from statistics import NormalDist

import duckdb
import numpy as np
import polars as pl
import psycopg
import pytest
from conftest import as_frame, database_url, enter_day
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from pipelines.execution import EXECUTION, FAILURES, STATUSES
from pipelines.failures import categorize_failures, publish_clusters
from pipelines.pricing.book import load_prices
from pipelines.publication import publish_derived
from pipelines.rollup.metrics import MIN_SAMPLE
from pipelines.warehouse.connection import Warehouse
from pipelines.warehouse.ledger import Load
from pipelines.warehouse.migrations import upgrade
from pipelines.warehouse.publish import publish_partition

PRICES = load_prices()
ZONES = [
    ("UTC", date(2026, 3, 1)),
    ("Europe/Berlin", date(2026, 3, 29)),  # 23 hours
    ("Europe/Berlin", date(2026, 10, 25)),  # 25 hours
    ("Asia/Kathmandu", date(2026, 3, 29)),  # +05:45
    ("Australia/Lord_Howe", date(2026, 4, 5)),  # clocks change by half an hour
]
ERRORS = ("connection refused", "context window exceeded", "tool schema mismatch")
DIMENSIONS = (
    "day week hour_of_day weekday agent_id agent_version environment execution_type provider model status "
    "failure_category"
).split()

SUCCEEDED, FAILED = "(where status = 'success')", "(where status in ('failed', 'timeout', 'error'))"
METRICS = {
    "execution_count": "count(*)",
    "execution_share": "count(*) / sum(count(*)) over ()",
    "success_count": f"count(*) filter {SUCCEEDED}",
    "partial_count": "count(*) filter (where status = 'partial')",
    "failure_count": f"count(*) filter {FAILED}",
    "success_rate": "avg((status = 'success')::int)",
    "success_rate_with_partial": "avg((status in ('success', 'partial'))::int)",
    "success_rate_shrunken": f"(count(*) filter {SUCCEEDED} + 20 * sum(count(*) filter {SUCCEEDED}) over () "
    "/ sum(count(*)) over ()) / (count(*) + 20)",
    "success_rate_pct": "100 * avg((status = 'success')::int)",
    "success_rate_with_partial_pct": "100 * avg((status in ('success', 'partial'))::int)",
    "user_count": "count(distinct user_key)",
    "duration_count": "count(duration_ms)",
    "duration_avg_ms": "avg(duration_ms)",
    "ttft_count": "count(ttft_ms)",
    "priced_count": "count(cost_usd)",
    "unpriced_count": "count(*) filter (where cost_usd is null)",
    "priced_share": "avg((cost_usd is not null)::int)",
    "cost_usd": "sum(cost_usd)",
    "cost_per_run_usd": "avg(cost_usd)",
    "cost_per_success_usd": f"sum(cost_usd)::double / nullif(count(*) filter {SUCCEEDED}, 0)",
    "failure_cost_usd": f"sum(cost_usd) filter {FAILED}",
    "failure_cost_share": f"sum(cost_usd) filter {FAILED}::double / nullif(sum(cost_usd), 0)::double",
    "failure_rate": f"count(*) filter {FAILED} / count(*)",
    "credited_count": "count(credits)",
    "credits": "sum(credits)",
    "credits_per_run": "avg(credits)",
    "credits_per_success": f"sum(credits)::double / nullif(count(*) filter {SUCCEEDED}, 0)",
    "cost_per_credit_usd": "sum(cost_usd)::double / nullif(sum(credits), 0)::double",
    "metered_count": "count(input_tokens)",
    "input_tokens": "sum(input_tokens)::bigint",
    "cache_read_tokens": "sum(cache_read_tokens) filter (where input_tokens is not null)::bigint",
    "cache_write_tokens": "sum(cache_write_tokens)::bigint",
    "output_tokens": "sum(output_tokens)::bigint",
    "cache_read_count": "count(*) filter (where cache_read_tokens > 0 and input_tokens is not null)",
    "cache_hit_rate_tokens": "sum(cache_read_tokens) filter (where input_tokens is not null) "
    "/ nullif(sum(input_tokens), 0)",
    "cache_hit_rate_runs": "count(*) filter (where cache_read_tokens > 0 and input_tokens is not null) "
    "/ nullif(count(input_tokens), 0)",
    "tokens_per_run": "(sum(input_tokens) + coalesce(sum(output_tokens), 0)) / nullif(count(input_tokens), 0)",
    "llm_calls": "sum(llm_calls)::bigint",
    "files_modified": "sum(files_modified)::bigint",
    "occurrence_count": "count(*)",
    "failure_share": "count(*) / sum(count(*)) over ()",
    "active_days": "count(distinct utc_day)",
    "agent_count": "count(distinct agent_id)",
    "model_count": "count(distinct model)",
    "first_seen_at": "min(event_time)",
    "last_seen_at": "max(event_time)",
    "category": "any_value(failure_category)",
    "agent_name": "any_value(agent_name)",
}
"""The metrics of every view, as a question to the executions themselves."""
METRICS |= {
    f"{measure}_p{percent}_ms": f"list({measure}_ms) filter (where {measure}_ms is not null)"
    for measure in ("duration", "ttft")
    for percent in MIN_SAMPLE
}
METRICS |= {
    f"success_rate_{bound}": f"[count(*) filter {SUCCEEDED}, count(*)]"
    for bound in ("low", "high", "low_pct", "high_pct")
}
UNTOLD = set(
    "from_day to_day published_at is_final rank reason cumulative_share severity fault_domain duration_sketch "
    "cache_saving_usd".split()
)
"""Columns that tests of their own are about."""


@pytest.fixture(scope="module")
def shared(embedded_server):
    """A warehouse that every example empties first."""
    warehouse = Warehouse(database_url(embedded_server, "test_views"))
    upgrade(warehouse)
    return warehouse


def empty(warehouse):
    with warehouse.connect() as connection:
        tables = connection.execute(
            "select string_agg(format('agentmill.%I', relname), ', ') from pg_class "
            "where relnamespace = 'agentmill'::regnamespace and relkind in ('r', 'p') and relname <> 'alembic_version'"
        ).fetchone()
        connection.execute(f"truncate {tables[0]}")
    return warehouse


def midnight(day):
    return datetime.combine(day, datetime.min.time(), tzinfo=UTC)


def ran(at, **overrides):
    return {
        "source": "app",
        "execution_id": f"r{random.randrange(10**12)}",
        "row_hash": "0",
        "agent_id": "a",
        "agent_name": "planner",
        "status": "success",
        "error_message": ERRORS[0] if overrides.get("status") in FAILURES else None,
        "event_time": at,
        "cost_source": "unpriced" if overrides.get("cost_usd") is None else "provided",
        "quality_flags": [],
        **overrides,
    }


def publish(warehouse, rows, days):
    """Publish executions by UTC day, days without any included, with all that is derived from them."""
    executions = as_frame(rows, EXECUTION).sort("event_time")
    for day in days:
        of_day = executions.filter(pl.col("event_time").dt.date() == day)
        load = Load(table="executions", day=day, content="one", rows=of_day.height)
        publish_partition(warehouse, load, of_day, lambda _: None)
        publish_derived(enter_day(warehouse, day, of_day), warehouse, PRICES)
    publish_clusters(warehouse)
    return executions


def ask(warehouse, question, *parameters, zone="UTC"):
    with warehouse.connect() as connection:
        connection.execute("select set_config('agentmill.timezone', %s, false)", [zone])
        # Answers must not depend on the zone of the reader's session, whose clocks change too.
        connection.execute("set timezone = 'America/New_York'")
        cursor = connection.execute(question, parameters or None)
        names = [column.name for column in cursor.description]
        return [dict(zip(names, row, strict=True)) for row in cursor]


def random_executions(days, chance):
    """Executions of some UTC days; a measure is known of a share of them, and has few values or many."""
    known, is_tied = chance.choice((0, 0.6, 0.6, 1)), chance.random() < 0.5

    def maybe(value):
        return value if chance.random() < known else None

    def amount():
        return chance.choice((0, 1, 250)) if is_tied else int(chance.lognormvariate(8, 2))

    def one(day, statuses):
        status = chance.choice(statuses)
        agent, edge = chance.choice("abc"), chance.choice((0, 86_399_999_999, None, None, None))
        return ran(
            midnight(day) + timedelta(microseconds=chance.randrange(86_400 * 10**6) if edge is None else edge),
            agent_id=agent,
            agent_name=f"{agent} of {chance.randrange(3)}",
            agent_version=maybe("1"),
            environment=maybe("prod"),
            execution_type=chance.choice(("chat", "code", None)),
            provider=chance.choice(("openai", None)),
            model=chance.choice(("gpt-4o", "m", None)),
            status=status,
            error_message=chance.choice(ERRORS) if status in FAILURES else None,
            user_key=maybe(f"u{chance.randrange(9)}"),
            cost_usd=maybe(Decimal(amount()) / 10**6),
            credits=maybe(Decimal(amount()) / 10),
            **{
                name: maybe(amount())
                for name in (
                    "duration_ms ttft_ms input_tokens cache_read_tokens cache_write_tokens output_tokens llm_calls "
                    "files_modified"
                ).split()
            },
        )

    return [
        one(day, statuses)
        for day in days
        for statuses in [chance.choice((STATUSES, STATUSES, FAILURES))]
        for _ in range(chance.choice((0, 1, 30, 150)))
    ]


class Truth:
    """The executions in DuckDB, each labelled with the day and hour that clocks of a zone showed."""

    def __init__(self, executions, zone):
        local = pl.col("event_time").dt.convert_time_zone(zone)
        frame = executions.with_columns(
            pl.col("agent_name").last().over("agent_id"),
            categorize_failures(executions).alias("failure_category"),
            day=local.dt.date(),
            week=local.dt.truncate("1w").dt.date(),
            hour_of_day=local.dt.hour(),
            weekday=local.dt.weekday(),
            utc_day=pl.col("event_time").dt.date(),
            template=pl.col("error_message"),
        ).drop("tool_names", "quality_flags")
        self._database = duckdb.connect()
        self._database.register("executions", frame.to_arrow())

    def ask(self, keys, columns, where):
        """The metrics by key, as a question to the executions."""
        selected = ", ".join([*keys, *(f'{METRICS[name]} as "the {name}"' for name in columns)])
        question = f"select {selected} from executions where {where} group by {', '.join(keys) or '()'}"
        rows = self._database.sql(f"{question} having count(*) > 0").pl().rows()
        return {row[: len(keys)]: dict(zip(columns, row[len(keys) :], strict=True)) for row in rows}


def wilson(successes, total):
    """The bounds between which a rate is no further than z standard errors of its own from what was seen."""
    p, z = successes / total, NormalDist().inv_cdf(0.975)
    return sorted(np.roots([1 + z**2 / total, -(2 * p + z**2 / total), p**2]).real)


def is_quantile(told, values, percent, accuracy):
    """Whether it lies between the values of the ranks around it, and is told exactly where there are enough."""
    if len(values) < MIN_SAMPLE[percent]:
        return told is None
    ordered, rank = sorted(values), percent / 100 * (len(values) - 1)
    low, high = ordered[math.floor(rank)], ordered[math.ceil(rank)]
    return low * (1 - accuracy) - 1e-9 <= told <= high * (1 + accuracy) + 1e-9


def agrees(name, told, truth, accuracy=0.01 + 1e-9):
    if name.endswith(("_p50_ms", "_p95_ms", "_p99_ms")):
        return is_quantile(told, truth or [], int(name[-5:-3]), accuracy)
    if name.startswith(("success_rate_low", "success_rate_high")):
        bound = wilson(*truth)["high" in name]
        truth = 100 * bound if name.endswith("_pct") else bound
    if truth is None or told is None:
        return told is truth
    if name.endswith("_pct"):
        return float(told) == pytest.approx(truth, abs=0.005 + 1e-9)
    return float(told) == pytest.approx(truth, rel=1e-9, abs=1e-12) if isinstance(truth, float) else told == truth


def compare(told, truth, keys, where, accuracy=0.01 + 1e-9):
    """Every row and column that is told is that of the executions."""
    columns = [name for name in (told[0] if told else ()) if name not in {*keys, *UNTOLD}]
    expected = truth.ask(keys, [name for name in columns if name in METRICS] or ["execution_count"], where)
    found = {tuple(row[key] for key in keys): row for row in told}
    assert found.keys() == expected.keys()
    assert len(found) == len(told)
    for key, row in found.items():
        for name in columns:
            if name in METRICS:
                assert agrees(name, row[name], expected[key][name], accuracy), (name, key, row, expected[key][name])
            else:
                assert name in DIMENSIONS
                assert row[name] is None


def compare_peaks(told, truth, where):
    """Every hour of every weekday that was loaded is told, also where nothing ran."""
    counts = ("execution_count", "failure_count", "execution_share", "failure_rate")
    busy = truth.ask(("weekday", "hour_of_day"), counts, where)
    assert {(row["weekday"], row["hour_of_day"]) for row in told} >= busy.keys()
    assert len(told) == 24 * len({row["weekday"] for row in told})
    for row in told:
        idle = {"execution_count": 0, "failure_count": 0, "execution_share": 0 if busy else None, "failure_rate": None}
        expected = busy.get((row["weekday"], row["hour_of_day"]), idle)
        assert all(agrees(name, row[name], expected[name]) for name in counts), (row, expected)
        assert row["executions_per_day"] == row["execution_count"] / row["day_count"]


def compare_weeks(told, truth, to_day):
    """What is told of each agent and of all are the metrics of the week and of the one before."""
    for row in told:
        for prefix, last in (("", to_day), ("previous_", to_day - timedelta(days=7))):
            columns = [name for name in METRICS if f"previous_{name}" in row]
            of = "" if row["agent_id"] is None else f" and agent_id = '{row['agent_id']}'"
            week = f"day >= '{last - timedelta(days=7)}' and day < '{last}'"
            nothing = {name: 0 if name.endswith("_count") else None for name in columns}
            expected = truth.ask((), columns, week + of).get((), nothing)
            for name in columns:
                assert agrees(name, row[prefix + name], expected[name]), (prefix + name, row, expected)


VIEWS = {
    "agent_performance": ("day", "agent_id"),
    "agent_rollup_local_daily": ("day", "agent_id"),
    "cost_daily": ("day",),
    "model_status_daily": ("day", "provider", "model", "status"),
}
FUNCTIONS = {
    "model_comparison": ("provider", "model"),
    "pricing_insight": ("agent_id", "execution_type"),
    "agent_ranking": ("agent_id",),
}
FILTERS = ("true", "agent_id <> 'b'", "model = 'm'", "model is null", "provider is null", "status <> 'success'")

@pytest.mark.parametrize(("zone", "middle"), ZONES)
@settings(max_examples=4, phases=[Phase.generate])  # a history has no smaller one
@given(chance=st.randoms(use_true_random=True))
def test_every_metric_of_every_view_is_that_of_its_executions(shared, zone, middle, chance):
    days = [middle + timedelta(days=n) for n in range(-2, 2)]
    truth = Truth(publish(empty(shared), random_executions(days, chance), days), zone)
    from_day, to_day = sorted(middle + timedelta(days=chance.randint(-3, 3)) for _ in range(2))
    in_range = f"day >= '{from_day}' and day < '{to_day}'"

    for view, keys in VIEWS.items():
        kept = chance.choice([one for one in FILTERS if one.split()[0] in {"true", *keys}])
        told = ask(shared, f"select * from agentmill.{view} where {in_range} and {kept}", zone=zone)
        if zone != "UTC":  # users add up in no other zone
            told = [{name: value for name, value in row.items() if name != "user_count"} for row in told]
        exact = view == "agent_performance" and zone == "UTC"
        compare(told, truth, keys, f"{in_range} and {kept}", **({"accuracy": 0} if exact else {}))

    for function, keys in FUNCTIONS.items():
        told = ask(shared, f"select * from agentmill.{function}(%s, %s)", from_day, to_day, zone=zone)
        compare(told, truth, keys, in_range)

    by = chance.sample(DIMENSIONS, chance.randint(0, 3))
    told = ask(shared, "select * from agentmill.performance(%s, %s, %s)", from_day, to_day, by, zone=zone)
    compare(told, truth, tuple(by), in_range)

    in_utc = in_range.replace("day", "utc_day")
    told = ask(shared, "select * from agentmill.error_breakdown(%s, %s)", from_day, to_day, zone=zone)
    told = [{name: row[name] for name in row if name != "cluster_id"} for row in told]
    compare(told, truth, ("template",), f"{in_utc} and template is not null")
    assert sum(row["failure_share"] for row in told) == pytest.approx(1 if told else 0)

    told = ask(shared, f"select * from agentmill.cache_efficiency where {in_range}", zone=zone)
    told = [{"utc_day": row.pop("day"), **row} for row in told]
    compare(told, truth, ("utc_day", "provider", "model"), in_utc)

    agent, kind = chance.choice(("a", None)), chance.choice(("chat", None))
    question = "select * from agentmill.success_rate(%s, %s, %s, %s)"
    told = ask(shared, question, agent, kind, from_day, to_day, zone=zone)
    asked = [in_range, *[f"agent_id = '{agent}'"] * bool(agent), *[f"execution_type = '{kind}'"] * bool(kind)]
    compare([row for row in told if row["execution_count"]], truth, (), " and ".join(asked))

    compare_peaks(ask(shared, "select * from agentmill.usage_peaks(%s, %s)", from_day, to_day, zone=zone), truth, in_range)
    next_week = to_day + timedelta(days=7)
    compare_weeks(ask(shared, "select * from agentmill.week_over_week(%s)", next_week, zone=zone), truth, next_week)
