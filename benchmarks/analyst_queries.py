"""Ten million executions of 90 days, and how long each question behind a page takes: its view beside the raw table.

usage: python -m benchmarks.analyst_queries [--rows N] [--days N] [--database-url URL]

Days are made as frames and published through the product's own functions: partition, rollups, failure facts, ledger.
Those that a database holds already are kept, so a second run measures at once. Without a URL, an embedded server is
started in a temporary folder.

Every question is asked once to warm up, then up to five times; the medians of wall time are told. CPU is the whole
server's, parallel workers included, so nothing else should use it. Bounds hold for UTC and are marked where missed.
"""

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path
from statistics import median

import numpy as np
import polars as pl
import psutil
import psycopg
from psycopg.types.json import Jsonb

from pipelines.execution import EXECUTION, MONEY
from pipelines.failures import publish_clusters
from pipelines.pricing.book import load_prices
from pipelines.publication import publish_derived
from pipelines.rollup import CUBE_DAILY
from pipelines.warehouse.connection import Warehouse
from pipelines.warehouse.executions import PublishedDay
from pipelines.warehouse.ledger import Load, loaded_content
from pipelines.warehouse.migrations import upgrade
from pipelines.warehouse.publish import publish_partition
from pipelines.warehouse.server import database_url, start_server

LAST_DAY = date(2025, 11, 30)
SEED = 20251130

_AGENTS = 24
_USERS = 30_000
_MODELS = {  # provider, and US dollars per million input and output tokens
    "gpt-4o": ("openai", 2.5, 10.0),
    "gpt-4o-mini": ("openai", 0.15, 0.6),
    "claude-sonnet-4": ("anthropic", 3.0, 15.0),
    "claude-3-5-haiku": ("anthropic", 0.8, 4.0),
    "gemini-2.5-flash": ("google", 0.3, 2.5),
    "nova-lite": ("amazon", 0.06, 0.24),
}
_FAILURES = (  # status, type, message; `{}` is a number
    ("error", "RateLimitError", "Rate limit reached: {} requests per min"),
    ("timeout", "APITimeoutError", "Request timed out after {} ms"),
    ("error", "APIStatusError", "Error code: 503 - the model is overloaded (request id {})"),
    ("failed", "ToolExecutionError", "tool search_orders failed: connection refused by port {}"),
    ("failed", "OutputParserException", "cannot parse model output as JSON at line {}"),
    ("failed", "ValidationError", "1 validation error for Invoice: total is no number: 'EUR {}'"),
    ("failed", "BadRequestError", "prompt is too long: {} tokens exceed the context window of 200000"),
    ("error", "AuthenticationError", "401 Unauthorized: key {} rejected"),
)
_HOURLY = np.array([2, 1, 1, 1, 1, 2, 4, 8, 14, 18, 19, 18, 15, 17, 19, 19, 17, 14, 10, 8, 7, 6, 5, 3], dtype=float)
_WEEKEND = 0.45
_PARTIAL, _CANCELLED, _UNPRICED, _UNKNOWN_MODEL, _ANONYMOUS = 0.015, 0.005, 0.06, 0.03, 0.05
_PRODUCTION = 0.85
_DAYS_PER_VERSION = 17


def executions_of(day: date, count: int) -> pl.DataFrame:
    """A day's executions by event time: always the same ones for a day and a count."""
    rng = np.random.default_rng([SEED, day.toordinal()])
    seconds = np.sort(rng.choice(24, count, p=_HOURLY / _HOURLY.sum()) * 3600 + rng.random(count) * 3600)
    agent = np.minimum(rng.zipf(1.3, count) - 1, rng.integers(0, _AGENTS, count))
    model = np.where(
        rng.random(count) < _UNKNOWN_MODEL, len(_MODELS), (agent + rng.choice(3, count, p=[0.7, 0.2, 0.1])) % 6
    )
    # An agent's release reaches everybody within the day it comes out on.
    release = (
        (day.toordinal() + 5 * agent + seconds / 86_400 * rng.random(count)).astype(int) // _DAYS_PER_VERSION % 100
    )
    failed = rng.random(count) < 0.02 + 0.06 * (agent % 7) / 6
    kind = np.minimum(rng.zipf(1.5, count) - 1, len(_FAILURES) - 1)
    drawn = rng.random(count)
    duration = rng.lognormal(np.log(4000 + 900 * agent), 0.9)
    tokens_in = rng.lognormal(7.5, 0.8, count).astype(np.int64)
    tokens_out = rng.lognormal(5.8, 0.7, count).astype(np.int64)
    models, failures = list(_MODELS.items()), [pl.Series([one[n] for one in _FAILURES]) for n in range(3)]
    names = pl.Series([*_MODELS, None])
    price = np.array([[usd_in, usd_out] for _, (_, usd_in, usd_out) in models] + [[np.nan, np.nan]])[model]
    cost = (tokens_in * price[:, 0] + tokens_out * price[:, 1]) / 1e6
    is_priced = (rng.random(count) >= _UNPRICED) & (model < len(_MODELS))
    started = np.datetime64(day, "us") + (seconds * 1e6).astype("timedelta64[us]")
    rows = pl.DataFrame(
        {
            "agent": agent,
            "number": rng.integers(1, 100_000, count),
            "cost": cost,
            "is_priced": is_priced,
            "event_time": started,
            "duration_ms": duration.astype(np.int64),
            "user": rng.zipf(1.2, count) % _USERS,
            "is_anonymous": rng.random(count) < _ANONYMOUS,
            "release": release,
            "is_production": rng.random(count) < _PRODUCTION,
            "input_tokens": tokens_in,
            "cache_read_tokens": (tokens_in * rng.choice([0, 0.5, 0.8], count)).astype(np.int64),
            "output_tokens": tokens_out,
            "ttft_ms": (duration * rng.uniform(0.05, 0.3, count)).astype(np.int64),
            "llm_calls": rng.integers(1, 6, count),
            "tool_calls": rng.integers(0, 5, count),
        }
    ).with_columns(
        pl.Series("model", names.gather(model)),
        pl.Series("provider", pl.Series([provider for _, (provider, *_) in models] + [None]).gather(model)),
        pl.Series("is_failed", failed),
        pl.Series("drawn", drawn),
        *(pl.Series(name, told.gather(kind)) for name, told in zip(("kind", "type", "message"), failures, strict=True)),
    )
    number, is_failed = pl.col("number").cast(pl.String), pl.col("is_failed")
    known = rows.select(
        source=pl.lit("app"),
        execution_id=pl.format("{}-{}", pl.lit(day.isoformat()), pl.int_range(pl.len())),
        trace_id=pl.format("trace-{}-{}", pl.lit(day.isoformat()), pl.int_range(pl.len())),
        row_hash=pl.format("{}{}", pl.lit("0" * 24), pl.int_range(pl.len())),
        agent_id=pl.format("agent-{}", "agent"),
        agent_name=pl.format("Agent {}", "agent"),
        agent_version=pl.format("1.{}.0", "release"),
        execution_type=pl.when(pl.col("agent") % 3 == 0).then(pl.lit("chat")).otherwise(pl.lit("task")),
        framework=pl.lit("langgraph"),
        environment=pl.when("is_production").then(pl.lit("production")).otherwise(pl.lit("staging")),
        user_key=pl.when(~pl.col("is_anonymous")).then(pl.format("user-{}", "user")),
        session_key=pl.format("session-{}-{}", "user", pl.col("number") % 9),
        client_family=pl.lit("Chrome 130"),
        status=pl.when("is_failed")
        .then("kind")
        .when(pl.col("drawn") < _PARTIAL)
        .then(pl.lit("partial"))
        .when(pl.col("drawn") < _PARTIAL + _CANCELLED)
        .then(pl.lit("cancelled"))
        .otherwise(pl.lit("success")),
        error_type=pl.when("is_failed").then("type"),
        error_message=pl.when("is_failed").then(pl.col("message").str.replace("{}", number, literal=True)),
        started_at=pl.col("event_time").dt.replace_time_zone("UTC"),
        completed_at=(pl.col("event_time") + pl.duration(milliseconds="duration_ms")).dt.replace_time_zone("UTC"),
        event_time=pl.col("event_time").dt.replace_time_zone("UTC"),
        duration_ms="duration_ms",
        ttft_ms=pl.when(~is_failed).then("ttft_ms"),
        provider="provider",
        model="model",
        request_model="model",
        input_tokens="input_tokens",
        cache_read_tokens="cache_read_tokens",
        output_tokens="output_tokens",
        cost_usd=pl.when("is_priced").then(pl.col("cost").round(8).cast(MONEY)),
        cost_source=pl.when("is_priced").then(pl.lit("provided")).otherwise(pl.lit("unpriced")),
        llm_calls="llm_calls",
        tool_calls="tool_calls",
        quality_flags=pl.lit([], pl.List(pl.String)),
    )
    return known.match_to_schema(EXECUTION, missing_columns=dict.fromkeys(EXECUTION, "insert"))


def fill(warehouse: Warehouse, rows: int, days: list[date]) -> None:
    """Publish so many executions, spread over the days, fewer on weekends; days that are there already stay."""
    prices = load_prices()
    weights = [_WEEKEND if day.isoweekday() > 5 else 1.0 for day in days]  # noqa: PLR2004 - Saturday and Sunday
    started = time.perf_counter()
    for number, (day, weight) in enumerate(zip(days, weights, strict=True), 1):
        count = round(rows * weight / sum(weights))
        content = f"{SEED} {count}"
        with warehouse.connect() as connection:
            if loaded_content(connection, CUBE_DAILY, day) is not None:
                continue
        frame = executions_of(day, count)
        load = Load(table="executions", day=day, content=content, rows=count)
        publish_partition(warehouse, load, frame, lambda within, day=day, count=count: _account(within, day, count))
        publish_derived(PublishedDay(day=day, content=content, rows=frame), warehouse, prices)
        print(f"\r{number} of {len(days)} days, {time.perf_counter() - started:.0f} s ", end="", file=sys.stderr)
    publish_clusters(warehouse)
    with warehouse.connect() as connection:
        connection.execute("vacuum (analyze)")


def _account(connection: psycopg.Connection, day: date, count: int) -> None:
    """The receipt of a day's only source."""
    connection.execute("delete from agentmill.receipts_daily where day = %s", [day])
    connection.execute(
        "insert into agentmill.receipts_daily values (%s, 'app', %s, %s, 0, 0, 0, %s, 1, 0, 0)",
        [day, count, count, Jsonb({})],
    )


@dataclass(frozen=True, slots=True)
class Question:
    """What a page asks: of a view, and of the raw executions. `{days}` and `{times}` stand for the range."""

    page: str
    name: str
    view: str
    raw: str | None
    days: int = 30
    bound_ms: float = 300


_RATE = "count(*), avg((status = 'success')::int)"
_LATENCY = "percentile_cont(array[0.5, 0.95, 0.99]) within group (order by duration_ms)"
_COST = "sum(cost_usd), count(cost_usd), sum(cost_usd) / nullif(count(*) filter (where status = 'success'), 0)"
_TOKENS = "sum(input_tokens), sum(cache_read_tokens), sum(output_tokens)"
_AFFECTED = "count(distinct agent_id), count(distinct model)"
_WEEKDAY_AND_HOUR = "extract(isodow from event_time), extract(hour from event_time)"
_DAY = "(event_time at time zone 'UTC')::date"
_FAILED = "status in ('failed', 'timeout', 'error')"
_RAW = "from agentmill.executions where {times}"

QUESTIONS = (
    Question(
        "Overview",
        "agent_performance",
        "select * from agentmill.agent_performance where {days}",
        f"select {_DAY}, agent_id, {_RATE}, {_LATENCY}, {_COST}, count(distinct user_key) {_RAW} group by 1, 2",
    ),
    Question(
        "Overview",
        "cost_daily",
        "select * from agentmill.cost_daily where {days}",
        f"select {_DAY}, count(*), {_COST} {_RAW} group by 1",
    ),
    Question(
        "Overview",
        "model_status_daily",
        "select * from agentmill.model_status_daily where {days}",
        f"select {_DAY}, provider, model, status, count(*), avg(duration_ms), {_COST}, {_TOKENS} {_RAW} "
        "group by 1, 2, 3, 4",
    ),
    Question(
        "Overview",
        "success_rate()",
        "select * from agentmill.success_rate(null, null, {from}, {to})",
        f"select {_RATE}, count(*) filter (where {_FAILED}) {_RAW}",
    ),
    Question(
        "Overview",
        "success_rate() of an agent",
        "select * from agentmill.success_rate('Agent 3', 'chat', {from}, {to})",
        f"select {_RATE}, count(*) filter (where {_FAILED}) {_RAW} "
        "and agent_name = 'Agent 3' and execution_type = 'chat'",
    ),
    Question(
        "Overview",
        "week_over_week",
        "select * from agentmill.week_over_week",
        f"select agent_id, event_time >= {{to}} - interval '7 days', {_RATE}, {_LATENCY}, {_COST} {_RAW} group by 1, 2",
        days=14,
    ),
    Question(
        "Overview",
        "data_freshness",
        "select * from agentmill.data_freshness",
        "select source, max(event_time) from agentmill.executions group by source",
    ),
    Question(
        "Efficiency",
        "model_comparison()",
        "select * from agentmill.model_comparison({from}, {to})",
        f"select provider, model, {_RATE}, {_LATENCY}, {_COST}, {_TOKENS} {_RAW} group by 1, 2",
    ),
    Question(
        "Efficiency",
        "cache_efficiency",
        "select * from agentmill.cache_efficiency where {days}",
        f"select {_DAY}, provider, model, {_TOKENS}, count(*) filter (where cache_read_tokens > 0) {_RAW} "
        "group by 1, 2, 3",
    ),
    Question(
        "Efficiency",
        "usage_peaks()",
        "select * from agentmill.usage_peaks({from}, {to})",
        f"select {_WEEKDAY_AND_HOUR}, count(*), count(*) filter (where {_FAILED}) {_RAW} group by 1, 2",
    ),
    Question(
        "Efficiency",
        "pricing_insight()",
        "select * from agentmill.pricing_insight({from}, {to})",
        f"select agent_id, execution_type, {_RATE}, {_COST}, sum(credits) {_RAW} group by 1, 2",
    ),
    Question(
        "Efficiency",
        "performance() by model",
        "select * from agentmill.performance({from}, {to}, '{model}')",
        f"select model, {_RATE}, {_LATENCY}, {_COST}, {_TOKENS} {_RAW} group by 1",
    ),
    Question(
        "Errors",
        "error_breakdown()",
        "select * from agentmill.error_breakdown({from}, {to})",
        f"select error_type, count(*), {_AFFECTED}, min(event_time), max(event_time) {_RAW} and {_FAILED} group by 1",
    ),
    Question(
        "Errors",
        "recent_failures, 20",
        "select * from agentmill.recent_failures order by event_time desc limit 20",
        None,
    ),
    Question(
        "Errors",
        "recent_failures, 20 of an agent",
        "select * from agentmill.recent_failures where agent_id = 'agent-3' order by event_time desc limit 20",
        None,
    ),
    Question(
        "90 days",
        "performance() by nothing",
        "select * from agentmill.performance({from}, {to}, '{}')",
        f"select {_RATE}, {_LATENCY}, {_COST}, {_TOKENS} {_RAW}",
        days=90,
        bound_ms=1000,
    ),
    Question(
        "90 days",
        "performance() by agent",
        "select * from agentmill.performance({from}, {to}, '{agent_id}')",
        f"select agent_id, {_RATE}, {_LATENCY}, {_COST}, {_TOKENS} {_RAW} group by 1",
        days=90,
        bound_ms=1000,
    ),
)


def asked(question: Question, text: str) -> str:
    """The statement, its range filled in: the last days there are."""
    end = LAST_DAY + timedelta(days=1)
    first = end - timedelta(days=question.days)
    for name, value in {
        "{days}": f"day >= '{first}' and day < '{end}'",
        "{times}": f"event_time >= '{first} 00:00Z' and event_time < '{end} 00:00Z'",
        "{from}": f"date '{first}'",
        "{to}": f"date '{end}'",
    }.items():
        text = text.replace(name, value)
    return text


class Stopwatch:
    """Asks statements of one connection, and tells the medians of wall time and of the server's CPU time."""

    def __init__(self, connection: psycopg.Connection, repeat: int, patience_seconds: float) -> None:
        self._connection = connection
        self._server = psutil.Process(psutil.Process(connection.info.backend_pid).ppid())
        self._repeat, self._patience = repeat, patience_seconds

    def ask(self, statement: str) -> tuple[float, float]:
        """Milliseconds of wall time (median) and of CPU (mean), warm."""
        self._connection.execute(statement.encode()).fetchall()
        walls: list[float] = []
        cpu = self._cpu()
        while len(walls) < self._repeat and sum(walls) < self._patience:
            started = time.perf_counter()
            self._connection.execute(statement.encode()).fetchall()
            walls.append(time.perf_counter() - started)
        return 1000 * median(walls), 1000 * (self._cpu() - cpu) / len(walls)

    def _cpu(self) -> float:
        """Seconds of the server and of all its processes, ended ones included."""
        own = self._server.cpu_times()
        return own.children_user + own.children_system + sum(_cpu_of(process) for process in self._server.children())


def _cpu_of(process: psutil.Process) -> float:
    try:
        times = process.cpu_times()
    except psutil.NoSuchProcess:
        return 0.0
    return float(times.user + times.system)


def measure(warehouse: Warehouse, local_zone: str, repeat: int, patience_seconds: float) -> Iterator[str]:
    """The lines of the table, one per question, as they are known."""
    yield f"{'ms':<46}{'UTC':>8}{'CPU':>8}{local_zone:>17}{'raw table':>12}{'CPU':>9}{'raw / UTC':>11}"
    with warehouse.connect() as connection:
        watch = Stopwatch(connection, repeat, patience_seconds)

        def _ask(question: Question, text: str, zone: str = "UTC") -> tuple[float, float]:
            connection.execute("select set_config('agentmill.timezone', %s, false)", [zone])
            return watch.ask(asked(question, text))

        for question in QUESTIONS:
            wall, cpu = _ask(question, question.view)
            local, _ = _ask(question, question.view, local_zone)
            line = f"{f'{question.page}: {question.name}':<46}{wall:>8,.0f}{cpu:>8,.0f}{local:>17,.0f}"
            if question.raw is not None:
                raw, raw_cpu = _ask(question, question.raw)
                line += f"{raw:>12,.0f}{raw_cpu:>9,.0f}{raw / wall:>11,.0f}"
            yield line if wall <= question.bound_ms else f"{line}  over {question.bound_ms:.0f}"


def main() -> None:
    """Make the executions, then ask."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=10_000_000)
    parser.add_argument("--days", type=int, default=90)
    parser.add_argument("--database-url", help="a database of your own to fill; it is kept")
    parser.add_argument("--zone", default="Asia/Kathmandu", help="the reporting time zone beside UTC")
    parser.add_argument("--repeat", type=int, default=5, help="how often a question is asked at most, once warm")
    parser.add_argument("--patience", type=float, default=10, help="seconds after which a question is not repeated")
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="agentmill-benchmark-") as folder:
        url = chosen.database_url or database_url(start_server(Path(folder) / "postgres"), "agentmill")
        warehouse = Warehouse(url)
        upgrade(warehouse)
        fill(warehouse, chosen.rows, [LAST_DAY - timedelta(days=ago) for ago in reversed(range(chosen.days))])
        count = warehouse.read("select sum(execution_count)::bigint from agentmill.cost_daily").item()
        sizes = warehouse.read(
            "select sum(pg_total_relation_size(relid))::bigint, pg_database_size(current_database()) "
            "from pg_partition_tree('agentmill.executions')"
        ).row(0)
        print(f"\n{count:,} executions; load of the machine {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")
        print(f"{sizes[0] / 1e6:,.0f} MB of executions, {sizes[1] / 1e6:,.0f} MB in all")
        for line in measure(warehouse, chosen.zone, chosen.repeat, chosen.patience):
            print(line, flush=True)


if __name__ == "__main__":
    main()
