"""Which severe failures a version has that were not there before it, or not in another version."""

from dataclasses import dataclass
from datetime import date

import polars as pl

from pipelines.failures.life import MUTED, RESOLVED

SEVERE = "high"

FACTS = pl.Schema(
    {
        "day": pl.Date(),
        "signature_id": pl.String(),
        "environment": pl.String(),
        "release": pl.String(),
        "agent_id": pl.String(),
        "agent_version": pl.String(),
    }
)
"""Grain: signature, environment, release, agent and version; `day` is its first."""
DAYS = pl.Schema({"day": pl.Date(), "agent_id": pl.String(), "agent_version": pl.String(), "environment": pl.String()})
"""Grain: agent, version and environment with an execution; `day` is its first."""
CLUSTERS = pl.Schema(
    {"cluster_id": pl.String(), "severity": pl.String(), "title": pl.String(), "template": pl.String()}
)
"""Grain: cluster."""


@dataclass(frozen=True)
class Release:
    """What is known of releases: failure facts, when versions ran, and clusters, as in the schemas above."""

    facts: pl.DataFrame
    days: pl.DataFrame
    clusters: pl.DataFrame

    def within(self, environment: str | None) -> "Release":
        """What of it is of an environment; all of it where none is named."""
        if environment is None:
            return self
        wanted = pl.col("environment") == environment
        return Release(self.facts.filter(wanted), self.days.filter(wanted), self.clusters)

    def first_days(self, version: str) -> pl.DataFrame:
        """`agent_id` and `first_day` of each agent that ran the version, by its own version or by the release."""
        ran = [frame.filter(is_of(version, frame)).select("agent_id", "day") for frame in (self.days, self.facts)]
        return pl.concat(ran).group_by("agent_id").agg(pl.col("day").min().alias("first_day"))


@dataclass(frozen=True, slots=True)
class Comparison:
    """The severe failures of a version that are new, as `cluster_id` and `text`, and what they were compared with."""

    new: pl.DataFrame
    first_day: date | None = None
    """The version's first; null where it has not run."""
    has_before: bool = False
    """Whether there was anything to compare with: executions of the same agents."""


def compare_failures(
    release: Release, signatures: pl.DataFrame, states: pl.DataFrame, version: str, baseline: str | None
) -> Comparison:
    """Compare the failures of a version with those of a baseline.

    Only agents that ran the version are looked at. Without a baseline it is compared with all that an agent did before
    the version's first day there; without anything to compare with, nothing is new then. What is resolved or muted in
    every environment of `states` is settled and not new.
    """
    first = release.first_days(version)
    facts = release.facts.join(first, on="agent_id", nulls_equal=True).join(signatures, on="signature_id")
    days = release.days.join(first, on="agent_id", nulls_equal=True)
    before = facts.filter(_is_before(baseline, facts))
    has_before = not (before.is_empty() and days.filter(_is_before(baseline, days)).is_empty())
    new = facts.filter(is_of(version, facts)).select("cluster_id").unique().join(before, on="cluster_id", how="anti")
    new = new.join(_settled(states), on="cluster_id", how="anti")
    severe = release.clusters.filter(pl.col("severity") == SEVERE).join(new, on="cluster_id", how="semi")
    if not has_before and baseline is None:
        severe = severe.clear()
    title = pl.when(pl.col("title") != "").then("title").otherwise("template")
    told = severe.select("cluster_id", text=title).sort("cluster_id")
    return Comparison(told, first["first_day"].min(), has_before)  # type: ignore[arg-type]


def is_of(version: str, frame: pl.DataFrame) -> pl.Expr:
    """Whether a row is of a version, which is an agent's version or, where the frame tells it, a release."""
    names = [name for name in ("agent_version", "release") if name in frame.columns]
    return pl.any_horizontal((pl.col(name) == version).fill_null(value=False) for name in names)


def _is_before(baseline: str | None, frame: pl.DataFrame) -> pl.Expr:
    return pl.col("day") < pl.col("first_day") if baseline is None else is_of(baseline, frame)


def _settled(states: pl.DataFrame) -> pl.DataFrame:
    """Clusters that are resolved or muted wherever they occurred."""
    told = states.group_by("cluster_id").agg(pl.col("state").is_in([RESOLVED, MUTED]).all().alias("is_settled"))
    return told.filter("is_settled").select("cluster_id")
