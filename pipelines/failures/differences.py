"""What is different about a failure: the agents, versions, models, ... with which it happens more often than without.

Each value of each dimension is compared with all other executions of the days from the first to the last occurrence.
The most telling one comes first; the next is what tells most among the executions without it, and so on, so that what
merely goes together with the first (the models of a provider, the provider of an agent) is not told again.
"""

import math

import numpy as np
import numpy.typing as npt
import polars as pl

_DIMENSIONS = ("environment", "agent_id", "agent_version", "execution_type", "provider", "model")
_MOST = 3
_FEWEST_OCCURRENCES = 3
_SURE = 0.05
_Z = 1.959964
DIFFERENCES = pl.Schema(
    {
        "cluster_id": pl.String(),
        "dimension": pl.String(),
        "value": pl.String(),
        "agent_id": pl.String(),
        "occurrence_count": pl.Int64(),
        "execution_count": pl.Int64(),
        "failure_rate": pl.Float64(),
        "other_rate": pl.Float64(),
        "lift": pl.Float64(),
        "lift_low": pl.Float64(),
        "lift_high": pl.Float64(),
        "adjusted_p_value": pl.Float64(),
        "rank": pl.Int64(),
    }
)
"""Grain: one cluster and value of a dimension with which it happens more often. `agent_id` is that of a version."""

_VALUE = ["dimension", "value", "agent_id"]
_Known = tuple[tuple[str, str, str | None], ...]
_Counts = npt.NDArray[np.float64]


def find_differences(facts: pl.DataFrame, members: pl.DataFrame, executions: pl.DataFrame) -> pl.DataFrame:
    """One row per cluster and telling value; the order of the rows given does not matter.

    `executions` are counts by day and dimension. A value tells if the likelihood-ratio test against all others stands
    after correction for all comparisons of all clusters (Benjamini and Hochberg, 1995), and at least three occurrences
    have it; a version must stand out among the versions of its agent. `lift` is the ratio of the two rates, its
    interval of 95 % is Katz's (1978) with half a case added. From the second rank on, all figures are without the
    executions that have a value of a rank before.
    """
    rows = facts.join(members.select("signature_id", "cluster_id"), on="signature_id")
    spans = rows.group_by("cluster_id").agg(pl.col("day").min().alias("first"), pl.col("day").max().alias("last"))
    told = [DIFFERENCES.to_frame()]
    open_: dict[_Known, pl.DataFrame] = {(): spans}
    for rank in range(1, _MOST + 1):
        tables = [
            _compare(rows.join(of_them, on="cluster_id", how="semi").filter(_without(known)), of_them,
                     executions.filter(_without(known)))
            for known, of_them in open_.items()
        ]  # fmt: skip
        best = _most_telling(pl.concat(tables)) if tables else DIFFERENCES.to_frame()
        if best.is_empty():
            break
        told.append(best.with_columns(rank=pl.lit(rank, pl.Int64)).select(DIFFERENCES.names()))
        open_ = _narrowed(open_, best)
    return pl.concat(told).sort("cluster_id", "rank")


def _without(known: _Known) -> pl.Expr:
    """The rows that have none of the values."""
    has = [
        (pl.col(dimension) == value) & (pl.lit(value=True) if agent_id is None else pl.col("agent_id") == agent_id)
        for dimension, value, agent_id in known
    ]
    return ~pl.any_horizontal(pl.lit(value=False), *(one.fill_null(value=False) for one in has))


def _narrowed(open_: dict[_Known, pl.DataFrame], best: pl.DataFrame) -> dict[_Known, pl.DataFrame]:
    """The clusters of which something was told, by what is known of them now."""
    narrowed = {}
    for known, of_them in open_.items():
        for value, found in of_them.join(best.select("cluster_id", *_VALUE), on="cluster_id").group_by(_VALUE):
            narrowed[*known, value] = found.drop(_VALUE)
    return narrowed


def _compare(rows: pl.DataFrame, spans: pl.DataFrame, executions: pl.DataFrame) -> pl.DataFrame:
    """Every value of some clusters beside all others."""
    hits = _by_value(rows, ["cluster_id"], "occurrence_count").rename({"count": "hits"})
    totals = rows.group_by("cluster_id").agg(pl.col("occurrence_count").sum().alias("all_hits"))
    table = hits.join(totals, on="cluster_id").join(
        _runs(hits, spans, executions), on=["cluster_id", *_VALUE], nulls_equal=True
    )
    of_agent = pl.col("hits").sum().over("cluster_id", "dimension", "agent_id")
    return table.with_columns(agent_hits=pl.when(pl.col("agent_id").is_null()).then("all_hits").otherwise(of_agent))


def _by_value(rows: pl.DataFrame, keys: list[str], count: str) -> pl.DataFrame:
    """The sum of a count by keys and value, for one dimension after the other."""
    parts = []
    for dimension in _DIMENSIONS:
        agent = pl.col("agent_id") if dimension == "agent_version" else pl.lit(None, pl.String)
        told = rows.select(*keys, pl.lit(dimension).alias("dimension"), value=dimension, agent_id=agent, count=count)
        parts.append(told.filter(pl.col("value").is_not_null()).group_by(*keys, *_VALUE).agg(pl.col("count").sum()))
    return pl.concat(parts)


def _runs(hits: pl.DataFrame, spans: pl.DataFrame, executions: pl.DataFrame) -> pl.DataFrame:
    """The executions with each value, those of its agent, and all, from the first to the last day of a cluster."""
    by_value = _by_value(executions, ["day"], "execution_count")
    versions = by_value.filter(pl.col("dimension") == "agent_version")
    by_agent = versions.group_by("day", "agent_id").agg(pl.col("count").sum())
    in_all = executions.group_by("day").agg(pl.col("execution_count").sum().alias("count"))
    wanted = hits.select("cluster_id", *_VALUE).join(spans, on="cluster_id")
    all_runs = _within(wanted, in_all, [])
    agent_runs = all_runs.zip_with(wanted["agent_id"].is_null(), _within(wanted, by_agent, ["agent_id"]))
    return wanted.select(
        "cluster_id",
        *_VALUE,
        _within(wanted, by_value, _VALUE).alias("runs"),
        agent_runs.alias("agent_runs"),
        all_runs.alias("all_runs"),
    )


def _within(wanted: pl.DataFrame, daily: pl.DataFrame, keys: list[str]) -> pl.Series:
    """The sum over the days from `first` to `last` of each row, by differences of running sums."""
    marker = "\N{NULL}"
    filled = [pl.col(name).fill_null(marker) for name in keys]
    sums = daily.with_columns(*filled).sort("day")
    running = pl.col("count").cum_sum()
    sums = sums.with_columns((running.over(keys) if keys else running).alias("sum")).select("day", *keys, "sum")
    table = wanted.with_columns(*filled, before=pl.col("first").dt.offset_by("-1d")).with_row_index()
    upto = []
    for edge in ("last", "before"):
        asked = table.select("index", *keys, day=edge).sort("day")
        found = asked.join_asof(sums, on="day", by=keys or None, strategy="backward", check_sortedness=False)
        upto.append(found.sort("index")["sum"].fill_null(0))
    return upto[0] - upto[1]


def _most_telling(table: pl.DataFrame) -> pl.DataFrame:
    """The value of each cluster that tells most, where one tells."""
    table = table.filter(pl.col("agent_runs") > pl.col("runs"))
    told = _tested(table)
    tells = (
        (pl.col("adjusted_p_value") < _SURE)
        & (pl.col("failure_rate") > pl.col("other_rate"))
        & (pl.col("hits") >= _FEWEST_OCCURRENCES)
    )
    best = told.filter(tells).sort("cluster_id", "tells", *_VALUE, descending=[False, True, False, False, False])
    return best.unique("cluster_id", keep="first", maintain_order=True).rename(
        {"hits": "occurrence_count", "runs": "execution_count"}
    )


def _tested(table: pl.DataFrame) -> pl.DataFrame:
    """The rates with a value and without, the lift with its interval, and how unlikely so much of it is by chance.

    A version is tested among those of its agent. How much a value tells is its deviance among all executions.
    """
    hits, runs = (table[name].to_numpy().astype(float) for name in ("hits", "runs"))
    other_hits, other_runs = table["agent_hits"].to_numpy() - hits, table["agent_runs"].to_numpy() - runs
    log_lift = np.log((hits + 0.5) / (runs + 0.5)) - np.log((other_hits + 0.5) / (other_runs + 0.5))
    error = np.sqrt(1 / (hits + 0.5) - 1 / (runs + 0.5) + 1 / (other_hits + 0.5) - 1 / (other_runs + 0.5))
    return table.with_columns(
        pl.Series("failure_rate", hits / runs),
        pl.Series("other_rate", other_hits / other_runs),
        pl.Series("lift", np.exp(log_lift)),
        pl.Series("lift_low", np.exp(log_lift - _Z * error)),
        pl.Series("lift_high", np.exp(log_lift + _Z * error)),
        pl.Series("adjusted_p_value", _adjusted(_deviance(hits, runs, other_hits, other_runs))),
        pl.Series(
            "tells", _deviance(hits, runs, table["all_hits"].to_numpy() - hits, table["all_runs"].to_numpy() - runs)
        ),
    )


def _deviance(hits: _Counts, runs: _Counts, other_hits: _Counts, other_runs: _Counts) -> _Counts:
    """Twice the log-likelihood ratio of each table of two by two against independence."""
    observed = np.array([[hits, runs - hits], [other_hits, other_runs - other_hits]])
    expected = observed.sum(0, keepdims=True) * observed.sum(1, keepdims=True) / observed.sum((0, 1))
    with np.errstate(divide="ignore", invalid="ignore"):
        terms = np.where(observed > 0, observed * np.log(observed / expected), 0.0)
    deviance: _Counts = np.maximum(2 * terms.sum((0, 1)), 0.0)
    return deviance


def _adjusted(deviance: _Counts) -> _Counts:
    """P values of a chi-squared with one degree of freedom, each for the share of false ones up to it."""
    p_values = np.array([math.erfc(math.sqrt(value / 2)) for value in deviance])
    order = np.argsort(p_values)[::-1]
    scaled = p_values[order] * len(order) / np.arange(len(order), 0, -1)
    adjusted = np.empty_like(p_values)
    adjusted[order] = np.minimum(np.minimum.accumulate(scaled), 1.0)
    return adjusted
