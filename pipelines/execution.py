"""The canonical execution record: its columns, their types, units and privacy, and the words it uses.

Grain: one terminal attempt of one agent run. Redaction, the lake's schema and the documentation follow from what is
declared here.
"""

from dataclasses import dataclass
from enum import StrEnum

import polars as pl


class Privacy(StrEnum):
    """Who may see a column; each class is open to fewer than the one before. Personal and secret ones are never stored.

    Internal are ids of things, text is what was sanitized, a pseudonym tells a person's records from another's, and
    what is restricted concerns the privacy officer alone.
    """

    PUBLIC = "public"
    INTERNAL = "internal"
    TEXT = "text"
    PSEUDONYM = "pseudonym"
    RESTRICTED = "restricted"
    PERSONAL = "personal"
    SECRET = "secret"  # noqa: S105 - a class of data, not a password


@dataclass(frozen=True, slots=True)
class Column:
    """One column: its name (with the unit), type, meaning, privacy class, and whether we compute it."""

    name: str
    dtype: pl.DataType
    meaning: str
    privacy: Privacy = Privacy.PUBLIC
    derived: bool = False


TEXT = pl.String()
COUNT = pl.Int64()
MILLISECONDS = pl.Int64()
REAL = pl.Float64()
TEXTS = pl.List(pl.String())
TIMESTAMP = pl.Datetime("us", "UTC")
MONEY = pl.Decimal(38, 10)
"""Exact: sums of money do not depend on the order of their terms."""

PERSONAL_INPUTS = (
    Column("user", TEXT, "The user as the source names them; becomes `user_key`.", Privacy.PERSONAL),
    Column("session", TEXT, "The session id; becomes `session_key`.", Privacy.PERSONAL),
    Column("client_ip", TEXT, "The client's address; becomes `client_ip_prefix`.", Privacy.PERSONAL),
    Column("user_agent", TEXT, "The client's user agent; becomes `client_family`.", Privacy.PERSONAL),
    Column("input", TEXT, "What the agent was given; only its size, type and shape are kept.", Privacy.SECRET),
    Column("output", TEXT, "What the agent produced; only its size, type and shape are kept.", Privacy.SECRET),
)
"""What a mapping may name although it is never stored outside the restricted raw zone."""

COLUMNS: tuple[Column, ...] = (
    # identity
    Column("source", TEXT, "Name of the configured source.", derived=True),
    Column("execution_id", TEXT, "Id of this attempt, unique within its source and day.", Privacy.INTERNAL),
    Column("trace_id", TEXT, "Id of the trace the attempt belongs to.", Privacy.INTERNAL),
    Column("parent_id", TEXT, "Id of the execution that started this one.", Privacy.INTERNAL),
    Column("operation_id", TEXT, "Id shared by all attempts of one operation.", Privacy.INTERNAL),
    Column("attempt", COUNT, "Number of the attempt within its operation, from 1."),
    Column("row_hash", TEXT, "Keyed digest of the record as received.", Privacy.INTERNAL, derived=True),
    # agent
    Column("agent_id", TEXT, "The source's id of the agent; the agent's name where it has none."),
    Column("agent_name", TEXT, "Name of the agent; its id where it has none."),
    Column("agent_version", TEXT, "Version of the agent."),
    Column("execution_type", TEXT, "What kind of work was run."),
    Column("framework", TEXT, "Agent framework."),
    Column("environment", TEXT, "Deployment environment."),
    Column("release", TEXT, "Release of the application that ran the agent."),
    Column("project_id", TEXT, "Project or tenant of the application.", Privacy.INTERNAL),
    # who
    Column("user_key", TEXT, "Pseudonym of the user (keyed HMAC).", Privacy.PSEUDONYM, derived=True),
    Column("session_key", TEXT, "Pseudonym of the session (keyed HMAC).", Privacy.PSEUDONYM, derived=True),
    Column(
        "client_ip_prefix",
        TEXT,
        "Network of the client: /24 for IPv4, /48 for IPv6.",
        Privacy.RESTRICTED,
        derived=True,
    ),
    Column("client_family", TEXT, "Family and major version of the client.", derived=True),
    # outcome
    Column("status", TEXT, "Outcome: success, partial, failed, timeout, error or cancelled."),
    Column("status_raw", TEXT, "The outcome in the source's own word, sanitized.", derived=True),
    Column("http_status", COUNT, "HTTP status of the response."),
    Column("error_type", TEXT, "Type of the error, sanitized."),
    Column("error_code", TEXT, "Code of the error, sanitized."),
    Column("error_message", TEXT, "Message of the error, sanitized.", Privacy.TEXT),
    Column("stack", TEXT, "Stack trace, sanitized.", Privacy.TEXT),
    Column("finish_reason", TEXT, "Why the model stopped."),
    # time
    Column("started_at", TIMESTAMP, "Start of the attempt, UTC."),
    Column("completed_at", TIMESTAMP, "End of the attempt, UTC."),
    Column("event_time", TIMESTAMP, "When the attempt counts: its start, else its end, UTC.", derived=True),
    Column(
        "duration_ms",
        MILLISECONDS,
        "Wall time of the attempt in milliseconds; null where the clock is broken.",
    ),
    Column("response_time_ms", MILLISECONDS, "Time until the response in milliseconds."),
    Column("processing_time_ms", MILLISECONDS, "Time spent working in milliseconds."),
    Column("queue_time_ms", MILLISECONDS, "Time spent waiting in milliseconds."),
    Column("ttft_ms", MILLISECONDS, "Time to first token in milliseconds."),
    # model
    Column("provider", TEXT, "Model provider."),
    Column("model", TEXT, "Model that answered; of traces that do not say, the one that was asked for."),
    Column("request_model", TEXT, "Model that was asked for."),
    Column("temperature", REAL, "Sampling temperature."),
    Column("prompt_name", TEXT, "Name of the prompt."),
    Column("prompt_version", TEXT, "Version of the prompt."),
    # usage
    Column("input_tokens", COUNT, "All input tokens, cached ones included."),
    Column("cache_read_tokens", COUNT, "Input tokens read from a cache."),
    Column("cache_write_tokens", COUNT, "Input tokens written to a cache."),
    Column("output_tokens", COUNT, "Output tokens, reasoning included."),
    Column("reasoning_tokens", COUNT, "Output tokens spent on reasoning."),
    Column("cost_usd", MONEY, "Cost in US dollars; null when unknown, never 0 for unknown."),
    Column("cost_source", TEXT, "Where the cost comes from: provided, computed or unpriced.", derived=True),
    Column("credits", MONEY, "Credits consumed, in the application's own unit."),
    # work
    Column("llm_calls", COUNT, "Model calls made."),
    Column("tool_calls", COUNT, "Tool calls made."),
    Column("tool_names", TEXTS, "Distinct tools called, sorted."),
    Column("files_modified", COUNT, "Files changed."),
    Column(
        "occurrences",
        COUNT,
        "How often it happened in all, where the record stands for more than once; only this time of it is known.",
    ),
    # payload
    Column("input_bytes", COUNT, "Size of the input in bytes."),
    Column("output_bytes", COUNT, "Size of the output in bytes."),
    Column("input_type", TEXT, "Type of the input: json, a kind of text, or the source's own word."),
    Column("output_type", TEXT, "Type of the output: json, a kind of text, or the source's own word."),
    Column("input_shape", TEXT, "Structure of the input without its values.", derived=True),
    Column("output_shape", TEXT, "Structure of the output without its values.", derived=True),
    Column("input_depth", COUNT, "Levels of nesting of a JSON input.", derived=True),
    Column("output_depth", COUNT, "Levels of nesting of a JSON output.", derived=True),
    Column("input_key_count", COUNT, "Keys of all objects in a JSON input.", derived=True),
    Column("output_key_count", COUNT, "Keys of all objects in a JSON output.", derived=True),
    Column("input_shape_id", TEXT, "Id of the input's structure: equal where `input_shape` is.", derived=True),
    Column("output_shape_id", TEXT, "Id of the output's structure: equal where `output_shape` is.", derived=True),
    # quality
    Column("quality_flags", TEXTS, "What was repaired or looks wrong, sorted.", derived=True),
    Column("redactions", TEXT, "How many values of each kind were removed from the texts, as JSON.", derived=True),
    Column(
        "attributes",
        TEXT,
        "Remaining source fields that the allow-list admits, sanitized, as JSON.",
        Privacy.TEXT,
        derived=True,
    ),
)
"""The execution's columns in table order."""

EXECUTION = pl.Schema({column.name: column.dtype for column in COLUMNS})
"""The contract between the stages: every stage after cleaning reads exactly this schema."""

STATUSES = ("success", "partial", "failed", "timeout", "error", "cancelled")
FAILURES = ("failed", "timeout", "error")
"""What counts as a failure for health and clustering."""

QUALITY_FLAGS = {
    "clock_skew": "It ends before it starts: the duration is null and the row is left out of latency.",
    "no_start_time": "Only the end is known: the event time is the end.",
    "zero_date": "A date of zeros, which some databases write for none, became null.",
    "duration_mismatch": "The stated duration differs from end minus start by more than a second.",
    "ambiguous_local_time": "The local time occurs twice (clocks went back): the earlier one was taken.",
    "negative_value": "A count, time or amount below zero became null.",
    "not_a_number": "NaN or infinity became null.",
    "cache_exclusive": "More cached tokens than input: they were added. See `cache_tokens` of the source.",
    "reasoning_exceeds_output": "More reasoning tokens than output tokens.",
    "error_on_success": "A success came with an error: the error was dropped.",
    "text_repaired": "The record holds U+FFFD: NUL or half a surrogate pair was replaced here, or something earlier.",
    "bad_address": "The client's address could not be read and became null.",
    "rating_out_of_range": "A rating that is not 1 to 5 became null.",
}

QUARANTINE_REASONS = {
    "malformed": "Not a valid record of its format.",
    "torn": "The last line of the file ends in the middle of a record.",
    "not_an_object": "A line holds JSON, but not an object.",
    "not_utf8": "Bytes that are not UTF-8.",
    "line_too_long": "A line above the size limit.",
    "nested_too_deep": "JSON nested above the depth limit.",
    "no_event_time": "Neither a start nor an end: the record belongs to no day.",
    "bad_timestamp": "A time that cannot be read with the declared format, unit or zone.",
    "timestamp_out_of_range": "A time before 2000 or in the future of the read.",
    "no_execution_id": "Nothing identifies the execution.",
    "no_agent": "Neither an agent id nor an agent name.",
    "no_user": "Nobody is named who prefers or rates.",
    "no_status": "No outcome.",
    "unknown_status": "An outcome that neither the source's value map nor the defaults know.",
    "schema_drift": "The fields of the record are not those agreed with its source, whose contract is `discard_row`.",
    "bad_value": "A value that its column cannot hold without loss.",
}
