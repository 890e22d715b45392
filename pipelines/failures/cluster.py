"""Signatures that are one failure, their common id and what they agree on, and why they are one.

Keys that agree in every token but one are one failure, once enough different values were seen in that place: the place
becomes a hole. Patterns with holes take part like keys, for some rounds. Each round is a function of a set, and
nothing is taken back: so the order of days cannot matter, and more data only ever merge clusters. People have the last
word: what they keep apart takes no part in that, and what they say is together is joined afterwards.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import polars as pl

from pipelines.failures.closure import Closure, Numbers, close, components
from pipelines.failures.overrides import NO_OVERRIDES, Apart, Overrides

_DECIDED = ("name", "category", "severity")
_FORCED = pl.Schema({"joined_by": pl.String(), "signature_ids": pl.List(pl.String()), "reason": pl.String()})


@dataclass(frozen=True, slots=True)
class Clusters:
    """The clusters of some signatures, and how they came about."""

    members: pl.DataFrame
    """signature_id, its cluster_id, and template: what the cluster's keys agree on, `<?>` where they differ."""
    closure: Closure
    apart: Mapping[str, Apart]
    """The signatures that people keep apart from what is like them, and what they said."""
    decided: pl.DataFrame
    """One row per cluster that people named or gave a category: cluster_id, name, category, severity; null where they
    did not. Of several decisions on its members, that on the cluster's own id holds, else on the least id."""
    _component_of: Mapping[str, int]
    _component: Numbers
    _forced: pl.DataFrame

    def merges(self, cluster_id: str) -> pl.DataFrame:
        """The holes that made a cluster: pattern, position (in tokens, from 0) and the values that were seen there.

        Not what people joined, which `forced` tells. Raises KeyError for an id that is no cluster's.
        """
        edges = self.closure.edges
        of_it = self._component[edges["pattern"].to_numpy()] == self._component_of[cluster_id]
        holes = edges.filter(of_it).group_by("pattern", "holes", "position").agg(values=pl.col("value").unique().sort())
        written = holes.with_columns(pl.col("pattern").map_elements(self.closure.text, pl.String))
        return written.sort("holes", "position", "pattern").drop("holes")

    def forced(self, cluster_id: str) -> pl.DataFrame:
        """What joined members of a cluster, other than their words: one row per decision of people, and per alias.

        joined_by (`together` or `alias`), signature_ids and, of people, their reason.
        """
        of_it = self.members.filter(pl.col("cluster_id") == cluster_id)["signature_id"].implode()
        return self._forced.filter(pl.col("signature_ids").list.first().is_in(of_it))


def cluster(
    signatures: pl.DataFrame, overrides: Overrides = NO_OVERRIDES, aliases: Mapping[str, str] | None = None
) -> Clusters:
    """The clusters of signatures, given as signature_id, match_key and day, when it was seen; rows may repeat.

    A cluster's id is the signature id of its earliest member (day, then id), so that every id ever published is still
    that of a member. `aliases` lead from a signature id to that of the same failure under other rules: both are one
    cluster, and what is decided about one holds for the other. Ids that are not in the data connect nothing.
    """
    current = alias_ends(aliases or {})
    seen = signatures.select("signature_id", "match_key", "day")
    if seen["signature_id"].n_unique() < seen.height:
        seen = seen.group_by("signature_id").agg(pl.col("match_key").first(), pl.col("day").min())
    seen = seen.with_columns(failure=pl.col("signature_id").replace(current)).sort("match_key")
    kept_apart = {current.get(entry.signature, entry.signature): entry for entry in overrides.apart}
    closure, component = _by_words(seen["match_key"], ~seen["failure"].is_in(list(kept_apart)))
    forced = _forced(seen, overrides, current)
    component = _joined(component, seen["signature_id"], forced["signature_ids"])
    found = seen.with_columns(component=component[len(closure.component) :]).sort("signature_id")
    earliest = pl.col("signature_id").get(pl.col("day").arg_min()).over("component")
    named = found.with_columns(earliest.alias("cluster_id"))
    members = named.join(_templates(closure, component), on="component", how="left", maintain_order="left").select(
        "signature_id", "cluster_id", pl.coalesce("template", "match_key").alias("template")
    )
    component_of = dict(named.select("cluster_id", "component").unique().rows())
    apart = found.filter(pl.col("failure").is_in(list(kept_apart))).select("signature_id", "failure").rows()
    return Clusters(
        members=members,
        closure=closure,
        apart={one: kept_apart[failure] for one, failure in apart},
        decided=_decided(named, overrides, current),
        _component_of=component_of,
        _component=component,
        _forced=forced,
    )


def _by_words(keys: pl.Series, is_free: pl.Series) -> tuple[Closure, Numbers]:
    """The closure over the sorted keys that are free, and the components of its nodes and then of all keys."""
    number = keys.filter(is_free).rle_id()
    closure = close(keys.filter(is_free).filter(number.is_first_distinct()))
    component = np.arange(len(closure.component) + len(keys))
    component[: len(closure.component)] = closure.component
    component[len(closure.component) + is_free.arg_true().to_numpy()] = closure.component[closure.node_of_key[number]]
    return closure, component


def _joined(component: Numbers, ids: pl.Series, groups: pl.Series) -> Numbers:
    """The components after those of grouped signatures became one. The last ones are those of `ids`, in their order."""
    pairs = pl.DataFrame({"one": groups.list.first(), "other": groups}).explode("other")
    places = pl.DataFrame({"id": ids, "component": component[len(component) - len(ids) :]})
    one, other = (
        pairs.join(places, left_on=name, right_on="id", maintain_order="left")["component"].to_numpy()
        for name in pairs.columns
    )
    return components(len(component), one, other)[component]


def _forced(seen: pl.DataFrame, overrides: Overrides, current: Mapping[str, str]) -> pl.DataFrame:
    """What joins signatures other than their words, in the shape of `Clusters.forced`."""
    named = {current.get(one, one) for entry in overrides.together for one in entry.signatures} | set(current.values())
    there = seen.filter(pl.col("failure").is_in(list(named))).group_by("failure").agg(pl.col("signature_id").sort())
    ids_of: dict[str, list[str]] = dict(there.rows())
    rows: list[tuple[str, list[str], str | None]] = [("alias", ids, None) for ids in ids_of.values() if len(ids) > 1]
    for entry in overrides.together:
        failures = {current.get(one, one) for one in entry.signatures} & ids_of.keys()
        if len(failures) > 1:
            rows.append(("together", sorted(one for failure in failures for one in ids_of[failure]), entry.reason))
    return pl.DataFrame(rows, schema=_FORCED, orient="row").sort("joined_by", "signature_ids", "reason")


def _decided(named: pl.DataFrame, overrides: Overrides, current: Mapping[str, str]) -> pl.DataFrame:
    """Names and categories by cluster, in the shape of `Clusters.decided`."""
    told: list[tuple[str | None, ...]] = [(entry.signature, entry.name, None, None) for entry in overrides.rename]
    told += [(entry.signature, None, entry.category, entry.told_severity) for entry in overrides.category]
    rows = pl.DataFrame(told, schema=dict.fromkeys(("failure", *_DECIDED), pl.String), orient="row")
    members = named.select("signature_id", "cluster_id", "failure")
    found = rows.with_columns(pl.col("failure").replace(current)).join(members, on="failure")
    return (
        found.sort(pl.col("signature_id") != pl.col("cluster_id"), "signature_id", *_DECIDED)
        .group_by("cluster_id")
        .agg(pl.col(_DECIDED).drop_nulls().first())
        .sort("cluster_id")
    )


def alias_ends(aliases: Mapping[str, str]) -> dict[str, str]:
    """Where each alias leads in the end; of a circle, to its least id."""
    ends = {}
    for start in aliases:
        walked = [start]
        while (following := aliases.get(walked[-1], walked[-1])) not in walked:
            walked.append(following)
        circle = walked[walked.index(following) :]
        ends[start] = min(circle)
    return ends


def _templates(closure: Closure, component: Numbers) -> pl.DataFrame:
    """The component and template of each component that has a pattern: one with most holes, which most keys fit."""
    sizes = closure.edges.group_by("pattern", "holes").len()
    of_it = sizes.with_columns(component=component[sizes["pattern"].to_numpy()])
    widest = of_it.filter(pl.struct("holes", "len").rank("dense", descending=True).over("component") == 1)
    texts = widest.select("component", pl.col("pattern").map_elements(closure.text, pl.String).alias("template"))
    return texts.group_by("component").min()
