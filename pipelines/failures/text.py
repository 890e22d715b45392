"""What a failure says: its type and message as one text, and the head of that text, which tells the failure."""

import polars as pl

from pipelines.execution import FAILURES
from pipelines.failures.words import EXCEPTION

_MOST_READ = 32_000
_LONGEST_HEAD = 500
_LONGEST_MESSAGE = 300
_HAS_STRUCTURE = r"[\r\n{\x1b]"
"""Most texts have none of these: one line, which is its own head."""
_COLOUR = r"\x1b\[[0-9;]*[A-Za-z]"
_TRACEBACK = r"(?m)Traceback \(most recent call last\)|^\s*at [\w.$<>]+ ?\(|^Caused by: "
_EXCEPTION_LINE = rf"(?m)^(?:Caused by: |Exception in thread \S+ )?((?:\w+\.)*{EXCEPTION}(?::.*)?)\s*$"
_BODY = r"""(?s)[\[(]?\{\s*["'][^"']*["']\s*:.*$"""
_STRING = r"""["']\s*:\s*\[?\s*(?:"((?:[^"\\]|\\.)*)"|'((?:[^'\\]|\\.)*)')"""
_BODY_MESSAGE = rf"""["'](?:message|error_description|detail|msg|reason|(?:\w+_)?error(?:_message)?){_STRING}"""
_BODY_CODES = (rf"""["'](?:\w+_)?error_(?:type|code){_STRING}""", rf"""["']code{_STRING}""", rf"""["']type{_STRING}""")
_VALIDATION = r"^\d+ validation errors? for "
_VALIDATION_TYPE = r"[\[(]type=([\w.]+)"
_ERROR_LINE = rf"(?i)\b(?:error|fatal|panic|failed|failure|exception|timed out|cannot|unable to)\b|\b{EXCEPTION}\b"
_LOG_LINES = 3


def is_failure() -> pl.Expr:
    """Whether an execution counts as a failure."""
    return pl.col("status").is_in(FAILURES)


def failure_text() -> pl.Expr:
    """`type: message`; the type once where the message starts with it, the outcome where nothing else is known."""
    kind, message = pl.col("error_type"), pl.col("error_message")
    repeats = message.str.starts_with(kind).fill_null(value=False)
    told = pl.when(repeats).then(message).otherwise(pl.concat_str([kind, message], separator=": ", ignore_nulls=True))
    return pl.when(told != "").then(told).otherwise(pl.col("status"))


def heads(texts: pl.Series) -> pl.Series:
    """The line of each text that tells the failure, of at most 500 characters.

    Of a stack trace its last exception; of a structured body what stands before it, its code and its message; of a
    validation error the first line and the kinds of error; of a log, which is many lines, the last that tells of an
    error; else the first two lines that are not empty.
    """
    table = texts.rename("text").to_frame().with_row_index()
    structured = pl.col("text").str.contains(_HAS_STRUCTURE)
    found = table.filter(structured).select("index", _head_of_structured(pl.col("text")).alias("head"))
    if found.height:
        table = table.join(found, on="index", how="left", maintain_order="left")
        table = table.with_columns(pl.coalesce("head", "text").alias("text"))
    return table["text"].str.head(_LONGEST_HEAD).rename("head")


def _head_of_structured(text: pl.Expr) -> pl.Expr:
    text = text.str.head(_MOST_READ).str.replace_all(_COLOUR, "")
    lines = text.str.split("\n").list.eval(pl.element().str.strip_chars().filter(pl.element().str.contains(r"\S")))
    first_two = lines.list.head(2).list.join(" ")
    exception = text.str.extract_all(_EXCEPTION_LINE).list.last().str.replace(_EXCEPTION_LINE, "$1")
    kinds = text.str.extract_all(_VALIDATION_TYPE).list.eval(pl.element().str.extract(_VALIDATION_TYPE).unique().sort())
    told = lines.list.eval(pl.element().filter(pl.element().str.contains(_ERROR_LINE)))
    is_log = (lines.list.len() > _LOG_LINES) & ~first_two.str.contains(_ERROR_LINE) & (told.list.len() > 0)
    head = (
        pl.when(text.str.contains(_VALIDATION))
        .then(pl.concat_str([lines.list.first(), kinds.list.join(" ")], separator=" "))
        .when(text.str.contains(_TRACEBACK))
        .then(pl.coalesce(exception, lines.list.last()))
        .when(is_log)
        .then(told.list.last())
        .otherwise(_without_body(first_two, text))
    )
    return pl.coalesce(head, first_two)


def _without_body(line: pl.Expr, text: pl.Expr) -> pl.Expr:
    """The line; where a JSON or dict body with a message stands in it: what is before it, its code and message."""
    message, code = _string(text, _BODY_MESSAGE), pl.coalesce(_string(text, pattern) for pattern in _BODY_CODES)
    before = line.str.replace(_BODY, "").str.strip_chars(" -:").replace("", None)
    message = message.str.head(_LONGEST_MESSAGE).str.replace_all(r"\\n", " ").str.replace_all(r"\\(.)", "$1")
    told = pl.concat_str([before, code, message], separator=": ", ignore_nulls=True)
    return pl.when(line.str.contains(_BODY) & message.is_not_null()).then(told).otherwise(line)


def _string(text: pl.Expr, pattern: str) -> pl.Expr:
    return pl.coalesce(text.str.extract(pattern, 1), text.str.extract(pattern, 2))
