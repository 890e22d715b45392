"""Free text without its secrets and personal data: messages, stacks, log lines. Batch and order do not matter.

While rules run, a placeholder is one private-use code point, so that no later rule can mistake it for a value. The
same trick recognises placeholders that stood there before, which makes sanitizing idempotent.
"""

import json
import logging
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property

import polars as pl

from pipelines.anonymize.rules import KEEP, STAGES, Rule, Stage

UNSANITIZED = "<unsanitized>"
"""Stored, with its length, in place of a text that could not be sanitized: never the text itself."""

_FIRST_SYMBOL = 0xE100
_PRIVATE_USE = r"[\x{E000}-\x{F8FF}]"
_MOST_ROUNDS = 8

log = logging.getLogger(__name__)


class UnstableRulesError(Exception):
    """Rules of a user undo each other, or feed themselves, without end."""


@dataclass(frozen=True)
class Sanitizer:
    """Our rules, and those of a user: they run after ours and before the search for opaque tokens."""

    own: tuple[Stage, ...] = ()

    @cached_property
    def _stages(self) -> tuple[Stage, ...]:
        return (*STAGES[:-1], *self.own, STAGES[-1])

    @cached_property
    def _symbols(self) -> dict[str, str]:
        """The code point that stands for each placeholder while rules run."""
        placeholders = dict.fromkeys(rule.placeholder for rule in _rules(STAGES + self.own) if rule.placeholder != KEEP)
        return {placeholder: chr(_FIRST_SYMBOL + place) for place, placeholder in enumerate(placeholders)}

    @cached_property
    def _bracketed(self) -> dict[str, str]:
        return {placeholder: symbol for placeholder, symbol in self._symbols.items() if placeholder.startswith("<")}

    @cached_property
    def _kinds(self) -> dict[str, str]:
        """What each code point counts as."""
        return {
            self._symbols[rule.placeholder]: rule.placeholder.strip("<>")
            if rule.placeholder in self._bracketed
            else rule.name
            for rule in _rules(STAGES + self.own)
            if rule.placeholder != KEEP
        }

    @cached_property
    def _own_symbols(self) -> str:
        """Finds the texts that rules of a user changed."""
        return "[" + "".join(self._symbols[rule.placeholder] for rule in _rules(self.own)) + "]"

    def sanitize(self, columns: pl.DataFrame) -> tuple[pl.DataFrame, pl.Series]:
        """The columns with placeholders for what is secret or personal, and per row a symbol for every placeholder.

        All columns are text; null stays null, rows keep their order. Every distinct text is worked on once. Fails
        closed: a text that cannot be sanitized becomes `<unsanitized>`.
        """
        unique = {column.name: column.unique().drop_nulls() for column in columns if column.null_count() < len(column)}
        given = pl.concat([pl.Series([], dtype=pl.String), *unique.values()]).unique().alias("given")
        table = self._sanitize_unique(given).insert_column(0, given)
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

    def sanitize_texts(self, texts: pl.Series) -> pl.Series:
        """One column of texts, sanitized."""
        sanitized, _ = self.sanitize(texts.to_frame())
        return sanitized.to_series()

    def count_by_kind(self, removed: pl.Series) -> pl.Series:
        """How many values of each kind were removed, as JSON; null where none was. Takes what `sanitize` returns."""
        table = {symbols: self._counts(symbols) for symbols in removed.unique().drop_nulls() if symbols}
        if not table:
            return pl.Series([None], dtype=pl.String).new_from_index(0, len(removed))
        return removed.replace_strict(table, default=None, return_dtype=pl.String)

    def _counts(self, symbols: str) -> str:
        return json.dumps(dict(sorted(Counter(self._kinds[symbol] for symbol in symbols).items())))

    def _sanitize_unique(self, texts: pl.Series) -> pl.DataFrame:
        try:
            return self._run(texts)
        except Exception:  # noqa: BLE001 - whatever goes wrong, the text must not pass
            if len(texts) == 1:
                size = len(texts[0])
                log.error("a text of %d characters could not be sanitized", size)  # noqa: TRY400 - the trace quotes it
                return pl.DataFrame({"text": [f"{UNSANITIZED} ({size} characters)"], "removed": [""]})
            half = len(texts) // 2
            return pl.concat([self._sanitize_unique(texts[:half]), self._sanitize_unique(texts[half:])])

    def _run(self, texts: pl.Series) -> pl.DataFrame:
        texts = self._apply_stages(self._neutralise(texts))
        if self.own:
            texts = self._settle(texts)
        removed = texts.str.replace_all(r"[^\x{E100}-\x{F8FF}]+", "")
        restored = texts.str.replace_many(list(self._symbols.values()), list(self._symbols))
        return pl.DataFrame({"text": restored, "removed": removed})

    def _neutralise(self, texts: pl.Series) -> pl.Series:
        """Private-use code points of the input become U+FFFD; placeholders of an earlier pass become symbols."""
        texts = texts.str.replace_all(_PRIVATE_USE, "\N{REPLACEMENT CHARACTER}")
        return texts.str.replace_many(list(self._bracketed), list(self._bracketed.values()))

    def _settle(self, texts: pl.Series) -> pl.Series:
        """Repeat until nothing changes: a user's rule may take a placeholder for a value, or uncover one of ours."""
        for _ in range(_MOST_ROUNDS):
            concerned = texts.str.contains(self._own_symbols).arg_true()
            before = texts.gather(concerned)
            after = self._apply_stages(before.clone())  # it changes what it is given
            if (after == before).all():
                return texts
            texts = texts.scatter(concerned, after)
        raise UnstableRulesError

    def _apply_stages(self, texts: pl.Series) -> pl.Series:
        for stage in self._stages:
            texts = self._apply_stage(texts, stage)
        return texts.str.replace_all(KEEP, "", literal=True)

    def _apply_stage(self, texts: pl.Series, stage: Stage) -> pl.Series:
        concerned = texts.str.contains(stage.gate).arg_true()
        if not len(concerned):
            return texts
        rewritten = texts.gather(concerned)
        for rule in stage.rules:
            rewritten = self._apply_rule(rewritten, rule)
        return texts.scatter(concerned, rewritten)

    def _apply_rule(self, texts: pl.Series, rule: Rule) -> pl.Series:
        concerned = texts.str.contains(rule.pattern).arg_true()
        if not len(concerned):
            return texts
        symbol = self._symbols.get(rule.placeholder, KEEP)
        found = texts.gather(concerned)
        if rule.find is None:
            rewritten = found.str.replace_all(rule.pattern, rule.frame.replace("{}", symbol))
        else:
            candidates = found.str.extract_all(rule.pattern)
            rewritten = pl.Series(
                [_replace_values(text, words, rule, symbol) for text, words in zip(found, candidates, strict=True)],
                dtype=pl.String,
            )
            again = (rewritten != found).arg_true()
            if len(again):  # a candidate may hold a second value
                rewritten = rewritten.scatter(again, self._apply_rule(rewritten.gather(again), rule))
        return texts.scatter(concerned, rewritten)


def _rules(stages: Iterable[Stage]) -> list[Rule]:
    return [rule for stage in stages for rule in stage.rules]


def _replace_values(text: str, candidates: pl.Series, rule: Rule, symbol: str) -> str:
    assert rule.find is not None  # noqa: S101 - the caller chose the rule for it
    for word in candidates:
        value = rule.find(word)
        if value is not None:
            text = text.replace(value, symbol)
    return text


DEFAULT = Sanitizer()
"""Our own rules only."""
sanitize_texts = DEFAULT.sanitize_texts
