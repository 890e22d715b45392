"""The closure by which keys become one failure, as arithmetic on arrays of token numbers.

A key is a row of tokens. Rows that agree in all places but one hash alike once that place is left out, so that one pass
per place finds them. Only hashes are compared, 64-bit sums of one hash per place and token (Zobrist, 1970): that among
a million keys two unlike rows fall together has a chance of about 1 to 100,000.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import polars as pl

from pipelines.failures.distinct import distinct_rows
from pipelines.failures.words import KEPT

Numbers = npt.NDArray[np.int64]
_Flags = npt.NDArray[np.bool_]
_Hashes = npt.NDArray[np.uint64]

HOLE = "<?>"
_WORDS_AND_SIGNS = r"<\*>|@?[^\x00-/:-@\[-^`{-\x7f]+(?:[.'@-]+[^\x00-/:-@\[-^`{-\x7f]+)*|[^\s0-9A-Za-z_]"
"""Letters, digits, and all that is not ASCII make words."""
_IDENTIFIER = r"[\pL\pN][._@-]+[\pL\pN]|\pN.|^<\*>$"
_MOST_WORDS_AND_SIGNS = 60
_MOST_HOLES = 3
"""Where everything varies, each hole more multiplies the patterns; real failures have been whole after two."""
_SIEVE_BITS = 2


@dataclass(frozen=True, slots=True)
class Enough:
    """How many values make a hole: with so many words outside of it, so many values, or values that are identifiers."""

    words: int
    values: int
    identifiers: bool = False


ENOUGH = (Enough(words=5, values=3), Enough(words=3, values=2, identifiers=True), Enough(words=2, values=6))
"""One of them suffices. Many words are one sentence sooner than few."""
_EDGES = {"member": pl.Int64, "pattern": pl.Int64, "holes": pl.Int64, "position": pl.Int64, "value": pl.Int64}


@dataclass(frozen=True, slots=True)
class Closure:
    """What became of some keys. Nodes are numbered: first the keys, then the patterns with holes, round by round."""

    keys: pl.Series
    node_of_key: Numbers
    component: Numbers
    """By node: the smallest node that is one failure with it."""
    edges: pl.DataFrame
    """One row per node and pattern with one hole more that it fits: member, pattern, how many holes that has, position
    of the hole (in tokens, from 0) and value, the token in it."""
    _key_of_node: Numbers
    _parent: dict[int, tuple[int, int]]

    def text(self, node: int) -> str:
        """A node as one of its keys is written, with its holes."""
        holes = set()
        while node in self._parent:
            node, position = self._parent[node]
            holes.add(position)
        written, rest = "", str(self.keys[int(self._key_of_node[node])])
        for position, token in enumerate(pl.Series([rest]).str.extract_all(_WORDS_AND_SIGNS)[0]):
            before, _, rest = rest.partition(token)
            written += before + (HOLE if position in holes else token)
        return written + rest


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """All tokens in lower case, and what each may do. The number after the last is the hole's."""

    tokens: pl.Series
    hashes: _Hashes
    is_word: _Flags
    is_kept: _Flags
    is_identifier: _Flags
    is_bare: _Flags
    is_equals_sign: _Flags
    is_colon: _Flags

    @property
    def hole(self) -> int:
        """The number of the hole."""
        return len(self.tokens)

    def parts(self, tokens: Numbers, places: Numbers) -> _Hashes:
        """What tokens at their places add to the hash of their rows."""
        return _mixed(self.hashes[tokens] + _PLACES[places])


@dataclass(frozen=True, slots=True)
class Patterns:
    """Distinct rows of tokens: all tokens one after the other and what each adds to its row's hash.

    By row where it starts there, its length, how many words it has, its hash and node.
    """

    vocabulary: Vocabulary
    tokens: Numbers
    parts: _Hashes
    starts: Numbers
    lengths: Numbers
    words: Numbers
    hashes: _Hashes
    nodes: Numbers

    def at(self, rows: Numbers, place: int) -> Numbers:
        """The tokens of rows at a place; -1, which is a hole, outside of a row."""
        inside = (self.lengths[rows] > place) & (place >= 0)
        return np.where(inside, self.tokens[np.where(inside, self.starts[rows] + place, 0)], -1)


def close(keys: pl.Series) -> Closure:
    """The closure over distinct, sorted keys."""
    vocabulary, tokens, lengths = tokenise(keys)
    patterns, node_of_key, key_of_node = patterns_of(vocabulary, tokens, lengths)
    count = len(patterns.nodes)
    edges = [pl.DataFrame(schema=_EDGES)]
    parent: dict[int, tuple[int, int]] = {}
    for holes in range(1, _MOST_HOLES + 1):
        found = [_agreeing(patterns, place) for place in range(int(patterns.lengths.max(initial=0)))]
        rows, hashes, values = (np.concatenate(column) for column in zip(_NOTHING, *found, strict=True))
        places = np.repeat(np.arange(len(found)), [len(one[0]) for one in found])
        general, first, which = np.unique(hashes, return_index=True, return_inverse=True)
        nodes = np.arange(count, count + len(general))
        columns = (patterns.nodes[rows], nodes[which], np.full(len(rows), holes), places, values)
        edges.append(pl.DataFrame(dict(zip(_EDGES, columns, strict=True)), schema=_EDGES))
        parent |= {
            node: (one, place)
            for node, one, place in zip(nodes.tolist(), columns[0][first].tolist(), places[first].tolist(), strict=True)
        }
        patterns = _with_hole(patterns, rows[first], places[first], general, nodes)
        count += len(general)
    joined = pl.concat(edges)
    component = components(count, joined["member"].to_numpy(), joined["pattern"].to_numpy())
    named = joined.with_columns(
        pl.concat([vocabulary.tokens, pl.Series([HOLE])]).gather(joined["value"]).alias("value")
    )
    return Closure(keys, node_of_key, component, named, key_of_node, parent)


def tokens_of(key: str) -> list[str]:
    """The tokens by which a key is compared, as it writes them."""
    return list(pl.Series([key]).str.extract_all(_WORDS_AND_SIGNS)[0].head(_MOST_WORDS_AND_SIGNS))


def tokenise(keys: pl.Series) -> tuple[Vocabulary, Numbers, Numbers]:
    """The vocabulary, the numbers of all keys' tokens one after the other, and how many each key has."""
    spaced = keys.str.split(" ")
    pieces, place = distinct_rows(spaced.list.explode().to_frame("piece"))
    which = place.to_numpy()
    lists = pieces["piece"].str.extract_all(_WORDS_AND_SIGNS)
    tokens = lists.list.explode(empty_as_null=False).str.to_lowercase()
    distinct = tokens.unique().sort()
    numbers = tokens.cast(pl.Enum(distinct)).to_physical().cast(pl.Int64).to_numpy()

    def flags(pattern: str, *, of_hole: bool = False) -> _Flags:
        return np.append(distinct.str.contains(pattern).to_numpy(), of_hole)

    vocabulary = Vocabulary(
        tokens=distinct,
        hashes=_mixed(np.arange(len(distinct) + 1)),
        is_word=flags(r"^\pL."),
        is_kept=flags(rf"{KEPT}|^[^\pL\pN<]$", of_hole=True),
        is_identifier=flags(_IDENTIFIER),
        is_bare=flags(r"^\w+$"),
        is_equals_sign=flags("^=$"),
        is_colon=flags("^:$"),
    )
    of_piece = lists.list.len().cast(pl.Int64).to_numpy()
    starts = np.cumsum(of_piece) - of_piece
    in_keys = np.concatenate([[0], np.cumsum(of_piece[which])])
    ends = in_keys[np.cumsum(spaced.list.len().to_numpy())]
    lengths = np.diff(ends, prepend=0)
    said = numbers[_in_a_row(starts[which], of_piece[which])]
    kept = np.minimum(lengths, _MOST_WORDS_AND_SIGNS)
    return vocabulary, said if np.array_equal(kept, lengths) else said[_in_a_row(ends - lengths, kept)], kept


def _in_a_row(starts: Numbers, lengths: Numbers) -> Numbers:
    """The places of stretches, one stretch after the other."""
    before = np.cumsum(lengths) - lengths
    shifts: Numbers = np.repeat(starts - before, lengths)
    return shifts + np.arange(len(shifts))


def patterns_of(vocabulary: Vocabulary, tokens: Numbers, lengths: Numbers) -> tuple[Patterns, Numbers, Numbers]:
    """The patterns of keys, the pattern of each key, a key of each pattern. Case and space make no difference."""
    ends = np.cumsum(lengths)
    starts = ends - lengths
    places = np.arange(len(tokens)) - np.repeat(starts, lengths)
    parts = vocabulary.parts(tokens, places)
    sums = np.concatenate([np.zeros(1, np.uint64), np.cumsum(parts)])
    words = np.concatenate([[0], np.cumsum(vocabulary.is_word[tokens])])
    hashes, first, node_of_key = np.unique(
        sums[ends] - sums[starts] + _mixed(~lengths), return_index=True, return_inverse=True
    )
    nodes = np.arange(len(hashes))
    words = (words[ends] - words[starts])[first]
    return Patterns(vocabulary, tokens, parts, starts[first], lengths[first], words, hashes, nodes), node_of_key, first


_NOTHING = (np.zeros(0, np.int64), np.zeros(0, np.uint64), np.zeros(0, np.int64))


def _agreeing(patterns: Patterns, place: int) -> tuple[Numbers, _Hashes, Numbers]:
    """The rows that agree but for a place where enough values make a hole; their hash with the hole; their values."""
    vocabulary = patterns.vocabulary
    rows = np.flatnonzero(patterns.lengths > place)
    at = patterns.starts[rows] + place
    hashes = patterns.hashes[rows] - patterns.parts[at]
    shared = _maybe_shared(hashes)
    rows, values, hashes = rows[shared], patterns.tokens[at[shared]], hashes[shared]
    free = may_vary(patterns, rows, place)
    rows, values = rows[free], values[free]
    hashes = hashes[free] + vocabulary.parts(np.array([vocabulary.hole]), np.array([place]))
    _, group, size = np.unique(hashes, return_inverse=True, return_counts=True)
    identifiers = np.bincount(group, weights=identifies(patterns, rows, place), minlength=len(size))
    words = patterns.words[rows] - vocabulary.is_word[values]
    enough = np.zeros(len(rows), np.bool_)
    for rule in ENOUGH:
        enough |= ((identifiers if rule.identifiers else size)[group] >= rule.values) & (words >= rule.words)
    return rows[enough], hashes[enough], values[enough]


def may_vary(patterns: Patterns, rows: Numbers, place: int) -> _Flags:
    """Whether the token of rows at a place may be a variable: it says not what happened, and no equals sign follows."""
    vocabulary = patterns.vocabulary
    named = vocabulary.is_equals_sign[patterns.at(rows, place + 1)]
    varies: _Flags = ~vocabulary.is_kept[patterns.at(rows, place)] & ~named
    return varies


def identifies(patterns: Patterns, rows: Numbers, place: int) -> _Flags:
    """Whether the token of rows at a place is an identifier, or the value of a field.

    What follows an equals sign is a value. A bare word before a colon is who speaks: it is an identifier only if more
    than a word.
    """
    vocabulary, values = patterns.vocabulary, patterns.at(rows, place)
    of_field = vocabulary.is_equals_sign[patterns.at(rows, place - 1)]
    speaks = vocabulary.is_colon[patterns.at(rows, place + 1)] & vocabulary.is_bare[values]
    identifies: _Flags = (vocabulary.is_identifier[values] & ~speaks) | of_field
    return identifies


def _maybe_shared(hashes: _Hashes) -> _Flags:
    """False for most hashes that occur once: those alone in one of four to eight times as many buckets."""
    buckets = (hashes >> np.uint64(64 - _SIEVE_BITS - len(hashes).bit_length())).astype(np.int64)
    return np.bincount(buckets)[buckets] > 1 if len(buckets) else np.zeros(0, np.bool_)


def _with_hole(patterns: Patterns, rows: Numbers, places: Numbers, hashes: _Hashes, nodes: Numbers) -> Patterns:
    """The rows with a hole at their place."""
    lengths = patterns.lengths[rows]
    vocabulary, starts = patterns.vocabulary, np.cumsum(lengths) - lengths
    taken = _in_a_row(patterns.starts[rows], lengths)
    tokens, parts, holes = patterns.tokens[taken], patterns.parts[taken], starts + places
    words = patterns.words[rows] - vocabulary.is_word[tokens[holes]]
    tokens[holes] = vocabulary.hole
    parts[holes] = vocabulary.parts(tokens[holes], places)
    return Patterns(vocabulary, tokens, parts, starts, lengths, words, hashes, nodes)


def components(count: int, one: Numbers, other: Numbers) -> Numbers:
    """The smallest node that each node is connected with: labels sink along edges and by pointer jumping."""
    label = np.arange(count)
    while True:
        least = np.minimum(label[one], label[other])
        lower = label.copy()
        np.minimum.at(lower, label[one], least)
        np.minimum.at(lower, label[other], least)
        while not np.array_equal(lower, lower[lower]):
            lower = lower[lower]
        lower = lower[label]
        if np.array_equal(lower, label):
            return label
        label = lower


def _mixed(numbers: Numbers | _Hashes) -> _Hashes:
    """Each number scattered over 64 bits: the finalizer of SplitMix64 (Steele, Lea and Flood, 2014)."""
    mixed = numbers.astype(np.uint64) + np.uint64(0x9E3779B97F4A7C15)
    mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return mixed ^ (mixed >> np.uint64(31))


_PLACES = _mixed(np.arange(_MOST_WORDS_AND_SIGNS))
"""What tells places in a row apart."""
