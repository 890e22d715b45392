"""What sources get wrong: repaired where the truth is known, flagged, or rejected."""

import polars as pl

from pipelines.clean.draft import flag, reject
from pipelines.execution import STATUSES
from pipelines.sources.source import Source

_TOLERANCE_MS = 1_000
_STATUS_WORDS = {
    "success": "success succeeded successful ok completed complete passed pass true",
    "partial": "partial partial_success partially_completed",
    "failed": "failed fail failure unsuccessful false",
    "timeout": "timeout timed_out time_out deadline_exceeded",
    "error": "error errored exception crashed",
    "cancelled": "cancelled canceled",
}
_STATUS = {word: status for status in STATUSES for word in _STATUS_WORDS[status].split()}
_BRIEF = r"^[A-Za-z0-9_.:/-]{1,40}(?: [a-z_]{1,20}){0,2}$"
_LEVEL_WORDS = {
    "debug": "debug trace verbose fine finer finest",
    "info": "info information informational notice log",
    "warning": "warning warn",
    "error": "error err severe failure",
    "critical": "critical fatal crit alert emergency emerg panic",
}
_LEVEL = {word: level for level, words in _LEVEL_WORDS.items() for word in words.split()}
_STARS = (1, 5)
_ERROR_COLUMNS = ("error_type", "error_code", "error_message", "stack")


def name_outcome(draft: pl.DataFrame) -> pl.DataFrame:
    """The canonical status. Common spellings are known; any other must be in the source's value map."""
    word = pl.col("status").str.to_lowercase().str.replace_all(r"[\s-]+", "_")
    named = draft.with_columns(status=word.replace_strict(_STATUS, default=None, return_dtype=pl.String))
    has_error = pl.any_horizontal(pl.col(name).is_not_null() for name in _ERROR_COLUMNS)
    return (
        named.pipe(reject, pl.col("status_raw").is_null(), "no_status")
        .pipe(reject, pl.col("status").is_null(), "unknown_status", briefly("status_raw"))
        .pipe(flag, "error_on_success", has_error & (pl.col("status") == "success"))
        .with_columns(pl.when(pl.col("status") != "success").then(pl.col(_ERROR_COLUMNS)))
        .with_columns(status_raw=briefly("status_raw"))
    )


def briefly(column: str) -> pl.Expr:
    """A word or two as they are; of anything longer, which may be a text that tells of people, only its length."""
    length = pl.format("<{} characters>", pl.col(column).str.len_chars())
    return pl.when(pl.col(column).str.contains(_BRIEF)).then(pl.col(column)).otherwise(length)


def name_agent(draft: pl.DataFrame) -> pl.DataFrame:
    """The agent's id and name, each in place of the other where only one is known."""
    return draft.with_columns(
        agent_id=pl.coalesce("agent_id", "agent_name"), agent_name=pl.coalesce("agent_name", "agent_id")
    ).pipe(reject, pl.col("agent_id").is_null(), "no_agent")


def repair_times(draft: pl.DataFrame, times: pl.DataFrame) -> pl.DataFrame:
    """The times of each row; `times` as `read_times` gives them, row by row."""
    oddities = ("is_ambiguous", "is_zero", "is_early", "problem")
    return (
        draft.with_columns(times.drop(oddities))
        .pipe(reject, pl.lit(times["problem"].is_not_null()), pl.lit(times["problem"]))
        .pipe(flag, "ambiguous_local_time", pl.lit(times["is_ambiguous"]))
        .pipe(flag, "zero_date", pl.lit(times["is_zero"]))
    )


def repair_durations(draft: pl.DataFrame) -> pl.DataFrame:
    """How long each execution took: as stated, else from start to end; null where the clock is broken."""
    measured = ((pl.col("completed_at") - pl.col("started_at")).dt.total_microseconds() / 1000).round().cast(pl.Int64)
    stated = pl.col("duration_ms")
    is_skewed = pl.col("completed_at") < pl.col("started_at")
    return (
        draft.pipe(flag, "no_start_time", pl.col("started_at").is_null())
        .pipe(flag, "clock_skew", is_skewed)
        .pipe(flag, "duration_mismatch", ~is_skewed & ((stated - measured).abs() > _TOLERANCE_MS))
        .with_columns(duration_ms=pl.when(~is_skewed.fill_null(value=False)).then(pl.coalesce(stated, measured)))
    )


def repair_usage(draft: pl.DataFrame, source: Source) -> pl.DataFrame:
    """Input tokens that include cached ones, and whether the cost is known.

    A source that counts cached tokens apart says so; where one that does not shows more of them than input, it is told.
    """
    cached = pl.col("cache_read_tokens").fill_null(0) + pl.col("cache_write_tokens").fill_null(0)
    is_exclusive = (cached > pl.col("input_tokens")).fill_null(value=False)
    is_apart = pl.lit(value=True) if source.cache_tokens == "separate" else is_exclusive
    flagged = draft if source.cache_tokens == "separate" else draft.pipe(flag, "cache_exclusive", is_exclusive)
    return flagged.pipe(
        flag, "reasoning_exceeds_output", pl.col("reasoning_tokens") > pl.col("output_tokens")
    ).with_columns(
        input_tokens=pl.col("input_tokens") + pl.when(is_apart).then(cached).otherwise(0),
        cost_source=pl.when(pl.col("cost_usd").is_null()).then(pl.lit("unpriced")).otherwise(pl.lit("provided")),
    )


def name_level(draft: pl.DataFrame) -> pl.DataFrame:
    """The level of a log line in the usual words. A word that is none of them stays, briefly; so does the category."""
    word = pl.col("level").str.to_lowercase()
    return draft.with_columns(
        category=briefly("category"),
        level=word.replace_strict(_LEVEL, default=briefly("level"), return_dtype=pl.String),
    )


def repair_rating(draft: pl.DataFrame) -> pl.DataFrame:
    """Ratings of one to five stars; any other number means nothing here."""
    is_rating = pl.col("rating").is_between(*_STARS)
    return draft.pipe(flag, "rating_out_of_range", ~is_rating).with_columns(rating=pl.when(is_rating).then("rating"))
