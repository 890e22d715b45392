"""Signatures that are one failure, their common id and what they agree on, and why they are one.

Keys that agree in every token but one are one failure, once enough different values were seen in that place: the place
becomes a hole. Patterns with holes take part like keys, for some rounds. Each round is a function of a set, and
nothing is taken back: so the order of days cannot matter, and more data only ever merge clusters.
"""

from dataclasses import dataclass

import polars as pl

from pipelines.failures.closure import Closure, close


@dataclass(frozen=True, slots=True)
class Clusters:
    """The clusters of some signatures, and how they came about."""

    members: pl.DataFrame
    """signature_id, its cluster_id, and template: what the cluster's keys agree on, `<?>` where they differ."""
    _component_of: dict[str, int]
    _closure: Closure

    def merges(self, cluster_id: str) -> pl.DataFrame:
        """The holes that made a cluster: pattern, position (in tokens, from 0) and the values that were seen there."""
        edges = self._closure.edges
        of_it = self._closure.component[edges["pattern"].to_numpy()] == self._component_of[cluster_id]
        holes = edges.filter(of_it).group_by("pattern", "holes", "position").agg(values=pl.col("value").unique().sort())
        written = holes.with_columns(pl.col("pattern").map_elements(self._closure.text, pl.String))
        return written.sort("holes", "position", "pattern").drop("holes")


def cluster(signatures: pl.DataFrame) -> Clusters:
    """The clusters of signatures, given as signature_id, match_key and day, when it was seen; rows may repeat.

    A cluster's id is the signature id of its earliest member (day, then id), so that every id ever published is still
    that of a member.
    """
    seen = signatures.group_by("signature_id").agg(pl.col("match_key").first(), pl.col("day").min()).sort("match_key")
    key = seen["match_key"].rle_id()
    closure = close(seen["match_key"].filter(key.is_first_distinct()))
    component = pl.Series("component", closure.component[closure.node_of_key[key]])
    found = seen.with_columns(component).sort("signature_id")
    earliest = pl.col("signature_id").get(pl.col("day").arg_min()).over("component")
    named = found.with_columns(earliest.alias("cluster_id"))
    members = named.join(_templates(closure), on="component", how="left", maintain_order="left").select(
        "signature_id", "cluster_id", pl.coalesce("template", "match_key").alias("template")
    )
    component_of = dict(named.select("cluster_id", "component").unique().rows())
    return Clusters(members, component_of, closure)


def _templates(closure: Closure) -> pl.DataFrame:
    """The component and template of each component that has a pattern: one with most holes, which most keys fit."""
    sizes = closure.edges.group_by("pattern", "holes").len()
    of_it = sizes.with_columns(component=closure.component[sizes["pattern"].to_numpy()])
    widest = of_it.filter(pl.struct("holes", "len").rank("dense", descending=True).over("component") == 1)
    texts = widest.select("component", pl.col("pattern").map_elements(closure.text, pl.String).alias("template"))
    return texts.group_by("component").min()
