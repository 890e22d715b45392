"""Drafts -> rows that hold nothing personal or secret: pseudonyms, prefixes, sanitized texts, shapes."""

import polars as pl

from pipelines.anonymize.keys import PseudonymKey
from pipelines.anonymize.network import address_prefix, client_family
from pipelines.anonymize.payload import describe
from pipelines.anonymize.pseudonyms import pseudonymize
from pipelines.anonymize.text import DEFAULT, Sanitizer
from pipelines.clean.draft import flag, flags
from pipelines.execution import TEXT
from pipelines.record_types import RecordType
from pipelines.sources.records import ATTRIBUTE
from pipelines.sources.source import Source

_IDS = ("execution_id", "trace_id", "parent_id", "operation_id", "project_id", "log_id")
_PSEUDONYMS = {"user": "user_key", "session": "session_key"}
_PAYLOADS = ("input", "output", "context")
_PLAIN_ID = r"^[A-Za-z0-9_.:#|-]{1,128}$"
_MAX_LENGTH = {"error_message": 8_000, "message": 8_000, "feedback": 8_000, "stack": 32_000}
_MAX_WORD = 500
_GENERATED_ID = (
    r"^(?:[A-Za-z]{1,20}[-_:])?(?:[0-9]{1,12}|[0-9a-f]*[a-f][0-9a-f]*"
    r"|[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{12})$"
)
"""Counters and digests, which need no further look."""
_PLAIN_TOOL = r"^[A-Za-z0-9_.:-]{1,100}$"


def anonymize(drafts: pl.DataFrame, source: Source, key: PseudonymKey, sanitizer: Sanitizer = DEFAULT) -> pl.DataFrame:
    """The drafts with every personal input replaced by what may be kept of it."""
    kind, key = source.record_type, key.of(source.tenant)
    inputs = [column.name for column in kind.inputs]
    drafts = drafts.with_columns(
        *(pseudonymize(drafts[name], name, key).alias(_PSEUDONYMS[name]) for name in inputs if name in _PSEUDONYMS),
        *(_plain_ids(drafts[name], key, sanitizer) for name in _IDS if name in kind.mappable),
    )
    if "client_ip" in inputs:
        drafts = _generalize_client(drafts)
    for payload in _PAYLOADS:
        if payload in inputs:
            drafts = _describe_payload(drafts, payload, source.payload_keys)
    return (
        drafts.drop(inputs)
        .pipe(_sanitize_texts, kind, sanitizer)
        .pipe(lambda rows: rows.with_columns(flags(rows).alias("quality_flags")))
    )


def _generalize_client(drafts: pl.DataFrame) -> pl.DataFrame:
    """The client's network and family instead of its address and its user agent."""
    return drafts.with_columns(
        address_prefix(drafts["client_ip"]).alias("client_ip_prefix"),
        client_family(drafts["user_agent"]).alias("client_family"),
    ).pipe(flag, "bad_address", pl.col("client_ip").is_not_null() & pl.col("client_ip_prefix").is_null())


def sanitize_words(words: pl.DataFrame) -> pl.DataFrame:
    """Names, ids and types of a source as executions have them, so that other tables can be joined by them."""
    sanitized, _ = DEFAULT.sanitize(words)
    return sanitized.with_columns(pl.all().str.head(_MAX_WORD))


def _plain_ids(ids: pl.Series, key: PseudonymKey, sanitizer: Sanitizer) -> pl.Series:
    """Ids as they are; one that is more than a plain token, or that holds a secret or an address, is a pseudonym."""
    doubtful = ids.unique().drop_nulls()
    doubtful = doubtful.filter(~doubtful.str.contains(_GENERATED_ID))
    odd = doubtful.filter(~doubtful.str.contains(_PLAIN_ID) | (sanitizer.sanitize_texts(doubtful) != doubtful))
    if odd.is_empty():
        return ids
    return pseudonymize(ids, ids.name, key).zip_with(ids.is_in(odd.implode()).fill_null(value=False), ids)


def _describe_payload(drafts: pl.DataFrame, side: str, own_keys: frozenset[str]) -> pl.DataFrame:
    """Size, type and shape of one payload; what the source says of size and type comes first."""
    described = describe(drafts[side], own_keys).rename(lambda name: f"{side}_{name}")
    return drafts.with_columns(
        pl.coalesce(name, values).alias(name) if (name := values.name) in drafts.columns else values
        for values in described
    )


def _sanitize_texts(drafts: pl.DataFrame, kind: RecordType, sanitizer: Sanitizer) -> pl.DataFrame:
    """Sanitize every text, for any may hold what it should not; gather the attributes, and count what was removed."""
    attributes = [name for name in drafts.columns if name.startswith(ATTRIBUTE)]
    texts_of = [column.name for column in kind.mappable.values() if column.dtype == TEXT] + ["status_raw"]
    words = [name for name in texts_of if name in drafts.columns and name not in _IDS]
    sanitized, removed = sanitizer.sanitize(drafts.select(*words, *attributes))
    texts = sanitized.with_columns(
        pl.col(name).str.head(_MAX_LENGTH.get(name, _MAX_WORD)) for name in sanitized.columns
    )
    tools = (
        [_plain_tools(drafts["tool_names"], sanitizer).alias("tool_names")] if "tool_names" in drafts.columns else []
    )
    return drafts.with_columns(
        *texts.drop(attributes),
        *tools,
        redactions=sanitizer.count_by_kind(removed),
        attributes=_as_json(texts.select(attributes).rename(lambda name: name.removeprefix(ATTRIBUTE))),
    )


def _plain_tools(tools: pl.Series, sanitizer: Sanitizer) -> pl.Series:
    """Tool names as they are; what is no plain name, or holds what it should not, is `<tool>`."""
    names = tools.list.explode().unique().drop_nulls()
    odd = names.filter(~names.str.contains(_PLAIN_TOOL) | (sanitizer.sanitize_texts(names) != names)).implode()
    if odd.list.len().item() == 0:
        return tools
    masked = pl.when(pl.element().is_in(odd)).then(pl.lit("<tool>")).otherwise(pl.element())
    return tools.to_frame("tools").select(pl.col("tools").list.eval(masked.unique().sort())).to_series()


def _as_json(attributes: pl.DataFrame) -> pl.Series | None:
    """The attributes that are known, as one JSON object per row; null where none is."""
    if not attributes.columns:
        return None
    is_known = attributes.select(pl.any_horizontal(pl.all().is_not_null())).to_series()
    return attributes.to_struct().struct.json_encode().zip_with(is_known, pl.Series([None], dtype=pl.String))
