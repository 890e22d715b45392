"""Langfuse observations, one JSON object per line as its export and its API give them, as spans.

A trace of Langfuse is one run of the application: its outermost observation is the execution, whatever its type.
"""

import polars as pl

from pipelines.sources.casting import first_known, to_counts, to_money, to_reals, to_text
from pipelines.sources.duck import query
from pipelines.sources.mapping import MappedField
from pipelines.sources.spans.span import SPAN, USAGE
from pipelines.sources.timestamps import to_utc

_ROLES = {"GENERATION": "llm", "EMBEDDING": "llm", "TOOL": "tool"}
_FIELDS = {
    "trace_id": "$.traceId",
    "span_id": "$.id",
    "parent_id": "$.parentObservationId",
    "name": "$.name",
    "type": "$.type",
    "level": "$.level",
    "status_message": "$.statusMessage",
    "started": "$.startTime",
    "ended": "$.endTime",
    "model": "$.model",
    "environment": "$.environment",
    "release": "$.version",
    "project_id": "$.projectId",
    "prompt_name": "$.promptName",
    "prompt_version": "$.promptVersion",
    "input": "$.input",
    "output": "$.output",
    "user": "$.userId",
    "session": "$.sessionId",
    "attributes": "$.metadata",
    "cost": "$.costDetails.total",
    "cost_in_all": "$.totalCost",
    "cost_details": "$.costDetails",
    "first_token": "$.timeToFirstToken",
}
_USAGE = {
    "input_tokens": ["input"],
    "output_tokens": ["output"],
    "total_tokens": ["total"],
    "cache_read_tokens": [
        "input_cached_tokens",
        "input_cache_read",
        "prompt_details.cache_read",
        "cache_read_input_tokens",
        "cache_read",
    ],
    "cache_write_tokens": ["input_cache_creation", "cache_creation_input_tokens", "cache_write"],
    "reasoning_tokens": ["output_reasoning", "output_reasoning_tokens", "completion_details.reasoning", "reasoning"],
}


def read_langfuse(lines: pl.DataFrame) -> pl.DataFrame:
    """The observations in some lines (file, line, record), as SPAN. Values of unusable types are null."""
    record = lines["record"]
    found = dict(zip(_FIELDS, _texts(record, list(_FIELDS.values())), strict=True))
    usage = {name: to_counts(_usage(record, keys)) for name, keys in _USAGE.items()}
    is_error = (found["level"] == "ERROR").fill_null(value=False)
    role = found["type"].str.to_uppercase().replace_strict(_ROLES, default="other", return_dtype=pl.String)
    is_tool = role == "tool"
    spans = pl.DataFrame(
        {
            "file": lines["file"],
            "line": lines["line"],
            **{name: found[name] for name in ("trace_id", "span_id", "parent_id", "name")},
            "role": role,
            "is_ai": pl.Series([True]).new_from_index(0, lines.height),
            "started_at": _time(found["started"]),
            "completed_at": _time(found["ended"]),
            "is_error": is_error,
            "tool_name": found["name"].set(~is_tool, None),
            "error_message": found["status_message"].set(~is_error, None),
            **{name: found[name] for name in ("model", "environment", "release", "project_id", "prompt_name")},
            **{name: found[name] for name in ("prompt_version", "input", "output", "user", "session", "attributes")},
            **_inclusive(usage),
            "cost_usd": to_money(_cost(found)),
            "ttft_ms": to_reals(found["first_token"]) * 1_000,
        }
    )
    return spans.match_to_schema(SPAN, missing_columns="insert")


def _inclusive(usage: dict[str, pl.Series]) -> dict[str, pl.Series]:
    """Input with what was cached of it, output with its reasoning: `total` tells whether they were counted apart."""
    frame = pl.DataFrame(usage)
    cached = pl.col("cache_read_tokens").fill_null(0) + pl.col("cache_write_tokens").fill_null(0)
    reasoning = pl.col("reasoning_tokens").fill_null(0)
    plain = pl.col("input_tokens").fill_null(0) + pl.col("output_tokens").fill_null(0)
    is_apart = (pl.col("total_tokens") == plain + cached + reasoning) & (cached + reasoning > 0)
    told = frame.with_columns(
        input_tokens=pl.when(is_apart).then(pl.col("input_tokens") + cached).otherwise("input_tokens"),
        output_tokens=pl.when(is_apart).then(pl.col("output_tokens") + reasoning).otherwise("output_tokens"),
    )
    return {name: told[name] for name in USAGE if name != "cost_usd"}


def _cost(found: dict[str, pl.Series]) -> pl.Series:
    """The cost where there are details of it; a total of 0 without them only says that nobody knows."""
    is_unknown = found["cost_details"].is_null() | (found["cost_details"] == "{}")
    return first_known(found["cost"], found["cost_in_all"].set(is_unknown, None))


def _usage(record: pl.Series, keys: list[str]) -> pl.Series:
    values = _texts(record, [f'$.usageDetails."{key}"' for key in keys])
    known = values[0]
    for value in values[1:]:
        known = first_known(known, value)
    return known


def _texts(record: pl.Series, pointers: list[str]) -> list[pl.Series]:
    """The value at each pointer, as text."""
    columns = ", ".join(f"found[{place}] as v{place}" for place in range(1, len(pointers) + 1))
    sql = f"select {columns} from (select json_extract_string(record, ?) as found from records)"  # noqa: S608
    return [to_text(column) for column in query(record, sql, pointers)]


def _time(written: pl.Series) -> pl.Series:
    return to_utc(written, MappedField.model_validate("time"), "UTC")
