"""From a failure's text to its identity: the head of the text, a readable template, a key, a signature.

A pure function of the (sanitized) text and the version of these rules: no other failure, and no order, has a say.
"""

import hashlib

import polars as pl

RULES_VERSION = 1
"""Part of every signature: whoever changes a rule below gives it a new version."""

_ID_DIGITS = 16
_MAX_HEAD = 500
_TRACEBACK = r"^\s*Traceback \(most recent call last\)"
_HTTP_STATUS = r"(?i)(?:^|\b(?:http|status|code|error)\b\D{0,10})([45]\d\d)\b"
_MASKS = (
    (r"(?i)\b[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}\b", "<uuid>"),
    (r"\b\d{4}-\d\d-\d\d[T ]\d\d:\d\d(?::\d\d(?:[.,]\d+)?)?(?:Z|[+-]\d\d:?\d\d)?", "<time>"),
    (r"\b\d{4}-\d\d-\d\d\b", "<date>"),
    (r"(?i)\b[a-z][a-z0-9+.-]*://[^\s\"'<>)\]]+", "<url>"),
    (r"\b(?:req|call|toolu|chatcmpl|msg|resp|run|thread|asst|file|task|job)[-_][A-Za-z0-9]{6,}\b", "<id>"),
    (r"(?:\b[A-Za-z]:)?(?:[\\/][^\s\\/:\"'(),;]+){2,}[\\/]?", "<path>"),
    (r"(?i)\b(?:gpt|claude|gemini|gemma|llama|mistral|mixtral|qwen|deepseek|grok|phi|o\d)-[\w.:@-]*\w", "<model>"),
    (r"(?i)\b(?:0x[0-9a-f]+|[0-9a-f]{7,64})\b", "<hex>"),
    (r"\b\d{1,3}\.\d{1,3}\.\d{1,3}\.x\b", "<ip>"),
    (r"\b\d+(?:\.\d+){2,3}\b", "<version>"),
    (r"(?i)\b\d+(?:\.\d+)?\s?(?:ms|s|sec|secs|seconds?|min|minutes?|h|hours?)\b", "<duration>"),
    (r"(?i)\b\d+(?:\.\d+)?\s?(?:b|kb|mb|gb|kib|mib|gib|bytes)\b", "<size>"),
    (r"[-+]?\b\d[\d,]*(?:\.\d+)?(?:e[-+]?\d+)?%?", "<num>"),
)


def fingerprint(texts: pl.Series) -> pl.DataFrame:
    """template, match_key and signature_id of each failure text, in order."""
    unique = texts.unique().drop_nulls().to_frame("text")
    head = _head(pl.col("text"))
    template = head
    for pattern, mask in _MASKS:
        template = template.str.replace_all(pattern, mask)
    http_status = head.str.extract(_HTTP_STATUS)
    known = unique.with_columns(
        template=pl.concat_str(template, pl.format(" [HTTP {}]", http_status), ignore_nulls=True)
    ).with_columns(match_key=pl.col("template").str.to_lowercase().str.replace_all(r"<[a-z]+(?::[a-z_]+)?>", "<*>"))
    known = known.with_columns(known["match_key"].map_elements(_signature, pl.String).alias("signature_id"))
    return texts.to_frame("text").join(known, on="text", how="left", maintain_order="left").drop("text")


def _head(text: pl.Expr) -> pl.Expr:
    """What says most: the last line of a traceback, else the first two lines that are not empty."""
    lines = text.str.split("\n").list.eval(pl.element().str.strip_chars().filter(pl.element().str.contains(r"\S")))
    first_two = lines.list.head(2).list.join(" ")
    head = pl.when(text.str.contains(_TRACEBACK)).then(lines.list.last()).otherwise(first_two)
    return head.str.replace_all(r"\s+", " ").str.head(_MAX_HEAD)


def _signature(key: str) -> str:
    return hashlib.sha256(f"{RULES_VERSION}\n{key}".encode()).hexdigest()[:_ID_DIGITS]
