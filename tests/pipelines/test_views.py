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
from pipelines.rollup import compute
from pipelines.rollup.metrics import MIN_SAMPLE
from pipelines.warehouse.connection import SCHEMA, Warehouse
from pipelines.warehouse.copying import copy_frame
from pipelines.warehouse.dictionary import load_dictionary
from pipelines.warehouse.ledger import Load
from pipelines.warehouse.migrations import upgrade
from pipelines.warehouse.publish import publish_partition
from pipelines.warehouse.questions import ready_questions

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
    "cost_per_credit_usd": "case when count(cost_usd) = count(*) and count(credits) = count(*) "
    "then sum(cost_usd)::double / nullif(sum(credits), 0)::double end",
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
    "input_tokens_per_run": "sum(input_tokens) / nullif(count(input_tokens), 0)",
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
            "select string_agg(format('agentmill.%%I', relname), ', ') from pg_class "
            "where relnamespace = 'agentmill'::regnamespace and relkind in ('r', 'p') and relname <> 'alembic_version' "
            "and relname <> all(%s)",
            [[one.name for one in load_dictionary().relations.values() if one.append_only]],
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


def fill(warehouse, executions):
    """The rollups of many days at once, without executions and ledger."""
    with warehouse.connect() as connection:
        for name, rows in compute(executions, categorize_failures, PRICES).items():
            copy_frame(connection, rows, SCHEMA, name)


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

    compare_peaks(
        ask(shared, "select * from agentmill.usage_peaks(%s, %s)", from_day, to_day, zone=zone), truth, in_range
    )
    next_week = to_day + timedelta(days=7)
    compare_weeks(ask(shared, "select * from agentmill.week_over_week(%s)", next_week, zone=zone), truth, next_week)


MONDAY = date(2026, 3, 9)
NOON = midnight(MONDAY) + timedelta(hours=12)
WEEK = timedelta(days=7)


def runs(count, at=NOON, **overrides):
    return [ran(at + timedelta(seconds=n), **overrides) for n in range(count)]


def loaded_at(warehouse, day, moment):
    """Make the ledger say that a day was loaded at a moment."""
    with warehouse.connect() as connection:
        connection.execute("update agentmill.load_ledger set published_at = %s where day = %s", [moment, day])


def weeks(warehouse, before, now):
    """The comparison of two weeks, by agent; None is all agents."""
    publish(empty(warehouse), before + now, [MONDAY, MONDAY + WEEK])
    told = ask(warehouse, "select * from agentmill.week_over_week(%s)", MONDAY + 2 * WEEK)
    return {row["agent_id"]: row for row in told}


def test_a_change_of_the_success_rate_has_the_interval_of_newcombe(shared):
    """His example of 1998: 56 of 70 against 48 of 80 differ by 0.0524 to 0.3339 (method 10)."""
    before = [*runs(48), *runs(32, status="failed")]
    now = [*runs(56, NOON + WEEK), *runs(14, NOON + WEEK, status="timeout")]
    told = weeks(shared, before, now)["a"]
    assert told["success_rate_change"] == pytest.approx(0.2)
    assert told["success_rate_change_low"] == pytest.approx(0.0524, abs=5e-5)
    assert told["success_rate_change_high"] == pytest.approx(0.3339, abs=5e-5)
    assert (told["success_verdict"], told["execution_count"], told["previous_execution_count"]) == ("better", 70, 80)


@pytest.mark.parametrize(
    ("before", "now", "verdict"),
    [
        ((18, 20), (17, 20), "no evidence of change"),
        ((90, 100), (60, 100), "worse"),
        ((0, 1), (1, 1), "no evidence of change"),
    ],
)
def test_a_week_is_better_or_worse_only_with_evidence(shared, before, now, verdict):
    old, new = (
        [*runs(good, at), *runs(total - good, at, status="error")]
        for (good, total), at in ((before, NOON), (now, NOON + WEEK))
    )
    told = weeks(shared, old, new)["a"]
    (low, high), (old_low, old_high) = wilson(*now), wilson(*before)
    rate, old_rate = now[0] / now[1], before[0] / before[1]
    assert told["success_rate_change_low"] == pytest.approx(
        rate - old_rate - math.hypot(rate - low, old_high - old_rate), abs=1e-9
    )
    assert told["success_rate_change_high"] == pytest.approx(
        rate - old_rate + math.hypot(high - rate, old_rate - old_low), abs=1e-9
    )
    assert told["success_verdict"] == verdict


def spread(count, at, middle):
    return [row for n in range(count) for row in runs(1, at, duration_ms=middle + 10 * (n - count // 2))]


@pytest.mark.parametrize(
    ("before", "now", "verdict"),
    [
        ((40, 1000), (40, 1000), "no evidence of change"),
        ((40, 1000), (40, 1300), "slower"),
        ((40, 1300), (40, 1000), "faster"),
        ((40, 1000), (40, 1050), "no evidence of change"),
        ((8, 1000), (8, 1300), "slower"),
        ((7, 1000), (7, 1300), "no evidence of change"),  # the median of so few may be anywhere
        ((1, 1000), (40, 9000), "no evidence of change"),
        ((0, 1000), (40, 1000), None),
    ],
)
def test_a_week_is_slower_or_faster_only_with_evidence(shared, before, now, verdict):
    told = weeks(shared, spread(before[0], NOON, before[1]), spread(now[0], NOON + WEEK, now[1]))["a"]
    assert told["duration_verdict"] == verdict


def test_a_week_without_runs_is_told_without_a_verdict(shared):
    told = weeks(shared, [*runs(3), *runs(2, agent_id="b")], runs(3, NOON + WEEK, agent_id="b"))
    assert told.keys() == {None, "a", "b"}
    gone = told["a"]
    assert (gone["execution_count"], gone["previous_execution_count"]) == (0, 3)
    assert [gone[name] for name in ("success_rate", "success_rate_change", "success_verdict")] == [None] * 3
    assert (told[None]["execution_count"], told[None]["previous_execution_count"]) == (3, 5)
    assert ask(shared, "select * from agentmill.week_over_week(%s)", MONDAY - WEEK) == []


def test_weeks_are_compared_up_to_the_last_day_that_was_over(shared):
    publish(empty(shared), runs(1), [MONDAY, MONDAY + timedelta(days=1)])
    publish(shared, runs(1, NOON + timedelta(days=2)), [MONDAY + timedelta(days=2)])
    loaded_at(shared, MONDAY + timedelta(days=2), NOON + timedelta(days=2))
    told = ask(shared, "select distinct week_from_day, week_to_day, is_final from agentmill.week_over_week")
    to_day = MONDAY + timedelta(days=2)
    assert told == [{"week_from_day": to_day - WEEK, "week_to_day": to_day, "is_final": True}]


def test_agents_are_ranked_by_a_rate_that_few_runs_cannot_win(shared):
    rows = [
        *runs(1, agent_id="lucky"),
        *runs(95, agent_id="proven"),
        *runs(5, agent_id="proven", status="failed"),
        *runs(50, agent_id="broken", status="failed"),
    ]
    publish(empty(shared), rows, [MONDAY])
    told = ask(shared, "select * from agentmill.agent_ranking")
    assert [(row["rank"], row["agent_id"]) for row in told] == [(1, "proven"), (2, "lucky"), (3, "broken")]
    everyone = 96 / 151
    assert told[0]["success_rate_shrunken"] == pytest.approx((95 + 20 * everyone) / 120)
    assert told[0]["reason"] == (
        "95 of 100 runs succeeded (95.0 %), counted as 89.8 % beside the 63.6 % of all agents; 0 users; no cost known"
    )


def test_agents_of_one_rate_are_ranked_by_users_then_cost_then_id(shared):
    rows = [
        *runs(2, agent_id="z", user_key="u1"),
        *runs(2, agent_id="d"),
        *runs(2, agent_id="c"),
        *runs(2, agent_id="b", cost_usd=Decimal(2)),
        *runs(2, agent_id="y", cost_usd=Decimal(1)),
    ]
    publish(empty(shared), rows, [MONDAY])
    told = ask(shared, "select agent_id, reason from agentmill.agent_ranking order by rank")
    assert [row["agent_id"] for row in told] == ["z", "y", "b", "c", "d"]
    assert "1 users; no cost known" in told[0]["reason"]
    assert "$1.0000 a success" in told[1]["reason"]


def test_the_rate_of_nothing_is_unknown(shared):
    publish(empty(shared), runs(3), [MONDAY])
    assert ask(shared, "select * from agentmill.wilson_interval(0, 0)") == [{"low": None, "high": None}]
    for zone in ("UTC", "Asia/Kathmandu"):
        (told,) = ask(shared, "select * from agentmill.success_rate('nobody', null)", zone=zone)
        assert told["execution_count"] == 0
        assert {name for name, value in told.items() if value is None} == {
            "success_rate_pct",
            "success_rate_low_pct",
            "success_rate_high_pct",
            "success_rate_with_partial_pct",
        }


def test_an_agent_is_asked_for_by_any_name_it_had(shared):
    rows = [*runs(2, agent_name="old"), *runs(1, NOON + timedelta(days=1), agent_name="new", status="failed")]
    publish(empty(shared), [*rows, *runs(5, agent_id="b", agent_name="other")], [MONDAY, MONDAY + timedelta(days=1)])
    for asked in ("a", "old", "new"):
        (told,) = ask(shared, "select * from agentmill.success_rate(%s, null)", asked)
        assert (told["execution_count"], told["success_rate_pct"]) == (3, Decimal("66.67"))
    assert ask(shared, "select agent_name from agentmill.agent_names where agent_id = 'a'") == [{"agent_name": "new"}]


def test_signatures_of_one_cluster_are_one_failure_in_the_words_of_the_most_frequent(shared):
    tables = [f"could not open the table {name} of the shop" for name in ("orders", "users", "items")]
    rows = [
        *runs(1, status="failed", error_message=tables[0]),
        *runs(3, status="failed", error_message=tables[1]),
        *runs(2, status="failed", error_message=tables[2], agent_id="b"),
        *runs(4, status="timeout", error_message=ERRORS[0]),
    ]
    publish(empty(shared), rows, [MONDAY])
    told = ask(shared, "select * from agentmill.error_breakdown")
    assert [(row["rank"], row["template"], row["occurrence_count"], row["agent_count"]) for row in told] == [
        (1, tables[1], 6, 2),
        (2, ERRORS[0], 4, 1),
    ]
    assert [row["failure_share"] for row in told] == [0.6, 0.4]
    assert [row["cumulative_share"] for row in told] == [0.6, 1]
    with shared.connect() as connection:
        connection.execute("delete from agentmill.failure_clusters")
    assert [row["occurrence_count"] for row in ask(shared, "select * from agentmill.error_breakdown")] == [4, 3, 2, 1]


def test_what_failed_before_a_quiet_week_is_not_what_fails_most_in_it(shared):
    question = next(one.query for one in ready_questions() if one.name == "top_failures")
    monday = datetime.combine(MONDAY, NOON.timetz())
    days = [MONDAY + timedelta(days=n) for n in range(8)]
    rows = [*runs(2, monday, status="failed"), *runs(1, monday + timedelta(days=6))]
    publish(empty(shared), rows, days[:7])
    assert [row["occurrence_count"] for row in ask(shared, question)] == [2]
    publish(shared, runs(1, monday + timedelta(days=7)), days[7:])
    assert ask(shared, question) == []


def test_a_cache_saves_the_price_of_input_less_that_of_reading_it(shared):
    known = {"provider": "openai", "model": "gpt-4o", "input_tokens": 1000, "cost_usd": Decimal(1)}
    rows = [*runs(2, **known, cache_read_tokens=600), *runs(1, **known), *runs(1, model="m", input_tokens=5)]
    publish(empty(shared), rows, [MONDAY])
    told = {row["model"]: row for row in ask(shared, "select * from agentmill.cache_efficiency")}
    price = PRICES.find("gpt-4o", "openai").on(MONDAY)
    assert told["gpt-4o"]["cache_saving_usd"] == 1200 * (price.input - price.cache_read) / 10**6 > 0
    assert told["gpt-4o"]["cache_hit_rate_tokens"] == pytest.approx(0.4)
    assert told["gpt-4o"]["cache_hit_rate_runs"] == pytest.approx(2 / 3)
    assert told["m"]["cache_saving_usd"] is None


def test_a_day_that_was_loaded_before_it_was_over_is_provisional(shared):
    tuesday = MONDAY + timedelta(days=1)
    publish(
        empty(shared), [*runs(1, model="m"), *runs(1, NOON + timedelta(days=1), status="failed")], [MONDAY, tuesday]
    )
    loaded_at(shared, MONDAY, midnight(tuesday))
    loaded_at(shared, tuesday, midnight(tuesday) + timedelta(hours=23))
    for view in ("published_days", "agent_performance", "cost_daily", "model_status_daily", "cache_efficiency"):
        told = ask(shared, f"select distinct day, published_at, is_final from agentmill.{view} order by day")
        assert [row["is_final"] for row in told] == [True, False], view
        assert told[1]["published_at"] == midnight(tuesday) + timedelta(hours=23)
    for function in ("model_comparison", "pricing_insight", "agent_ranking", "error_breakdown", "usage_peaks"):
        for to_day, is_final in ((tuesday, True), (tuesday + timedelta(days=1), False)):
            told = ask(shared, f"select distinct is_final from agentmill.{function}(%s, %s)", MONDAY, to_day)
            assert told in ([{"is_final": is_final}], []), function
    (told,) = ask(shared, "select is_final from agentmill.success_rate(null, null, %s, %s)", MONDAY, tuesday)
    assert told["is_final"]


@pytest.mark.parametrize(
    ("first", "second", "is_final"),
    [
        (timedelta(days=1), timedelta(days=2), True),  # each loaded as soon as it was over
        (timedelta(days=1), timedelta(days=1, hours=23), False),
        (timedelta(hours=23), timedelta(days=2), False),
        (timedelta(days=5), None, False),
    ],
)
def test_a_local_day_is_final_when_both_utc_days_that_hold_it_are(shared, first, second, is_final):
    tuesday = MONDAY + timedelta(days=1)
    rows = [*runs(1), *runs(1, NOON + timedelta(days=1))]
    publish(empty(shared), rows, [MONDAY, tuesday] if second else [MONDAY])
    loaded_at(shared, MONDAY, midnight(MONDAY) + first)
    if second:
        loaded_at(shared, tuesday, midnight(MONDAY) + second)
    for zone in ("Europe/Berlin", "Asia/Kathmandu"):
        told = ask(shared, "select is_final from agentmill.published_days where day = %s", tuesday, zone=zone)
        assert told == [{"is_final": is_final}]


def test_days_of_an_outage_are_published_days_so_that_the_latest_ones_are_never_old(shared):
    days = [MONDAY + timedelta(days=n) for n in range(14)]
    publish(empty(shared), runs(4), days)
    assert [row["day"] for row in ask(shared, "select day from agentmill.published_days order by day")] == days
    (busiest,) = ask(
        shared, "select max(executions_per_day) as most, max(day_count) as days from agentmill.usage_peaks()"
    )
    assert busiest["most"] == busiest["days"] == 2
    weeks = ask(shared, "select week_to_day from agentmill.week_over_week()")
    assert {row["week_to_day"] for row in weeks} == {MONDAY + timedelta(days=14)}


def test_days_that_were_not_loaded_do_not_count_as_quiet_ones(shared):
    publish(empty(shared), runs(4), [MONDAY])
    told = ask(shared, "select * from agentmill.usage_peaks(%s, %s)", MONDAY - 2 * WEEK, MONDAY + 2 * WEEK)
    assert {(row["weekday"], row["day_count"]) for row in told} == {(1, 1)}
    assert [row["executions_per_day"] for row in told if row["hour_of_day"] == 12] == [4]


def test_a_range_with_a_missing_day_is_not_final_and_weeks_of_unequal_days_are_not_compared(shared):
    days = [MONDAY + timedelta(days=n) for n in range(14)]
    rows = [
        row for n in range(14) for row in runs(50, NOON + timedelta(days=n), status="failed" if n > 6 else "success")
    ]
    publish(empty(shared), rows, days)
    over = "select is_final from agentmill.success_rate(null, null, %s, %s)"
    compared = "select day_count, previous_day_count, success_verdict from agentmill.week_over_week(%s) limit 1"
    assert ask(shared, over, days[0], days[-1])[0]["is_final"]
    assert ask(shared, over, MONDAY - WEEK, MONDAY + 9 * WEEK)[0]["is_final"]
    assert ask(shared, compared, days[-1] + timedelta(days=1))[0]["success_verdict"] == "worse"
    with shared.connect() as connection:
        for table in ("execution_rollup_daily", "agent_metrics_daily"):
            connection.execute(f"delete from agentmill.{table} where day = %s", [days[9]])
        connection.execute("delete from agentmill.load_ledger where day = %s", [days[9]])
    assert not ask(shared, over, days[0], days[-1])[0]["is_final"]
    (told, *_) = ask(shared, compared, days[-1] + timedelta(days=1))
    assert told == {"day_count": 6, "previous_day_count": 7, "success_verdict": None}


def test_a_percentile_is_not_told_from_the_days_that_have_sketches_alone(shared):
    publish(
        empty(shared),
        [*spread(100, NOON, 900), *spread(100, NOON + timedelta(days=1), 900)],
        [MONDAY, MONDAY + timedelta(days=1)],
    )
    questions = {
        "model_comparison": "select duration_p50_ms from agentmill.model_comparison(%s, %s)",
        "performance": "select duration_p50_ms from agentmill.performance(%s, %s, '{}')",
    }
    bounds = (MONDAY, MONDAY + timedelta(days=2))
    assert all(ask(shared, question, *bounds)[0]["duration_p50_ms"] for question in questions.values())
    with shared.connect() as connection:
        for table in ("execution_rollup_daily", "agent_metrics_daily", "model_metrics_daily"):
            connection.execute(f"update agentmill.{table} set duration_sketch = null where day = %s", [MONDAY])
    assert not any(ask(shared, question, *bounds)[0]["duration_p50_ms"] for question in questions.values())


def test_percentiles_lie_between_ranks_as_those_of_the_tables_do(shared):
    publish(
        empty(shared), [*runs(1, duration_ms=10), *runs(1, NOON + timedelta(minutes=1), duration_ms=1000)], [MONDAY]
    )
    question = "select duration_p50_ms from agentmill.performance(%s, %s)"
    (told,) = ask(shared, question, MONDAY, MONDAY + timedelta(days=1))
    assert told["duration_p50_ms"] == pytest.approx(505, rel=0.01)
    (exact,) = ask(shared, "select duration_p50_ms from agentmill.agent_performance")
    assert exact["duration_p50_ms"] == 505


@pytest.mark.parametrize(
    ("asked", "told"),
    [
        ((None, None), (-29, 1)),
        ((None, -7), (-37, -7)),
        ((None, 100), (-29, 100)),
        ((-3, None), (-3, 1)),
        ((5, 9), (5, 9)),
    ],
)
def test_a_range_that_is_not_given_is_the_last_thirty_days_that_were_loaded(shared, asked, told):
    publish(empty(shared), runs(1), [MONDAY])
    bounds = [None if days is None else MONDAY + timedelta(days=days) for days in asked]
    (row,) = ask(shared, "select * from agentmill.reporting_days(%s::date, %s::date)", *bounds)
    assert tuple((day - MONDAY).days for day in row.values()) == told


def test_users_are_counted_alike_in_a_session_whose_clocks_change(shared):
    """In New York the day has 23 hours."""
    day = date(2026, 3, 8)
    publish(empty(shared), runs(1, midnight(day), user_key="u"), [day])
    question = "select agentmill.user_count(%s::timestamptz + %s * interval '1 minute', '2026-03-10T00:00Z') as n"
    assert [ask(shared, question, midnight(day), minutes) for minutes in (0, 30)] == [[{"n": 1}], [{"n": 0}]]


def test_performance_refuses_what_it_does_not_know(shared):
    with pytest.raises(psycopg.errors.RaiseException, match="cannot be told by colour") as told:
        ask(shared, "select * from agentmill.performance('2026-03-01', '2026-04-01', '{agent_id,colour}')")
    assert "agent_version" in told.value.diag.message_hint


def test_freshness_is_that_of_the_last_day_a_source_had_records(shared):
    publish(empty(shared), runs(1), [MONDAY])
    with shared.connect() as connection:
        for source, day, clean, refused in (("app", MONDAY, 1, 1), ("app", MONDAY + WEEK, 0, 0), ("bad", MONDAY, 0, 2)):
            connection.execute(
                "insert into agentmill.receipts_daily values (%s, %s, %s, %s, %s, 0, 0, '{}', 1, 0, 0)",
                [day, source, clean + refused, clean, refused],
            )
    loaded_at(shared, MONDAY, NOON)
    told = {row["source"]: row for row in ask(shared, "select * from agentmill.data_freshness")}
    assert (told["app"]["last_day"], told["app"]["last_event_at"], told["app"]["is_final"]) == (MONDAY, NOON, False)
    assert [told[name]["last_published_at"] for name in ("app", "bad")] == [NOON, NOON]
    assert [told[name]["quarantine_share"] for name in ("app", "bad")] == [0.5, 1]
    assert told["bad"]["last_event_at"] is None


def test_an_empty_warehouse_answers_every_question(shared):
    views = ask(empty(shared), "select viewname as name from pg_views where schemaname = 'agentmill'")
    assert len(views) > 15
    for zone in ("UTC", "Asia/Kathmandu"):
        assert [view for view in views if ask(shared, f"select * from agentmill.{view['name']}", zone=zone)] == []
        (told,) = ask(shared, "select * from agentmill.success_rate(null, null)", zone=zone)
        assert (told["execution_count"], told["is_final"]) == (0, None)
        assert ask(shared, "select * from agentmill.performance('2026-01-01', '2026-02-01', '{}')", zone=zone) == []
        assert ask(shared, "select user_count('-infinity', 'infinity') as n", zone=zone) == [{"n": 0}]


DISTRIBUTIONS = {
    "lognormal": lambda chance: int(chance.lognormvariate(8, 2)),
    "bimodal": lambda chance: chance.choice((50, 90_000)) + chance.randrange(10),
    "constant": lambda _: 777,
    "single": None,
}


@pytest.mark.parametrize("zone", ["UTC", "Asia/Kathmandu"])
def test_percentiles_of_thirty_days_are_within_one_percent(shared, zone):
    chance = random.Random(7)
    days = [MONDAY + timedelta(days=n) for n in range(30)]
    rows = [
        ran(midnight(day) + timedelta(seconds=chance.randrange(86_400)), model=name, duration_ms=draw(chance))
        for day in days
        for name, draw in DISTRIBUTIONS.items()
        for _ in range(chance.randrange(25) if draw else 0)
    ]
    rows.append(ran(NOON + WEEK, model="single", duration_ms=123))
    fill(empty(shared), as_frame(rows, EXECUTION).sort("event_time"))
    values = {name: [row["duration_ms"] for row in rows if row["model"] == name] for name in DISTRIBUTIONS}
    span = MONDAY - timedelta(days=1), days[-1] + timedelta(days=2)
    for question in ("model_comparison(%s, %s)", "performance(%s, %s, '{model}')"):
        told = {row["model"]: row for row in ask(shared, f"select * from agentmill.{question}", *span, zone=zone)}
        assert told.keys() == values.keys()
        for name, row in told.items():
            assert row["duration_count"] == len(values[name])
            for percent in MIN_SAMPLE:
                assert is_quantile(row[f"duration_p{percent}_ms"], values[name], percent, 0.01 + 1e-9), (name, row)
    assert len(values["lognormal"]) > 300
