"""Free text without its secrets and personal data: messages, stacks, log lines. Batch and order do not matter.

While rules run, a placeholder is one private-use code point, so that no later rule can mistake it for a value. The
same trick recognises placeholders that stood there before, which makes sanitizing idempotent.
"""

import json
import logging
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cache, cached_property, partial, reduce
from operator import or_

import polars as pl

from pipelines.anonymize.rules import ESCAPED, ESCAPES, KEEP, STAGES, Rule, Stage

UNSANITIZED = "<unsanitized>"
"""Stored, with its length, in place of a text that could not be sanitized: never the text itself."""

_FIRST_SYMBOL = 0xE100
_PRIVATE_USE = r"[\x{E000}-\x{F8FF}]"
_SYMBOLS = r"[\x{E100}-\x{F8FF}]+"
_MOST_ROUNDS = 8
_READ_ALL = r"[0-9A-Za-z]{2}\x01"
"""An alternative that begins with nearly anything. Without it the engine first looks for the hundreds of literals that
the others begin with, which takes longer than to read the text once."""

log = logging.getLogger(__name__)


class UnstableRulesError(Exception):
    """Rules of a user undo each other, or feed themselves, without end."""


@dataclass(frozen=True)
class Sanitizer:
    """Our rules, and those of a user: they run after ours and before the search for opaque tokens."""

    own: tuple[Stage, ...] = ()

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
        if columns.width == len(unique) == 1 and len(*unique.values()) == columns.height:
            table = self._sanitize_unique(columns.to_series())
            return columns.with_columns(table["text"].alias(*columns.columns)), table["removed"]
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
        marked = _may_hold_private_use(texts).arg_true()
        removed = pl.Series([""]).new_from_index(0, len(texts))
        if len(marked):
            found = texts.gather(marked)
            removed = removed.scatter(marked, found.str.extract_all(_SYMBOLS).list.join(""))
            texts = texts.clone().scatter(marked, self._spell_out(found, removed))
        return pl.DataFrame({"text": texts, "removed": removed})

    def _spell_out(self, texts: pl.Series, removed: pl.Series) -> pl.Series:
        """Placeholders for the symbols. Few of them occur, and few are faster to look for, the leftmost first."""
        occur = set("".join(removed.unique()))
        spelt = {symbol: placeholder for placeholder, symbol in self._symbols.items() if symbol in occur}
        return texts.str.replace_many(list(spelt), list(spelt.values()), leftmost=True) if spelt else texts

    def _neutralise(self, texts: pl.Series) -> pl.Series:
        """Private-use code points of the input become U+FFFD; placeholders of an earlier pass become symbols."""
        texts = _rewrite(
            texts,
            _may_hold_private_use(texts),
            lambda found: found.str.replace_all(_PRIVATE_USE, "\N{REPLACEMENT CHARACTER}"),
        )
        placeholders = list(self._bracketed)
        return _rewrite(
            texts,
            texts.str.contains_any(placeholders),
            lambda found: found.str.replace_many(placeholders, list(self._bracketed.values())),
        )

    def _settle(self, texts: pl.Series) -> pl.Series:
        """Repeat until nothing changes: a user's rule may take a placeholder for a value, or uncover one of ours."""
        for _ in range(_MOST_ROUNDS):
            concerned = texts.str.contains(self._own_symbols).arg_true()
            before = texts.gather(concerned)
            after = self._apply_stages(before)
            if (after == before).all():
                return texts
            texts = texts.clone().scatter(concerned, after)
        raise UnstableRulesError

    def _apply_stages(self, texts: pl.Series) -> pl.Series:
        for stage in STAGES[:-1]:
            texts = self._apply_stage(texts, stage)
        if self.own:  # a user's rule sees the text as it is
            texts = _rewrite(texts, texts.str.contains("\x1b", literal=True), _without_escapes)
            texts = reduce(self._apply_stage, (*self.own, ESCAPES), texts)
        texts = self._apply_stage(texts, STAGES[-1])
        return _rewrite(texts, texts.str.contains(f"[{KEEP}\x1b]"), _without_marks)

    def _apply_stage(self, texts: pl.Series, stage: Stage) -> pl.Series:
        """One look after another narrows down the texts that the rules may concern; only these are worked on."""
        looks = [look for look in (stage.gates, (_any_of(stage.rules),), stage.also) if look]
        if len(stage.rules) == 1:
            return _where(texts, looks, partial(self._apply_rule, rule=stage.rules[0]))
        return _where(texts, looks, partial(self._apply_rules, rules=stage.rules))

    def _apply_rules(self, texts: pl.Series, rules: tuple[Rule, ...]) -> pl.Series:
        """Apply rules in their order. A gate that rules share is looked for once: no rule brings it about."""
        found: dict[str, pl.Series] = {}
        for rule in rules:
            gate = rule.gate or rule.pattern
            if gate not in found:
                found[gate] = texts.str.contains(gate)
            texts = _rewrite(texts, found[gate], partial(self._apply_rule, rule=rule))
        return texts

    def _apply_rule(self, texts: pl.Series, rule: Rule) -> pl.Series:
        looks = [(rule.also,)] if rule.also else []
        return _where(texts, looks, partial(self._replace, rule=rule))

    def _replace(self, texts: pl.Series, rule: Rule) -> pl.Series:
        symbol = self._symbols.get(rule.placeholder, KEEP)
        if rule.find is None:
            return texts.str.replace_all(rule.pattern, rule.frame.replace("{}", symbol))
        rewritten = _replace_values(texts, rule, symbol)
        changed = rewritten != texts  # a candidate may hold a second value
        return _rewrite(rewritten, changed, partial(self._replace, rule=rule))


def _rules(stages: Iterable[Stage]) -> list[Rule]:
    return [rule for stage in stages for rule in stage.rules]


@cache
def _any_of(rules: tuple[Rule, ...]) -> str:
    """Finds the texts that may concern any of the rules."""
    gates = dict.fromkeys(rule.gate or rule.pattern for rule in rules)
    return "|".join(f"(?:{gate})" for gate in (gates if len(gates) == 1 else (*gates, _READ_ALL)))


def _rewrite(texts: pl.Series, concerned: pl.Series, work: Callable[[pl.Series], pl.Series]) -> pl.Series:
    """The texts with the concerned ones worked on."""
    places = concerned.arg_true()
    return texts.clone().scatter(places, work(texts.gather(places))) if len(places) else texts


def _where(texts: pl.Series, looks: Sequence[tuple[str, ...]], work: Callable[[pl.Series], pl.Series]) -> pl.Series:
    """The texts with those worked on in which each look finds one of its patterns."""
    if not looks:
        return work(texts)
    concerned = reduce(or_, (texts.str.contains(pattern) for pattern in looks[0]))
    return _rewrite(texts, concerned, lambda found: _where(found, looks[1:], work))


def _without_marks(texts: pl.Series) -> pl.Series:
    """What rules told each other, taken back."""
    return _without_escapes(texts.str.replace_all(KEEP, "", literal=True))


def _without_escapes(texts: pl.Series) -> pl.Series:
    return texts.str.replace_all(rf"{ESCAPED}\x1b", "${1}")


def _may_hold_private_use(texts: pl.Series) -> pl.Series:
    """Cheaper than to look for them: texts that are not ASCII."""
    return texts.str.len_bytes() != texts.str.len_chars()


def _replace_values(texts: pl.Series, rule: Rule, symbol: str) -> pl.Series:
    """Replace what the rule finds in its candidates, everywhere in their text."""
    assert rule.find is not None  # noqa: S101 - the caller chose the rule for it
    candidates = (
        pl.DataFrame({"word": texts.str.extract_all(rule.pattern)}).with_row_index().explode("word").drop_nulls()
    )
    for kind in rule.needs:
        candidates = candidates.filter(pl.col("word").str.contains(kind))
    values = {word: rule.find(word) for word in candidates["word"].unique()}
    rewritten: dict[int, str] = {}
    for place, word in candidates.rows():
        if (value := values[word]) is not None:
            rewritten[place] = rewritten.get(place, texts[place]).replace(value, symbol)
    return texts.clone().scatter(list(rewritten), list(rewritten.values())) if rewritten else texts


DEFAULT = Sanitizer()
"""Our own rules only."""
sanitize_texts = DEFAULT.sanitize_texts
