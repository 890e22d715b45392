from datetime import UTC, datetime, timedelta

import polars as pl
import pytest

from pipelines.regression.reviews import REVIEW
from pipelines.regression.standing import end_of_chain, standing_reviews

START = datetime(2026, 3, 1, tzinfo=UTC)
JOINED = {"a": "a", "b": "a"}
APART = {"a": "a", "b": "b", "c": "c"}


def standing(cluster_of, *reviews):
    """The action that holds for each cluster; reviews are (id, action, signatures, target), a day apart."""
    told = [
        {
            "review_id": number,
            "reviewed_at": START + timedelta(days=number),
            "candidate_id": f"rc_{named}",
            "signature_ids": list(covers or named),
            "action": action,
            "merged_into": into and f"rc_{into}",
        }
        for number, (named, action, covers, into) in enumerate((*review, None, None)[:4] for review in reviews)
    ]
    held = standing_reviews(pl.DataFrame(told, schema=REVIEW), cluster_of)
    return {cluster_id: (review["action"], review["review_id"]) for cluster_id, review in held.items()}


@pytest.mark.parametrize(
    ("reviews", "held"),
    {
        "an approval outlives the rejection of what joined it": ([("a", "approve"), ("b", "reject")], ("approve", 0)),
        "and its retirement": ([("a", "approve"), ("b", "retire")], ("approve", 0)),
        "a merger into what it has become part of says nothing": (
            [("a", "approve"), ("b", "merge", None, "a")],
            ("approve", 0),
        ),
        "of two approvals the latest holds": ([("b", "approve"), ("a", "approve")], ("approve", 1)),
        "without an approval the latest word holds": ([("b", "retire"), ("a", "reject")], ("reject", 1)),
        "an approval that was taken back is none": (
            [("a", "approve"), ("a", "retire"), ("b", "reject")],
            ("reject", 2),
        ),
        "what was said of both as one holds for both": (
            [("a", "approve"), ("b", "approve"), ("a", "retire", "ab")],
            ("retire", 2),
        ),
        "what was merged into a retired test does not revive it": (
            [("b", "approve"), ("a", "approve"), ("b", "merge", None, "a"), ("a", "retire")],
            ("retire", 3),
        ),
    }.values(),
)
def test_what_holds_when_failures_have_become_one(reviews, held):
    assert standing(JOINED, *reviews) == {"a": held}


def test_what_was_said_of_a_failure_holds_for_all_ids_that_it_had_and_were_reviewed():
    reviews = [("b", "reject"), ("a", "approve", "ab")]
    assert standing(APART, *reviews) == {"a": ("approve", 1), "b": ("approve", 1)}
    assert standing(APART, ("a", "approve", "ab")) == {"a": ("approve", 0)}


def test_an_id_that_is_not_known_any_more_holds_for_the_cluster_that_it_leads_to():
    assert standing({"former": "b", "b": "b"}, ("former", "approve")) == {"b": ("approve", 0)}
    assert standing({"b": "b"}, ("former", "approve")) == {}


def test_only_mergers_into_another_cluster_are_told():
    merged = ("b", "merge", None, "a")
    assert standing(APART, merged) == {"b": ("merge", 0)}
    assert standing(JOINED, merged) == {}


@pytest.mark.parametrize(
    ("merges", "end"),
    [
        ({"a": "b"}, "b"),
        ({"a": "b", "b": "c"}, "c"),
        ({"a": None}, None),
        ({"a": "b", "b": None}, None),
        ({"a": "b", "b": "a"}, None),
        ({"a": "b", "b": "c", "c": "b"}, None),
    ],
)
def test_a_chain_of_mergers_ends_somewhere_or_nowhere(merges, end):
    assert end_of_chain("a", merges) == end
