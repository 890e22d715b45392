"""What happened in the marketplace: runs of its agents with a daily rhythm, costs, failures and three incidents.

Everything is drawn from one seed. `incident` and `failure` are the known truth; the logs do not tell them.
"""

from dataclasses import dataclass
from datetime import date, datetime, timedelta

import numpy as np
import polars as pl

FIRST_DAY = date(2025, 3, 3)
DAYS = 14
LAST_DAY = FIRST_DAY + timedelta(days=DAYS - 1)
SEED = 20250303

_HOURLY = np.array([2, 1, 1, 1, 1, 2, 4, 8, 14, 18, 19, 18, 15, 17, 19, 19, 17, 14, 10, 8, 7, 6, 5, 3], dtype=float)
_WEEKDAY = np.array([1.0, 1.08, 1.1, 1.06, 0.96, 0.5, 0.44])


@dataclass(frozen=True, slots=True)
class Agent:
    """An agent of the marketplace: its share of the traffic, and what a run of it is like."""

    name: str
    kind: str
    share: float
    models: tuple[str, ...]
    version: str
    seconds: float
    input_tokens: int
    output_tokens: int
    tools: tuple[str, ...]


AGENTS = (
    Agent("support-chat", "chat", 0.34, ("gpt-4o-mini", "gpt-4o"), "5.2.0", 6, 1800, 260, ("search_orders", "refund")),
    Agent("code-review", "task", 0.17, ("claude-sonnet-4", "gpt-4o"), "1.9.3", 38, 9500, 1200, ("read_file", "test")),
    Agent("invoice-reader", "task", 0.16, ("gpt-4o-mini",), "2.3.1", 11, 3200, 420, ("ocr", "validate_totals")),
    Agent("travel-planner", "chat", 0.13, ("claude-sonnet-4",), "0.8.2", 24, 5200, 900, ("flights", "hotels")),
    Agent("sql-analyst", "task", 0.12, ("claude-haiku-4", "gpt-4o"), "3.0.0", 15, 4100, 380, ("run_sql", "plot")),
    Agent("seo-writer", "task", 0.08, ("gpt-4o-mini",), "1.1.0", 29, 1500, 2100, ("web_search",)),
)
PROVIDERS = {"gpt-4o": "openai", "gpt-4o-mini": "openai", "claude-sonnet-4": "anthropic", "claude-haiku-4": "anthropic"}
_USD_PER_MILLION = {
    "input": {"gpt-4o": 2.5, "gpt-4o-mini": 0.15, "claude-sonnet-4": 3.0, "claude-haiku-4": 0.8},
    "cached": {"gpt-4o": 1.25, "gpt-4o-mini": 0.075, "claude-sonnet-4": 0.3, "claude-haiku-4": 0.08},
    "output": {"gpt-4o": 10.0, "gpt-4o-mini": 0.6, "claude-sonnet-4": 15.0, "claude-haiku-4": 4.0},
}
"""List prices, but for `claude-haiku-4`, which no price book knows."""


@dataclass(frozen=True, slots=True)
class Incident:
    """Something that went wrong on purpose: what, from when until when, and whom it hits."""

    name: str
    failure: str
    category: str
    starts: datetime
    ends: datetime
    share: float
    agent: str | None = None
    provider: str | None = None


def _at(day: int, hour: int) -> datetime:
    return datetime.combine(FIRST_DAY, datetime.min.time()) + timedelta(days=day, hours=hour)


OUTAGE = Incident("provider outage", "overloaded", "provider_error", _at(2, 13), _at(2, 16), 0.6, provider="anthropic")
BAD_RELEASE = Incident("bad release", "bad_total", "validation_error", _at(8, 10), _at(9, 18), 0.34, "invoice-reader")
SLOW_CREEP = Incident("slow creep", "context", "context_length", _at(3, 0), _at(DAYS, 0), 0.09, "travel-planner")
INCIDENTS = (OUTAGE, BAD_RELEASE, SLOW_CREEP)
_BAD_VERSION = "2.4.0"
_FIXED_VERSION = "2.4.1"


@dataclass(frozen=True, slots=True)
class Failure:
    """A way to fail: what the log says (`{...}` is filled with random values), and how often it happens by itself."""

    status: str
    type: str
    rate: float
    message: str


FAILURES = {
    "overloaded": Failure(
        "errored", "APIStatusError", 0.0006, "Error code: 503 - the model {model} is overloaded (request id {request})"
    ),
    "rate_limit": Failure(
        "errored", "RateLimitError", 0.004, "Rate limit reached for {model}: {number} requests per min, retry in {ms}ms"
    ),
    "ai_timeout": Failure("timed_out", "APITimeoutError", 0.005, "Request timed out after {ms} ms"),
    "tool": Failure("failed", "ToolExecutionError", 0.006, "tool {tool} failed: connection refused by {ip}:{port}"),
    "parse": Failure(
        "failed",
        "OutputParserException",
        0.007,
        "cannot parse model output as JSON at line {number} column {column}",
    ),
    "permission": Failure("errored", "PermissionError", 0.002, "Permission denied: '{home}/work/{word}.csv'"),
    "auth": Failure("errored", "AuthenticationError", 0.0008, "401 Unauthorized: key {secret} rejected for {email}"),
    "bad_total": Failure(
        "failed",
        "ValidationError",
        0.0,
        "1 validation error for Invoice: total is no number: 'EUR {number},{column}'",
    ),
    "context": Failure(
        "failed", "BadRequestError", 0.0, "prompt is too long: {number}000 tokens exceed the context window of 200000"
    ),
}

RUNS = 60_000
_USERS = 1_200
_FIRST = "ada ben cleo dara emil finn gina hugo iris jonas kira liam mara noah olga paul".split()
_LAST = "archer brandt castell dorn eriksen fuchs gruber hollis iversen jansen keller lindt moreau novak".split()
_WORDS = "report invoice flight berlin refund table customer order summary draft budget hotel review".split()
_CREEP_PER_DAY = 1.07
_UNPRICED, _SKEWED, _CANCELLED, _PARTIAL = 0.07, 0.003, 0.006, 0.016
_TIMEOUT_MS = 60_000


CANARY = "ophelia.canary"
"""The most active user. She exists in the logs only: her name must be found nowhere else."""
_CANARY_NUMBER = 7


def user_name(number: int) -> str:
    """The name a user goes by."""
    return (
        CANARY if number == _CANARY_NUMBER else f"{_FIRST[number % len(_FIRST)]}.{_LAST[number % len(_LAST)]}{number}"
    )


def traffic(day: int, runs: int = RUNS // DAYS) -> pl.DataFrame:
    """The runs that started on a day of the demo (0 is the first); `runs` is the mean over the days of a week.

    Grain: one run. `incident` and `failure` are the truth behind a failed run, null where it went well.
    """
    rng = np.random.default_rng([SEED, day])
    start = _at(day, 0)
    count = int(runs * _WEEKDAY[start.weekday()] / _WEEKDAY.mean() * rng.uniform(0.97, 1.03))
    hour = rng.choice(24, count, p=_HOURLY / _HOURLY.sum())
    drawn = pl.DataFrame(
        {
            "started_at": np.datetime64(start, "ms") + np.sort(hour * 3_600_000 + rng.integers(0, 3_600_000, count)),
            "agent": rng.choice([agent.name for agent in AGENTS], count, p=[agent.share for agent in AGENTS]),
            "user": (rng.zipf(1.35, count) * 7) % _USERS,
            "model_draw": rng.random(count),
            "incident_draw": rng.random(count),
            "failure_draw": rng.random(count),
            "outcome_draw": rng.random(count),
            "noise": rng.lognormal(0, 0.45, count),
            "size": rng.lognormal(0, 0.35, count),
            "cached": np.where(rng.random(count) < 0.45, rng.uniform(0.2, 0.8, count), 0.0),  # noqa: PLR2004
            "is_unpriced": rng.random(count) < _UNPRICED,
            "is_skewed": rng.random(count) < _SKEWED,
            "serial": np.arange(count) + day * 1_000_000,
        }
    )
    return (
        drawn.with_columns(pl.col("started_at").cast(pl.Datetime("us")))
        .join(_agents(), on="agent", how="left", maintain_order="left")
        .pipe(_choose_model)
        .pipe(_fail)
        .pipe(_measure, day)
        .pipe(_tell, rng)
    )


def _agents() -> pl.DataFrame:
    return pl.DataFrame(
        [{"agent": agent.name, **{name: getattr(agent, name) for name in Agent.__slots__[1:]}} for agent in AGENTS]
    ).drop("share")


def _choose_model(runs: pl.DataFrame) -> pl.DataFrame:
    """The model of each run, its provider and prices, and the version that was released at the time."""
    at = pl.col("started_at")
    bad = pl.col("agent") == BAD_RELEASE.agent
    place = (pl.col("model_draw") * pl.col("models").list.len()).cast(pl.Int64)
    return runs.with_columns(
        model=pl.col("models").list.get(place),
        version=pl.when(bad & at.is_between(BAD_RELEASE.starts, BAD_RELEASE.ends, closed="left"))
        .then(pl.lit(_BAD_VERSION))
        .when(bad & (at >= BAD_RELEASE.ends))
        .then(pl.lit(_FIXED_VERSION))
        .otherwise("version"),
    ).with_columns(
        provider=pl.col("model").replace_strict(PROVIDERS),
        **{f"{kind}_price": pl.col("model").replace_strict(usd) for kind, usd in _USD_PER_MILLION.items()},
    )


def _fail(runs: pl.DataFrame) -> pl.DataFrame:
    """Which runs an incident hit, which failed by themselves, and the outcome of each."""
    hit = [pl.when(_is_hit(incident)).then(pl.lit(incident.name)) for incident in INCIDENTS]
    rates = np.cumsum([failure.rate for failure in FAILURES.values()])
    by_itself = pl.coalesce(
        pl.when(pl.col("failure_draw") < rate).then(pl.lit(name)) for name, rate in zip(FAILURES, rates, strict=True)
    )
    causes = {incident.name: incident.failure for incident in INCIDENTS}
    statuses = {name: failure.status for name, failure in FAILURES.items()}
    outcome = pl.col("outcome_draw")
    harmless = (
        pl.when(outcome < _CANCELLED)
        .then(pl.lit("canceled"))
        .when(outcome < _PARTIAL)
        .then(pl.lit("partial"))
        .otherwise(pl.lit("succeeded"))
    )
    return (
        runs.with_columns(incident=pl.coalesce(hit))
        .with_columns(failure=pl.coalesce(pl.col("incident").replace_strict(causes, default=None), by_itself))
        .with_columns(state=pl.coalesce(pl.col("failure").replace_strict(statuses, default=None), harmless))
    )


def _is_hit(incident: Incident) -> pl.Expr:
    """Whether an incident hit a run. A creep grows from nothing to its share, the others hit at once."""
    at = pl.col("started_at")
    passed = (at - incident.starts).dt.total_seconds() / (incident.ends - incident.starts).total_seconds()
    share = passed * incident.share if incident is SLOW_CREEP else pl.lit(incident.share)
    of_agent = pl.col("agent") == incident.agent if incident.agent else pl.col("provider") == incident.provider
    during = at.is_between(incident.starts, incident.ends, closed="left")
    return during & of_agent & (pl.col("incident_draw") < share)


def _measure(runs: pl.DataFrame, day: int) -> pl.DataFrame:
    """Duration, tokens, cost and network of each run."""
    slow = pl.when(pl.col("agent") == SLOW_CREEP.agent).then(_CREEP_PER_DAY ** max(0, day - 3)).otherwise(1.0)
    duration = (
        pl.when(pl.col("failure") == "ai_timeout")
        .then(_TIMEOUT_MS)
        .when(pl.col("failure").is_not_null())
        .then(pl.col("seconds") * pl.col("noise") * 400)
        .otherwise(pl.col("seconds") * pl.col("noise") * 1000 * slow)
    )
    tokens_in, tokens_out = pl.col("input_tokens") * pl.col("size"), pl.col("output_tokens") * pl.col("size")
    measured = runs.with_columns(
        duration_ms=duration.cast(pl.Int64),
        input_tokens=tokens_in.cast(pl.Int64),
        output_tokens=pl.when(pl.col("failure").is_null()).then(tokens_out).otherwise(0).cast(pl.Int64),
        queue_ms=(pl.col("noise") * 90).cast(pl.Int64),
        ttft_ms=(pl.col("size") * 700).cast(pl.Int64),
    ).with_columns(cached_tokens=(pl.col("input_tokens") * pl.col("cached")).cast(pl.Int64))
    fresh = pl.col("input_tokens") - pl.col("cached_tokens")
    amounts = {"input": fresh, "cached": pl.col("cached_tokens"), "output": pl.col("output_tokens")}
    cost = pl.sum_horizontal(tokens * pl.col(f"{kind}_price") for kind, tokens in amounts.items()) / 1e6
    lasted = pl.duration(milliseconds=pl.col("duration_ms"))
    return measured.with_columns(
        cost_usd=pl.when(~pl.col("is_unpriced")).then(cost.round(8)),
        ended_at=pl.col("started_at") + pl.when(pl.col("is_skewed")).then(-lasted).otherwise(lasted),
    )


def _tell(runs: pl.DataFrame, rng: np.random.Generator) -> pl.DataFrame:
    """The error of each failed run, with the personal data and secrets that such messages really hold."""
    errors = [
        None if name is None else _message(FAILURES[name], model, user, rng)
        for name, model, user in runs.select("failure", "model", "user").iter_rows()
    ]
    types = {name: failure.type for name, failure in FAILURES.items()}
    return runs.with_columns(
        pl.Series("error_message", errors, pl.String),
        error_type=pl.col("failure").replace_strict(types, default=None, return_dtype=pl.String),
    )


def _message(failure: Failure, model: str, user: int, rng: np.random.Generator) -> str:
    name = user_name(user)
    return failure.message.format(
        model=model,
        request=f"req_{rng.integers(16**12):012x}",
        number=rng.integers(1, 400),
        column=rng.integers(1, 99),
        ms=rng.integers(200, 90_000),
        tool=rng.choice(["search_orders", "run_sql", "read_file", "ocr"]),
        ip=f"10.{rng.integers(0, 255)}.{rng.integers(0, 255)}.{rng.integers(1, 255)}",
        port=rng.choice([443, 5432, 6379]),
        home=f"/home/{name}",
        word=rng.choice(_WORDS),
        secret="sk-" + "proj-" + "".join(rng.choice(list("abcdefghijkmnpqrstuvwxyzABCDEFGHJKLMNP23456789"), 40)),
        email=f"{name}@example.org",
    )
