"""From a failure's text to its identity: the head of the text, a readable template, a key, a signature.

A pure function of the (sanitized) text and stack and the version of these rules: no other failure, and no order, has a
say.
"""

import re
from collections.abc import Callable

import polars as pl
import polars_hash as plh

from pipelines.failures.facets import facets, frames, statuses
from pipelines.failures.text import heads
from pipelines.failures.words import EXCEPTION, EXCEPTION_ENDING, TELLS_OUTCOME

RULES_VERSION = 2
"""Part of every signature: whoever changes a rule below, or in the modules it uses, gives it a new version."""

MASK = "<*>"
_ID_DIGITS = 16
_FEW_WORDS = 2
_FEW_REPEAT = 0.8
_STATUSES = (pl.format(" [HTTP {}]", "http_status"), pl.format(" [exit {}]", "exit_code"))
_SEGMENT = r"""[^\s\\/:"'`(),;=\[\]{}<>|]+"""
_WEEKDAY, _MONTH = "(?:Mon|Tue|Wed|Thu|Fri|Sat|Sun)", "(?:Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec)"


def _ascii(*rules: tuple[str, str]) -> tuple[tuple[str, str], ...]:
    """The rules with ASCII's letters and digits only, which makes them three times as fast."""
    in_class = re.compile(r"\[\^?(?:\\.|[^\]\\])*\]")
    inside = [in_class.sub(lambda found: _spelled(found[0], "{}"), pattern) for pattern, _ in rules]
    return tuple((_spelled(pattern, "[{}]"), mask) for pattern, (_, mask) in zip(inside, rules, strict=True))


def _spelled(pattern: str, form: str) -> str:
    return pattern.replace(r"\w", form.format("0-9A-Za-z_")).replace(r"\d", form.format("0-9"))


_SPOKEN = _ascii(
    # A quotation that tells an outcome is a message; any other is a value.
    (rf'"([^"]*\s[^"]*{TELLS_OUTCOME}[^"]*|[^"]*{TELLS_OUTCOME}\s[^"]*)"', " ${1} "),
    (rf"\B'([^']*\s[^']*{TELLS_OUTCOME}[^']*|[^']*{TELLS_OUTCOME}\s[^']*)'", " ${1} "),
    # The method of a request tells more than its address.
    (r'"(GET|POST|PUT|DELETE|PATCH|HEAD|OPTIONS) ([^"]*)"', '${1} "${2}"'),
    # The module of an exception varies with versions, and a digit in its name is no value.
    (rf"\b(?:\w+\.)+({EXCEPTION})\b", "${1}"),
    (rf"\b([A-Z][A-Za-z]*)\d+([A-Za-z]*{EXCEPTION_ENDING})\b", "${1}${2}"),
)
_VALUES = _ascii(
    # What a sanitizer put in, and tags that look like it.
    (r"<[a-zA-Z_]+(?::[\w-]+)?>", "<value>"),
    (r"""(?i:[a-z][a-z0-9+.-]*://[^\s"'<>)\]]*[^\s"'<>)\],.;:])""", "<url>"),
    (r'"[^"]*"|\B\'[^\']*\'|`[^`]*`', "<text>"),
    (r"(?i-u:\b[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}\b)", "<uuid>"),
    (r"(?i-u:\b(?:[0-9a-f]{1,4}:{1,2}){3,}[0-9a-f]{1,4}\b)", "<address>"),
    (r"\b\d{4}-\d\d-\d\d[T ]\d\d:\d\d(?::\d\d(?:[.,]\d+)?)?(?:Z|[+-]\d\d:?\d\d)?", "<time>"),
    (
        rf"\b(?:{_WEEKDAY},? )?{_MONTH} +\d+,? \d+(?::\d+)*(?: [A-Z]{{3,4}})?(?: \d+)?\b",
        "<time>",
    ),
    (r"\b(?:\d{4}-\d\d-\d\d|\d{1,4}/\d{1,2}/\d{1,4}|\d\d?:\d\d(?::\d\d(?:[.,:]\d+)?)?)\b", "<date>"),
    (r"\b(?:req|call|toolu|chatcmpl|msg|resp|run|thread|asst|file|task|job)[-_][A-Za-z0-9]{6,}\b", "<id>"),
    (r"(?i-u:\b(?:gpt|claude|gemini|gemma|llama|mistral|mixtral|qwen|deepseek|grok|phi|o\d)-[\w.:@-]*\w)", "<model>"),
    (
        (
            rf"(?:\b[A-Za-z]:|\.{{1,2}}|~)(?:[\\/]+{_SEGMENT})+[\\/]*|[\w.-]*(?:[\\/]+{_SEGMENT}){{2,}}[\\/]*"
            r"|[\w-]+\.[\w.-]*(?:/[\w.$-]+)+|(?:[\w-]+/)+[\w-]+\.\w+"
        ),
        "<path>",
    ),
    (r"\b[\w-]+(?:\.[\w-]+)+:\d+\b", "<place>"),
    # Values joined by bars.
    (r"[^\s|:=,(]*(?:\|[^\s|]*){2,}", "<record>"),
    (r"(?i-u:\b(?:0x[0-9a-f]+|[0-9a-f]{8,})\b)", "<hex>"),
    (r"\b\d{1,3}\.\d{1,3}\.\d{1,3}\.x\b", "<ip>"),
    (r"\b\d+(?:\.\d+){2,3}\b", "<version>"),
    (
        r"(?i-u:\b\d[\d,]*(?:\.\d+)?\s?(?:ms|s|us|sec|secs|seconds?|min|minutes?|h|hours?|days?|(?:milli|micro)seconds?)\b)",
        "<duration>",
    ),
    (r"(?i-u:\b\d[\d,]*(?:\.\d+)?\s?(?:b|[kmg]i?b|bytes)\b)", "<size>"),
    # Digits at the start, in the middle or at the end of a long word; IPv6, utf8 and eth0 are names.
    (r"\b(?:\d\w*(?:[.,]\d\w*)*|[A-Za-z_]\w*\d\w+|[A-Za-z_]\w{5,}\d|[A-Za-z]\d)\b", "<num>"),
    (r"(?i-u:\b(?:true|false|null|none|nil|undefined)\b)", "<bool>"),
)
_NUMBERS = r"(?i-u:\b[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}\b|\b(?:0x)?[0-9a-f]{8,}\b)|\b\d+(?:[.,:]\d+)*\w*"
"""Written as 0 before a key is made, so that texts which differ in numbers only are masked once."""
_ANY_VALUE = "|".join(pattern for pattern, _ in _VALUES)
_JOINED = _ascii(
    (r"\.{2,}", " .. "),
    # What hangs together with a value is part of it, signs before it too; values in a row are one.
    (r"(?:\B[-+#*]+)?(?:[\w$@~]+[-.])*[\w$@~]*<\*>(?:[-.~@$]*\w+|[-.~@$:]*<\*>)*", MASK),
    (r"<\*>(?:[\s,;:|/#+.x@~%-]*<\*>)+", MASK),
    (r"\s{2,}", " "),
)


_EXCEPTION_NAME = _ascii((rf"\b{EXCEPTION}\b", ""))[0][0]


def identify(messages: pl.Series, stacks: pl.Series | None = None) -> pl.DataFrame:
    """match_key and signature_id of each failure, in order; null where there is no message.

    The key is the head with every value masked, and its HTTP status and exit code. Where fewer than two words are left
    besides an exception's name, which may be said in many places, the frames of the stack are part of it.
    """
    return _once(_texts(messages, stacks), lambda distinct: _once(_keys(distinct), _signatures))


def normalise(messages: pl.Series, stacks: pl.Series | None = None) -> pl.DataFrame:
    """The identity of each failure and what it was made from, in order; null where there is no message.

    head; the facets exception_type, http_status, exit_code, host, tool and provider; frames, innermost first; template,
    which is the head with its values named by type; match_key and signature_id.
    """
    told = heads(messages).to_frame().with_columns(facets(pl.col("head")))
    traces = _traces(_texts(messages, stacks))
    return told.with_columns(frames(traces), _template(), *identify(messages, stacks))


def _texts(messages: pl.Series, stacks: pl.Series | None) -> pl.DataFrame:
    return pl.DataFrame([messages.rename("message"), *([] if stacks is None else [stacks.rename("stack")])])


def _keys(texts: pl.DataFrame) -> pl.DataFrame:
    """match_key of each message (and stack)."""
    head = heads(texts["message"])
    shapes = statuses(head).with_columns(head.str.replace_all(_NUMBERS, "0").alias("shape"))
    masked = _once(shapes, _mask)
    traces = _traces(texts).zip_with(masked["is_short"], pl.Series([None], dtype=pl.String))
    where = frames(traces).list.eval("@" + pl.element()).list.join(" ")
    key = pl.when(where.is_null()).then("match_key").otherwise(pl.format("{} {}", "match_key", where))
    return masked.select(key.alias("match_key"))


def _mask(shapes: pl.DataFrame) -> pl.DataFrame:
    """match_key of each shape and its statuses, and whether that says little."""
    key = shapes["shape"]
    for pattern, mask in (*_SPOKEN, (_ANY_VALUE, MASK), *_JOINED):
        key = key.str.replace_all(pattern, mask)
    words = key.str.count_matches(r"[^\x00-@\[-`{-\x7f]{2,}") - key.str.count_matches(_EXCEPTION_NAME)
    told = pl.concat_str(key.str.strip_chars(), *_STATUSES, ignore_nulls=True)
    return shapes.select(
        pl.when(key.is_not_null()).then(told).alias("match_key"), is_short=(words < _FEW_WORDS).fill_null(value=False)
    )


def _template() -> pl.Expr:
    template = pl.col("head")
    for pattern, mask in (*_SPOKEN, *_VALUES, (r"\s{2,}", " ")):
        template = template.str.replace_all(pattern, mask)
    told = pl.concat_str(template.str.strip_chars(), *_STATUSES, ignore_nulls=True)
    return pl.when(pl.col("head").is_not_null()).then(told).alias("template")


def _traces(texts: pl.DataFrame) -> pl.Series:
    """The stack of each failure, else its message where that has lines."""
    of_message = pl.when(pl.col("message").str.contains("\n", literal=True)).then("message")
    traces = pl.coalesce("stack", of_message) if "stack" in texts.columns else of_message
    return texts.select(traces.alias("trace")).to_series()


def _signatures(keys: pl.DataFrame) -> pl.DataFrame:
    """match_key again, and the signature_id."""
    versioned = pl.format(f"{RULES_VERSION}\n{{}}", "match_key").alias("versioned")
    digest = plh.col("versioned").chash.sha2_256().str.head(_ID_DIGITS)
    return keys.with_columns(versioned).select("match_key", digest.alias("signature_id"))


def _once(rows: pl.DataFrame, work: Callable[[pl.DataFrame], pl.DataFrame]) -> pl.DataFrame:
    """What `work` tells of each row, done once for equal rows; where few are equal, that costs more than it spares."""
    if rows.hash_rows().n_unique() > rows.height * _FEW_REPEAT:
        return work(rows)
    distinct = rows.unique()
    told = pl.concat([distinct.select(pl.all().name.prefix("of_")), work(distinct)], how="horizontal")
    names = [f"of_{name}" for name in rows.columns]
    return rows.join(
        told, left_on=rows.columns, right_on=names, how="left", nulls_equal=True, maintain_order="left"
    ).select(told.columns[len(names) :])
