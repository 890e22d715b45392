"""What all reviews come to for the failures of today: clusters merge, split and lose their earliest signature."""

from collections.abc import Mapping
from typing import Any

import polars as pl

PREFIX = "rc_"
"""What the id of a candidate begins with; the rest is the id of its failure."""

Review = dict[str, Any]


def as_signature(candidate_id: str) -> str:
    """The signature that a candidate's id names."""
    return candidate_id.removeprefix(PREFIX)


def standing_reviews(reviews: pl.DataFrame, cluster_of: Mapping[str, str]) -> dict[str, Review]:
    """The review that holds for each cluster of today about which anything was said.

    Of each id that was ever reviewed the last review counts that covers it: under that id, or while it was a signature
    of the failure that was reviewed. A merger into what is the same cluster today says nothing any more. If several
    are left, an approval holds, the latest of several: a test does not vanish because another failure turns out to be
    the same. Without one the latest review holds. `cluster_of` tells the cluster of today by signature.
    """
    last: dict[str, Review] = {}
    told = reviews.sort("reviewed_at", "review_id").rows(named=True)
    named = {as_signature(review["candidate_id"]) for review in told}
    for review in told:
        covered = {as_signature(review["candidate_id"]), *review["signature_ids"]}
        last.update(dict.fromkeys(covered & named, review))
    of_cluster: dict[str, list[Review]] = {}
    for signature_id, review in last.items():
        cluster_id = cluster_of.get(signature_id)
        if cluster_id is not None and merged_into(review, cluster_of) != cluster_id:
            of_cluster.setdefault(cluster_id, []).append(review)
    return {cluster_id: _holds(said) for cluster_id, said in of_cluster.items()}


def merged_into(review: Review, cluster_of: Mapping[str, str]) -> str | None:
    """The cluster of today that a review merges into; None where it merges into none, or into none that is known."""
    return cluster_of.get(as_signature(review["merged_into"])) if review["action"] == "merge" else None


def end_of_chain(cluster_id: str, merges: Mapping[str, str | None]) -> str | None:
    """Where the mergers that begin with a cluster end; None where they lead in a circle or to what is not known."""
    seen, place = {cluster_id}, merges[cluster_id]
    while place is not None and place in merges:
        if place in seen:
            return None
        seen.add(place)
        place = merges[place]
    return place


def _holds(said: list[Review]) -> Review:
    approvals = [review for review in said if review["action"] == "approve"]
    return max(approvals or said, key=lambda review: (review["reviewed_at"], review["review_id"]))
