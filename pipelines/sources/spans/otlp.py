"""OTLP/JSON: export requests, one per line as collectors write them, exploded into spans.

Format: OpenTelemetry protocol, JSON encoding. Attribute names: OpenTelemetry semantic conventions for generative AI, in
their present and their former spelling, and those of OpenInference where the conventions have none.
"""

from collections.abc import Sequence

import polars as pl
from opentelemetry.semconv._incubating.attributes import (
    client_attributes,
    deployment_attributes,
    enduser_attributes,
    error_attributes,
    exception_attributes,
    gen_ai_attributes,
    http_attributes,
    service_attributes,
    session_attributes,
    user_agent_attributes,
    user_attributes,
)

from pipelines.sources.casting import to_counts, to_money, to_reals, to_text
from pipelines.sources.duck import query, query_column
from pipelines.sources.spans.span import SPAN, TEXTS, USAGE

_OPERATION = gen_ai_attributes.GEN_AI_OPERATION_NAME
_KIND = "openinference.span.kind"
_AGENT_OPERATIONS = ("invoke_agent", "invoke_workflow", "AGENT", "CHAIN")
_LLM_OPERATIONS = ("chat", "text_completion", "generate_content", "LLM")
_TOOL_OPERATIONS = ("execute_tool", "TOOL")
_ERROR = "2"
"""STATUS_CODE_ERROR; some exporters write the name."""

_SPELLINGS: dict[str, Sequence[str]] = {
    "agent_id": [gen_ai_attributes.GEN_AI_AGENT_ID],
    "agent_name": [gen_ai_attributes.GEN_AI_AGENT_NAME, gen_ai_attributes.GEN_AI_WORKFLOW_NAME, "agent.name"],
    "agent_version": [gen_ai_attributes.GEN_AI_AGENT_VERSION],
    "provider": [gen_ai_attributes.GEN_AI_PROVIDER_NAME, gen_ai_attributes.GEN_AI_SYSTEM, "llm.provider"],
    "model": [gen_ai_attributes.GEN_AI_RESPONSE_MODEL, "llm.model_name"],
    "request_model": [gen_ai_attributes.GEN_AI_REQUEST_MODEL],
    "finish_reason": [gen_ai_attributes.GEN_AI_RESPONSE_FINISH_REASONS],
    "tool_name": [gen_ai_attributes.GEN_AI_TOOL_NAME, "tool.name"],
    "user": [user_attributes.USER_ID, enduser_attributes.ENDUSER_ID],
    "session": [gen_ai_attributes.GEN_AI_CONVERSATION_ID, session_attributes.SESSION_ID],
    "client_ip": [client_attributes.CLIENT_ADDRESS],
    "user_agent": [user_agent_attributes.USER_AGENT_ORIGINAL],
    "prompt_name": [gen_ai_attributes.GEN_AI_PROMPT_NAME],
    "http_status": [http_attributes.HTTP_RESPONSE_STATUS_CODE, "http.status_code"],
    "error_type": [error_attributes.ERROR_TYPE],
    "input": [gen_ai_attributes.GEN_AI_INPUT_MESSAGES, gen_ai_attributes.GEN_AI_PROMPT, "input.value"],
    "output": [gen_ai_attributes.GEN_AI_OUTPUT_MESSAGES, gen_ai_attributes.GEN_AI_COMPLETION, "output.value"],
    "input_tokens": [
        gen_ai_attributes.GEN_AI_USAGE_INPUT_TOKENS,
        gen_ai_attributes.GEN_AI_USAGE_PROMPT_TOKENS,
        "llm.token_count.prompt",
    ],
    "output_tokens": [
        gen_ai_attributes.GEN_AI_USAGE_OUTPUT_TOKENS,
        gen_ai_attributes.GEN_AI_USAGE_COMPLETION_TOKENS,
        "llm.token_count.completion",
    ],
    "cache_read_tokens": [gen_ai_attributes.GEN_AI_USAGE_CACHE_READ_INPUT_TOKENS, "gen_ai.usage.cache_read_tokens"],
    "cache_write_tokens": [
        gen_ai_attributes.GEN_AI_USAGE_CACHE_CREATION_INPUT_TOKENS,
        "gen_ai.usage.cache_write.input_tokens",
        "gen_ai.usage.cache_write",
    ],
    "reasoning_tokens": [gen_ai_attributes.GEN_AI_USAGE_REASONING_OUTPUT_TOKENS],
    "cost_usd": ["gen_ai.usage.cost", "llm.cost.total"],
    "temperature": [gen_ai_attributes.GEN_AI_REQUEST_TEMPERATURE],
    "ttft_ms": [gen_ai_attributes.GEN_AI_RESPONSE_TIME_TO_FIRST_CHUNK],
}
_OF_RESOURCE: dict[str, Sequence[str]] = {
    "framework": ["telemetry.distro.name"],
    "environment": [deployment_attributes.DEPLOYMENT_ENVIRONMENT_NAME, deployment_attributes.DEPLOYMENT_ENVIRONMENT],
    "release": [service_attributes.SERVICE_VERSION],
    "project_id": [service_attributes.SERVICE_NAME],
}
_OF_EXCEPTION = {
    "error_type": exception_attributes.EXCEPTION_TYPE,
    "error_message": exception_attributes.EXCEPTION_MESSAGE,
    "stack": exception_attributes.EXCEPTION_STACKTRACE,
}
KNOWN = frozenset(
    [_OPERATION, _KIND, *(name for names in (*_SPELLINGS.values(), *_OF_RESOURCE.values()) for name in names)]
)
"""Attributes that have a column; all others are kept only where they are allow-listed."""

_OBJECT = """
    (select json_group_object(entry->>'$.key', coalesce(
        entry->>'$.value.stringValue', entry->>'$.value.intValue', entry->>'$.value.doubleValue',
        entry->>'$.value.boolValue',
        (select to_json(list(coalesce(item->>'$.stringValue', item->>'$.intValue', item->>'$.doubleValue',
            item->>'$.boolValue', item::varchar)))::varchar
         from (select unnest(from_json(entry->'$.value.arrayValue.values', '["JSON"]')) as item)),
        (entry->'$.value.kvlistValue.values')::varchar))
     from (select unnest(from_json({attributes}, '["JSON"]')) as entry) where entry->>'$.key' is not null)
"""
_EXPLODE = """
    with resources as (
        select place, unnest(from_json(record->'$.resourceSpans', '["JSON"]')) as part
        from (select row_number() over () - 1 as place, record from records)
    ), scopes as (
        select place, {resource} as resource,
            unnest(from_json(part->'$.scopeSpans', '["JSON"]')) as part
        from resources
    ), spans as (
        select place, resource, part->>'$.scope.name' as scope, unnest(from_json(part->'$.spans', '["JSON"]')) as span
        from scopes
    ), failed as (
        select *, (select last(event) from (select unnest(from_json(span->'$.events', '["JSON"]')) as event)
            where event->>'$.name' = 'exception') as exception
        from spans
    )
    select place, scope, resource::varchar as resource, span->>'$.traceId' as trace_id, span->>'$.spanId' as span_id,
        nullif(span->>'$.parentSpanId', '') as parent_id, span->>'$.name' as name,
        span->>'$.startTimeUnixNano' as started, span->>'$.endTimeUnixNano' as ended,
        span->>'$.status.code' as code, span->>'$.status.message' as told,
        {attributes}::varchar as attributes,
        {exception}::varchar as exception
    from failed
"""


def read_otlp(lines: pl.DataFrame) -> pl.DataFrame:
    """The spans in some lines (file, line, record), as SPAN. Values of unusable types are null."""
    objects = {
        "resource": _OBJECT.format(attributes="part->'$.resource.attributes'"),
        "attributes": _OBJECT.format(attributes="span->'$.attributes'"),
        "exception": _OBJECT.format(attributes="exception->'$.attributes'"),
    }
    found = query(lines["record"], _EXPLODE.format(**objects))
    place = found["place"].cast(pl.Int64)
    operation = _coalesce(_first(found["attributes"], [_OPERATION]), _first(found["attributes"], [_KIND]))
    is_error = found["code"].is_in([_ERROR, "STATUS_CODE_ERROR"]).fill_null(value=False)
    told = _told(found, is_error)
    spans = pl.DataFrame(
        {
            "file": lines["file"].gather(place),
            "line": lines["line"].gather(place),
            **{name: found[name] for name in ("trace_id", "span_id", "parent_id", "name", "attributes", "resource")},
            "role": _role(operation),
            "is_ai": _is_ai(operation, found["attributes"]),
            "started_at": _nanoseconds(found["started"]),
            "completed_at": _nanoseconds(found["ended"]),
            "is_error": is_error,
            **{name: told[name] for name in TEXTS if name in told},
            **{name: to_counts(told[name]) for name in USAGE if name != "cost_usd"},
            "cost_usd": to_money(told["cost_usd"]),
            "temperature": to_reals(told["temperature"]),
            "ttft_ms": to_reals(told["ttft_ms"]) * 1_000,
        }
    )
    return spans.match_to_schema(SPAN, missing_columns="insert")


def _told(found: pl.DataFrame, is_error: pl.Series) -> dict[str, pl.Series]:
    """What the attributes of each span, of its resource and of its exception tell, as text."""
    told = {name: _first(found["attributes"], names) for name, names in _SPELLINGS.items()}
    told |= {name: _first(found["resource"], names) for name, names in _OF_RESOURCE.items()}
    why = {name: _first(found["exception"], [attribute]) for name, attribute in _OF_EXCEPTION.items()}
    told |= {name: _coalesce(text, told.get(name)) for name, text in why.items()}
    told["error_message"] = _coalesce(told["error_message"], found["told"].set(~is_error, None))
    told["framework"] = _coalesce(told["framework"], found["scope"])
    return told


def is_otlp(records: pl.Series) -> pl.Series:
    """Which lines are export requests of traces."""
    return query_column(records, "coalesce(json_type(record, '$.resourceSpans'), '') = 'ARRAY'")


def count_unknown(spans: pl.DataFrame) -> dict[str, int]:
    """How often each attribute occurs that no column is made of."""
    names = query(spans["attributes"], "select unnest(json_keys(record)) as name from records")["name"]
    counts = names.value_counts(sort=True).filter(~pl.col("name").is_in(KNOWN))
    return dict(counts.iter_rows())


def _first(objects: pl.Series, names: Sequence[str]) -> pl.Series:
    """The value of the first of these names that an object has."""
    pointers = [f'$."{name}"' for name in names]
    columns = ", ".join(f"found[{place}]" for place in range(1, len(names) + 1))
    sql = f"select coalesce({columns}) as found from (select json_extract_string(record, ?) as found from records)"  # noqa: S608
    return to_text(query(objects, sql, pointers)["found"])


def _coalesce(first: pl.Series, second: pl.Series | None) -> pl.Series:
    return first if second is None else first.zip_with(first.is_not_null(), second)


def _role(operation: pl.Series) -> pl.Series:
    roles = {"agent": _AGENT_OPERATIONS, "llm": _LLM_OPERATIONS, "tool": _TOOL_OPERATIONS}
    words = {word: role for role, operations in roles.items() for word in operations}
    return operation.replace_strict(words, default="other", return_dtype=pl.String)


def _is_ai(operation: pl.Series, attributes: pl.Series) -> pl.Series:
    """Whether a span is about generative AI at all."""
    return operation.is_not_null() | attributes.str.contains('"(?:gen_ai|llm)\\\\.').fill_null(value=False)


def _nanoseconds(written: pl.Series) -> pl.Series:
    return (written.cast(pl.Int64, strict=False) // 1_000).cast(pl.Datetime("us", "UTC"))
