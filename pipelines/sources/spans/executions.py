"""Spans -> executions: each outermost agent span with all that was done below it, counted once.

A trace without an agent span is one execution of its outermost AI span. Usage that a span and the spans below it both
report is the same usage: only spans without such a span below them count.
"""

import polars as pl

from pipelines.sources.spans.span import SPAN, TEXTS, USAGE

_DEEPEST = 1_000
_TIMEOUT = r"(?i)time(?:d )?out|deadline.?exceeded"
_KEY = ["trace_id", "span_id"]
_SAYS_WHY = ("error_type", "error_message", "stack")
_OF_LLM = ("provider", "model", "request_model", "finish_reason", "temperature", "ttft_ms")


EXECUTION_SPAN = pl.Schema(
    {
        **SPAN,
        "status": pl.String(),
        "llm_calls": pl.Int64(),
        "tool_calls": pl.Int64(),
        "tool_names": pl.List(pl.String()),
        "spans": pl.Int64(),
    }
)
"""Grain: one execution, told by its own span and all that are below it."""


def as_executions(spans: pl.DataFrame) -> pl.DataFrame:
    """One row per execution, as EXECUTION_SPAN, from whole traces.

    The order of the spans does not matter, and a span that came twice counts once.
    """
    rooted = spans.with_columns(parent_id=pl.when(pl.col("parent_id") != pl.col("span_id")).then("parent_id"))
    unique = rooted.sort("started_at", "completed_at", nulls_last=True).unique(_KEY, keep="last", maintain_order=True)
    owned = _with_owner(unique).filter(pl.col("owner").is_not_null())
    below = owned.sort("started_at", "span_id").group_by("trace_id", "owner")
    llm, tool = pl.col("role") == "llm", pl.col("role") == "tool"
    gathered = below.agg(
        tool_calls=tool.sum().cast(pl.Int64),
        tool_names=pl.col("tool_name").filter(tool).drop_nulls().unique().sort(),
        spans=pl.len().cast(pl.Int64),
        **{f"told_{name}": _of_first_known(name, llm) for name in _OF_LLM},
        **{f"told_{name}": _of_first_known(name, pl.lit(value=True)) for name in TEXTS if name not in _OF_LLM},
        **{f"why_{name}": _of_last_known(name, pl.col("is_error")) for name in _SAYS_WHY},
    )
    roots = owned.filter(pl.col("span_id") == pl.col("owner")).drop(*USAGE)
    usage = _usage(owned)
    keys = ["trace_id", "owner"]
    rows = roots.join(gathered, on=keys, how="left").join(usage, on=keys, how="left")
    shared = [name for name in TEXTS if name not in (*_SAYS_WHY, "input", "output", "tool_name", "http_status")]
    return (
        rows.with_columns(
            *[
                pl.coalesce(name, f"told_{name}")
                for name in (*shared, "temperature", "ttft_ms")
                if name != "agent_name"
            ],
            *[pl.when("is_error").then(pl.coalesce(name, f"why_{name}")) for name in _SAYS_WHY],
            agent_name=pl.coalesce("agent_name", "told_agent_name", "name"),
            status=_outcome(),
        )
        .with_columns(model=pl.coalesce("model", "request_model"))
        .select(EXECUTION_SPAN.names())
    )


def _outcome() -> pl.Expr:
    why = pl.concat_str(pl.col("error_type", "why_error_type", "error_message"), separator=" ", ignore_nulls=True)
    failed = pl.when(why.str.contains(_TIMEOUT)).then(pl.lit("timeout")).otherwise(pl.lit("failed"))
    return pl.when("is_error").then(failed).otherwise(pl.lit("success"))


def _with_owner(spans: pl.DataFrame) -> pl.DataFrame:
    """The spans with `owner`: the span of their execution, null for spans that belong to none."""
    parents = spans.select(
        "trace_id",
        pl.col("span_id").alias("at"),
        pl.col("parent_id").alias("next"),
        is_agent=pl.col("role") == "agent",
        may_own=pl.col("is_ai"),
    )
    climbing = spans.select(*_KEY, at="span_id", agent=pl.lit(None, pl.String), topmost=pl.lit(None, pl.String))
    done = []
    for _ in range(min(_DEEPEST, spans.height)):
        climbing = climbing.join(parents, on=["trace_id", "at"], how="left").with_columns(
            agent=pl.when("is_agent").then("at").otherwise("agent"),
            topmost=pl.when("may_own").then("at").otherwise("topmost"),
        )
        arrived = climbing["next"].is_null() | climbing["is_agent"].is_null()
        done.append(climbing.filter(arrived).select(*_KEY, "agent", "topmost"))
        climbing = climbing.filter(~arrived).select(*_KEY, "agent", "topmost", at="next")
        if climbing.is_empty():
            break
    done.append(climbing.select(*_KEY, "agent", "topmost"))  # a circle of parents
    found = pl.concat(done).with_columns(has_agent=pl.col("agent").is_not_null().any().over("trace_id"))
    # Where a trace has one agent only, AI spans that have lost their parents are its own.
    agents = pl.col("agent").drop_nulls()
    sole = pl.when(agents.n_unique().over("trace_id") == 1).then(agents.first().over("trace_id"))
    owned = found.with_columns(sole=sole).join(spans.select(*_KEY, "is_ai"), on=_KEY)
    owner = pl.when("has_agent").then(pl.coalesce("agent", pl.when("is_ai").then("sole"))).otherwise("topmost")
    return spans.join(owned.select(*_KEY, owner=owner), on=_KEY, how="left", maintain_order="left")


def _usage(owned: pl.DataFrame) -> pl.DataFrame:
    """Per execution the sum of each figure over the spans that have none of it below them, null where no span has it.

    `llm_calls` are counted in the same way: frameworks wrap a call in a second span.
    """
    keys = ["trace_id", "owner"]
    sums = owned.select(keys).unique()
    for name in USAGE:
        leaves = _leaves(owned, pl.col(name).is_not_null())
        sums = sums.join(leaves.group_by(keys).agg(pl.col(name).sum()), on=keys, how="left")
    calls = _leaves(owned, pl.col("role") == "llm").group_by(keys).agg(llm_calls=pl.len().cast(pl.Int64))
    return sums.join(calls, on=keys, how="left").with_columns(pl.col("llm_calls").fill_null(0))


def _leaves(owned: pl.DataFrame, condition: pl.Expr) -> pl.DataFrame:
    """The spans that meet the condition and have none that does below them."""
    parents = owned.select("trace_id", at="span_id", next="parent_id")
    meeting = owned.filter(condition)
    above = meeting.select("trace_id", at="parent_id").filter(pl.col("at").is_not_null()).unique()
    covered = above
    while above.height:
        above = above.join(parents, on=["trace_id", "at"]).select("trace_id", at="next").unique()
        above = above.filter(pl.col("at").is_not_null()).join(covered, on=["trace_id", "at"], how="anti")
        covered = pl.concat([covered, above])
    return meeting.join(covered.rename({"at": "span_id"}), on=_KEY, how="anti")


def _of_first_known(name: str, where: pl.Expr) -> pl.Expr:
    return pl.col(name).filter(where & pl.col(name).is_not_null()).first()


def _of_last_known(name: str, where: pl.Expr) -> pl.Expr:
    return pl.col(name).filter(where & pl.col(name).is_not_null()).last()
