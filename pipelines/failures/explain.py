"""Why a failure is what it is: what was read and masked, what joined it with others, and why others are not with it."""

import re
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
import polars as pl

from pipelines.failures.classify import classify
from pipelines.failures.closure import ENOUGH, identifies, may_vary, patterns_of, tokenise, tokens_of
from pipelines.failures.cluster import Clusters
from pipelines.failures.fingerprint import identify, normalise, values
from pipelines.failures.words import EXCEPTION

_FACETS = ("exception_type", "http_status", "exit_code", "host", "tool", "provider")

Reason = Literal["signature", "cluster", "apart", "length", "places", "kept", "values", "absent"]


class Identity(NamedTuple):
    """What a failure is known by."""

    match_key: str
    signature_id: str


@dataclass(frozen=True, slots=True)
class Masked:
    """A value that a key leaves out: its type, as templates name it, and the text."""

    type: str
    text: str


@dataclass(frozen=True, slots=True)
class Merge:
    """A hole that joined members of a cluster: the pattern, its position in tokens from 0, and what was seen there."""

    pattern: str
    position: int
    values: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Join:
    """What joined members of a cluster, other than words: `together` of people with their reason, or `alias`."""

    joined_by: str
    signature_ids: tuple[str, ...]
    reason: str | None


@dataclass(frozen=True, slots=True)
class Explanation:
    """How one failure got its identity, its category and its cluster."""

    head: str
    facets: dict[str, str | None]
    """exception_type, http_status, exit_code, host, tool and provider, as far as the head tells them."""
    frames: tuple[str, ...]
    masked: tuple[Masked, ...]
    """In the order in which they stand."""
    template: str
    match_key: str
    signature_id: str
    category: str
    rule: str | None
    evidence: str | None
    cluster_id: str | None
    """None where the signature is in no cluster, as it was not seen yet."""
    apart: str | None
    """Why people keep it apart from what is like it, if they do."""
    merges: tuple[Merge, ...]
    joins: tuple[Join, ...]


@dataclass(frozen=True, slots=True)
class Comparison:
    """Whether two failures are one, and why or why not."""

    is_one: bool
    reason: Reason
    """The same signature or cluster; else kept apart by people, of other length, different in several places, in a
    place that is kept, in one where too few values were seen; or absent from the data."""
    sentence: str
    alike: int
    """How many tokens at the start are the same."""
    positions: tuple[int, ...] = ()
    """Where they differ, in tokens from 0; none where they are of other length."""
    seen: tuple[str, ...] = ()
    """The values in the only place where they differ, in keys that are the same in all others; both are among them."""


def identity_of(message: str, stack: str | None = None) -> Identity:
    """What a failure is known by, given as its text (`type: message`) and stack."""
    return Identity(*identify(pl.Series([message]), pl.Series([stack], dtype=pl.String)).row(0))


def why(
    message: str, stack: str | None = None, clusters: Clusters | None = None, published: Identity | None = None
) -> Explanation:
    """Explain a failure, given as its text (`type: message`) and stack; without clusters, up to its category.

    `published` is what it is known by where its stack, which may be part of that, is not kept.
    """
    texts = pl.Series([message]), pl.Series([stack], dtype=pl.String)
    told = normalise(*texts).row(0, named=True) | (published._asdict() if published else {})
    found = values(pl.Series([told["head"]])).row(0, named=True)
    kind = classify(pl.Series([told["match_key"]])).row(0, named=True)
    cluster_id = _cluster_of(told["signature_id"], clusters)
    entry = clusters.apart.get(told["signature_id"]) if clusters else None
    merges = clusters.merges(cluster_id).rows() if clusters and cluster_id else []
    joins = clusters.forced(cluster_id).rows() if clusters and cluster_id else []
    return Explanation(
        head=told["head"],
        facets={name: told[name] for name in _FACETS},
        frames=tuple(told["frames"] or ()),
        masked=tuple(map(Masked, found["type"], found["text"])),
        template=told["template"],
        match_key=told["match_key"],
        signature_id=told["signature_id"],
        category=kind["category"],
        rule=kind["rule"],
        evidence=kind["evidence"],
        cluster_id=cluster_id,
        apart=entry.reason if entry else None,
        merges=tuple(Merge(pattern, position, tuple(seen)) for pattern, position, seen in merges),
        joins=tuple(Join(by, tuple(ids), reason) for by, ids, reason in joins),
    )


def why_not(one: Identity, other: Identity, clusters: Clusters) -> Comparison:
    """Whether two failures are one among these clusters, and why or why not."""
    pair, ids = _Pair(one.match_key, other.match_key), [one.signature_id, other.signature_id]
    found = {_cluster_of(signature, clusters) for signature in ids}
    if ids[0] == ids[1]:
        return pair.told(f"Both are the signature {ids[0]}.", "signature", is_one=True)
    if len(found) == 1 and None not in found:
        return pair.told(f"Both are in the cluster {found.pop()}.", "cluster", is_one=True)
    for signature in ids:
        if signature in clusters.apart:
            return pair.told(f"People keep {signature} apart: {clusters.apart[signature].reason}", "apart")
    return _by_words(pair, clusters.closure.keys, absent=None in found)


class _Pair:
    """Two keys, and where they differ."""

    def __init__(self, one: str, other: str) -> None:
        self.keys = [one, other]
        self.one, self.other = tokens_of(one), tokens_of(other)
        both = zip(self.one, self.other, strict=False)
        self.differ = tuple(place for place, (a, b) in enumerate(both) if a.lower() != b.lower())
        self.alike = self.differ[0] if self.differ else min(len(self.one), len(self.other))

    def told(self, sentence: str, reason: Reason, seen: tuple[str, ...] = (), *, is_one: bool = False) -> Comparison:
        positions = self.differ if len(self.one) == len(self.other) else ()
        return Comparison(is_one, reason, sentence, self.alike, positions, seen)


def _by_words(pair: _Pair, known: pl.Series, *, absent: bool) -> Comparison:
    start = f"They are alike up to token {pair.alike}" if pair.alike else "They differ from the first token on"
    if len(pair.one) != len(pair.other):
        lengths = f"one has {len(pair.one)} tokens and the other {len(pair.other)}"
        return pair.told(f"{start}; {lengths}, and only keys of one length are compared.", "length")
    if len(pair.differ) > 1:
        places = ", ".join(f"`{pair.one[place]}` and `{pair.other[place]}` at {place}" for place in pair.differ)
        rule = "Keys that differ in one place are compared."
        return pair.told(f"{start}, and differ in {len(pair.differ)} places: {places}. {rule}", "places")
    return _in_one_place(pair, known, absent=absent) if pair.differ else pair.told(_ABSENT, "absent")


_ABSENT = "They would be one cluster, but not both are in the data."


def _in_one_place(pair: _Pair, known: pl.Series, *, absent: bool) -> Comparison:
    (place,) = pair.differ
    seen = _seen_at(place, pair.keys, known)
    both = pair.one[place], pair.other[place]
    where = f"They differ at {place} only, by `{both[0]}` and `{both[1]}`"
    for token in both:
        if token.lower() not in seen.values:
            kind = _kind(token, *pair.one[place + 1 : place + 2])
            return pair.told(f"{where}, and `{token}` is {kind}, which is never a variable.", "kept", seen.values)
    if seen.is_enough and absent:
        return pair.told(_ABSENT, "absent", seen.values)
    counted = f"{len(seen.values)} values were seen there, {seen.identifiers} of them identifiers"
    return pair.told(f"{where}: {counted}; {seen.needed}.", "values", seen.values)


@dataclass(frozen=True, slots=True)
class _Seen:
    """What may vary in one place of keys that agree in all others, how many of it identifies, and the words outside."""

    values: tuple[str, ...]
    identifiers: int
    words: int

    @property
    def is_enough(self) -> bool:
        """Whether the place becomes a hole."""
        counts = {True: self.identifiers, False: len(self.values)}
        return any(self.words >= rule.words and counts[rule.identifiers] >= rule.values for rule in ENOUGH)

    @property
    def needed(self) -> str:
        """What would be enough."""
        rules = [rule for rule in ENOUGH if self.words >= rule.words]
        if not rules:
            return f"fewer than {min(rule.words for rule in ENOUGH)} words are outside of it, which never is enough"
        needed = " or ".join(f"{rule.values} {'identifiers' if rule.identifiers else 'values'}" for rule in rules)
        return f"with {self.words} words outside of it, {needed} are needed"


def _seen_at(place: int, keys: list[str], known: pl.Series) -> _Seen:
    """What is in a place of all keys that agree elsewhere with the first of `keys`, which are as good as known."""
    all_keys = pl.concat([pl.Series("match_key", keys), known.rename("match_key")]).unique(maintain_order=True)
    patterns, row_of_key, _ = patterns_of(*tokenise(all_keys))
    own = row_of_key[:1]
    rows = np.flatnonzero(patterns.lengths == patterns.lengths[own])
    for position in range(int(patterns.lengths[own].item())):
        if position != place:
            rows = rows[patterns.at(rows, position) == patterns.at(own, position)]
    rows = rows[may_vary(patterns, rows, place)]
    words = patterns.words[own] - patterns.vocabulary.is_word[patterns.at(own, place)]
    said = patterns.vocabulary.tokens.gather(patterns.at(rows, place)).sort()
    return _Seen(tuple(said), int(identifies(patterns, rows, place).sum()), int(words.item()))


def _kind(token: str, following: str = "") -> str:
    """What a token is that never varies."""
    kinds = (
        (following == "=", "the name of a field"),
        (token.startswith("@"), "a frame of the stack"),
        (token.isdecimal(), "a status"),
        (re.fullmatch(EXCEPTION, token) is not None, "an exception"),
        (any(character.isalnum() for character in token), "a word that says what happened"),
    )
    return next((kind for fits, kind in kinds if fits), "a sign")


def _cluster_of(signature_id: str, clusters: Clusters | None) -> str | None:
    if clusters is None:
        return None
    found = clusters.members.filter(pl.col("signature_id") == signature_id)["cluster_id"]
    return str(found.item()) if len(found) else None
