"""The one shape that spans of every kind take before executions are made of them."""

import polars as pl

from pipelines.execution import MONEY, TIMESTAMP

ROLES = ("agent", "llm", "tool", "other")

USAGE = ("input_tokens", "cache_read_tokens", "cache_write_tokens", "output_tokens", "reasoning_tokens", "cost_usd")
"""What a span and the spans around it may both report."""

TEXTS = (
    "agent_id",
    "agent_name",
    "agent_version",
    "provider",
    "model",
    "request_model",
    "finish_reason",
    "tool_name",
    "user",
    "session",
    "client_ip",
    "user_agent",
    "framework",
    "environment",
    "release",
    "project_id",
    "prompt_name",
    "prompt_version",
    "http_status",
    "error_type",
    "error_message",
    "stack",
    "input",
    "output",
)
"""What a span may say of the execution it belongs to."""

SPAN = pl.Schema(
    {
        "file": pl.String(),
        "line": pl.Int64(),
        "arrived": pl.Date(),
        "trace_id": pl.String(),
        "span_id": pl.String(),
        "parent_id": pl.String(),
        "name": pl.String(),
        "role": pl.String(),
        "is_ai": pl.Boolean(),
        "started_at": TIMESTAMP,
        "completed_at": TIMESTAMP,
        "is_error": pl.Boolean(),
        **dict.fromkeys(TEXTS, pl.String()),
        **dict.fromkeys(USAGE, pl.Int64()),
        "cost_usd": MONEY,
        "temperature": pl.Float64(),
        "ttft_ms": pl.Float64(),
        "attributes": pl.String(),
        "resource": pl.String(),
    }
)
"""Grain: one span. `arrived` is the day of its file; `attributes` and `resource` are JSON objects of texts."""
