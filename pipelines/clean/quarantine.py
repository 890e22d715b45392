"""Records that cannot be executions: where each stands, why it was refused, and as much of it as is safe to show."""

import re

import polars as pl

from pipelines.anonymize.skeleton import KNOWN_KEYS
from pipelines.anonymize.text import Sanitizer
from pipelines.sources.source import Source

QUARANTINE = pl.Schema(
    {
        "source": pl.String(),
        "day": pl.Date(),
        "file": pl.String(),
        "line": pl.Int64(),
        "byte_offset": pl.Int64(),
        "reason": pl.String(),
        "detail": pl.String(),
        "excerpt": pl.String(),
    }
)
"""One row per refused record. `reason` is one of QUARANTINE_REASONS."""

_MAX_EXCERPT = 300
_READ_AT_MOST = 4_000
_TOKEN = re.compile(r'"((?:[^"\\]|\\.)*)"?(\s*:)?|[^\s"{}\[\]:,]+')
_PLAIN_WORDS = frozenset(("true", "false", "null", "NaN", "Infinity", "-Infinity"))


def as_quarantine(rejected: pl.DataFrame, source: Source, day: object, sanitizer: Sanitizer) -> pl.DataFrame:
    """The quarantine rows of rejected drafts (file, line, byte_offset, problem, detail, text)."""
    names = KNOWN_KEYS.union(source.payload_keys, *source.paths.values(), *source.attribute_paths.values())
    excerpts = [None if text is None else excerpt(text, names) for text in rejected["text"]]
    return rejected.select(
        pl.lit(source.name).alias("source"),
        pl.lit(day, pl.Date).alias("day"),
        sanitizer.sanitize_texts(rejected["file"]).alias("file"),
        "line",
        "byte_offset",
        pl.col("problem").alias("reason"),
        sanitizer.sanitize_texts(rejected["detail"]).alias("detail"),
        pl.Series("excerpt", excerpts, pl.String),
    ).match_to_schema(QUARANTINE)


def excerpt(text: str, names: frozenset[str]) -> str:
    """The structure of a broken record: known field names stay, every value shows only how long it is."""

    def _mask(token: re.Match[str]) -> str:
        quoted, colon = token[1], token[2] or ""
        if quoted is None:
            return token[0] if token[0] in _PLAIN_WORDS else f"<{len(token[0])}>"
        return f'"{quoted}"{colon}' if colon and quoted in names else f'"<{len(quoted)}>"{colon}'

    masked = _TOKEN.sub(_mask, text[:_READ_AT_MOST])
    return masked if len(masked) <= _MAX_EXCERPT else f"{masked[:_MAX_EXCERPT]}..."
