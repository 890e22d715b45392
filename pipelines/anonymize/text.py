"""Free text without its secrets and personal data: messages, stacks, log lines. Batch and order do not matter.

While rules run, a placeholder is one private-use code point, so that no later rule can mistake it for a value. The
same trick recognises placeholders that stood there before, which makes sanitizing idempotent.
"""

import json
import logging
import re
from collections import Counter

import polars as pl

from pipelines.anonymize.rules import KEEP, RULES, STAGES, Rule, Stage

UNSANITIZED = "<unsanitized>"
"""Stored, with its length, in place of a text that could not be sanitized: never the text itself."""

_FIRST_SYMBOL = 0xE100
_PLACEHOLDERS = list(dict.fromkeys(rule.placeholder for rule in RULES if rule.placeholder != KEEP))
_SYMBOLS = {placeholder: chr(_FIRST_SYMBOL + place) for place, placeholder in enumerate(_PLACEHOLDERS)}
_BRACKETED = {placeholder: symbol for placeholder, symbol in _SYMBOLS.items() if placeholder.startswith("<")}
_KINDS = {_SYMBOLS[rule.placeholder]: rule.placeholder.strip("<>:") for rule in RULES if rule.placeholder in _BRACKETED}
_KINDS |= {_SYMBOLS[rule.placeholder]: rule.name for rule in RULES if rule.placeholder in _SYMBOLS.keys() - _BRACKETED}
_BOUNDARY = re.compile(r"^[^A-Za-z0-9+/_-]")
_PRIVATE_USE = r"[\x{E000}-\x{F8FF}]"

log = logging.getLogger(__name__)


def sanitize(columns: pl.DataFrame) -> tuple[pl.DataFrame, pl.Series]:
    """The columns with placeholders for what is secret or personal, and per row a symbol for every placeholder.

    All columns are text; null stays null, rows keep their order. Every distinct text is worked on once. Fails closed:
    a text that cannot be sanitized becomes `<unsanitized>`.
    """
    unique = {column.name: column.unique().drop_nulls() for column in columns if column.null_count() < len(column)}
    given = pl.concat([pl.Series([], dtype=pl.String), *unique.values()]).unique().alias("given")
    table = _sanitize_unique(given).insert_column(0, given)
    changed = table.filter((pl.col("text") != pl.col("given")) | (pl.col("removed") != ""))
    touched = [name for name, texts_of in unique.items() if texts_of.is_in(changed["given"].implode()).any()]
    texts, removed = {}, []
    for name in touched:
        column = columns[name].to_frame("given")
        looked_up = column.join(changed, on="given", how="left", maintain_order="left")
        texts[name] = looked_up.select(pl.coalesce("text", "given")).to_series()
        removed.append(looked_up["removed"].alias(name))
    gathered = pl.DataFrame([pl.Series("", [None], pl.String).new_from_index(0, columns.height), *removed])
    return columns.with_columns(**texts), gathered.select(pl.concat_str(pl.all(), ignore_nulls=True)).to_series()


def sanitize_texts(texts: pl.Series) -> pl.Series:
    """One column of texts, sanitized."""
    sanitized, _ = sanitize(texts.to_frame())
    return sanitized.to_series()


def count_by_kind(removed: pl.Series) -> pl.Series:
    """How many values of each kind were removed, as JSON; null where none was. Takes what `sanitize` returns."""
    table = {symbols: _counts(symbols) for symbols in removed.unique().drop_nulls() if symbols}
    if not table:
        return pl.Series([None], dtype=pl.String).new_from_index(0, len(removed))
    return removed.replace_strict(table, default=None, return_dtype=pl.String)


def _counts(symbols: str) -> str:
    return json.dumps(dict(sorted(Counter(_KINDS[symbol] for symbol in symbols).items())))


def _sanitize_unique(texts: pl.Series) -> pl.DataFrame:
    try:
        return _run(texts)
    except Exception:  # noqa: BLE001 - whatever goes wrong, the text must not pass
        if len(texts) == 1:
            log.error("a text of %d characters could not be sanitized", len(texts[0]))  # noqa: TRY400 - the trace quotes it
            return pl.DataFrame({"text": [f"{UNSANITIZED} ({len(texts[0])} characters)"], "removed": [""]})
        half = len(texts) // 2
        return pl.concat([_sanitize_unique(texts[:half]), _sanitize_unique(texts[half:])])


def _run(texts: pl.Series) -> pl.DataFrame:
    texts = _neutralise(texts)
    for stage in STAGES:
        texts = _apply_stage(texts, stage)
    removed = texts.str.replace_all(r"[^\x{E100}-\x{F8FF}]+", "")
    restored = texts.str.replace_all(KEEP, "", literal=True).str.replace_many(list(_SYMBOLS.values()), list(_SYMBOLS))
    return pl.DataFrame({"text": restored, "removed": removed})


def _neutralise(texts: pl.Series) -> pl.Series:
    """Private-use code points of the input become U+FFFD; placeholders of an earlier pass become symbols."""
    texts = texts.str.replace_all(_PRIVATE_USE, "\N{REPLACEMENT CHARACTER}")
    return texts.str.replace_many(list(_BRACKETED), list(_BRACKETED.values()))


def _apply_stage(texts: pl.Series, stage: Stage) -> pl.Series:
    concerned = texts.str.contains(stage.gate).arg_true()
    if not len(concerned):
        return texts
    rewritten = texts.gather(concerned)
    for rule in stage.rules:
        rewritten = _apply_rule(rewritten, rule)
    return texts.scatter(concerned, rewritten)


def _apply_rule(texts: pl.Series, rule: Rule) -> pl.Series:
    concerned = texts.str.contains(rule.pattern).arg_true()
    if not len(concerned):
        return texts
    symbol = _SYMBOLS.get(rule.placeholder, KEEP)
    found = texts.gather(concerned)
    if rule.find is None:
        rewritten = found.str.replace_all(rule.pattern, rule.frame.replace("{}", symbol))
    else:
        candidates = found.str.extract_all(rule.pattern)
        rewritten = pl.Series(
            [_replace_values(text, words, rule, symbol) for text, words in zip(found, candidates, strict=True)],
            dtype=pl.String,
        )
    return texts.scatter(concerned, rewritten)


def _replace_values(text: str, candidates: pl.Series, rule: Rule, symbol: str) -> str:
    assert rule.find is not None  # noqa: S101 - the caller chose the rule for it
    for word in candidates:
        value = rule.find(_BOUNDARY.sub("", word))
        if value is not None:
            text = text.replace(value, symbol)
    return text
