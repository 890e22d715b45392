import polars as pl
import pytest

from pipelines.failures.cluster import cluster
from pipelines.failures.explain import Join, Masked, Merge, identity_of, why, why_not
from pipelines.failures.fingerprint import identify
from pipelines.failures.overrides import NO_OVERRIDES, Overrides

LOCKED = "could not open the table {} because it is locked"
STACK = 'Traceback (most recent call last):\n  File "/srv/app/{}.py", line 8, in step\n    x()\n'


def identity(text):
    return identify(pl.Series([text]))["signature_id"].item()


def seen(*texts, overrides=NO_OVERRIDES, aliases=None):
    return cluster(identify(pl.Series(texts, dtype=pl.String)).with_columns(day=pl.lit(0)), overrides, aliases)


def decided(**lists):
    return Overrides.model_validate({name: [{"reason": "another team", **entry}] for name, entry in lists.items()})


def test_a_failure_is_explained_from_its_text_to_its_category():
    told = why("openai.RateLimitError: Error code: 429 - ann@<secret:aws2> of tool search waits 3 ms\n\nfor 'a b'")
    assert told.head == "openai.RateLimitError: Error code: 429 - ann@<secret:aws2> of tool search waits 3 ms for 'a b'"
    assert told.masked == (
        Masked("<num>", "429"),
        Masked("<secret:aws2>", "<secret:aws2>"),
        Masked("<duration>", "3 ms"),
        Masked("<text>", "'a b'"),
    )
    facets = {"exception_type": "RateLimitError", "http_status": "429", "provider": "openai", "tool": "search"}
    assert {name: value for name, value in told.facets.items() if value} == facets
    assert told.template.startswith("RateLimitError: Error code: <num> - ann@<secret:aws2> of tool search waits <dur")
    assert told.match_key == "RateLimitError: Error code: <*> of tool search waits <*> for <*> [HTTP 429]"
    assert told.signature_id == identity(told.head)
    assert (told.category, told.rule, told.evidence) == ("rate_limit", "rate_limit.status", "[HTTP 429]")
    assert (told.cluster_id, told.merges, told.joins, told.apart) == (None, (), (), None)


def test_frames_that_make_a_key_are_told():
    told = why("KeyError: 'total'", STACK.format("runner"))
    assert told.frames == ("runner.step",)
    assert told.match_key == "KeyError: <*> @runner.step"


def test_a_failure_is_explained_by_what_made_its_cluster():
    together = decided(together={"signatures": [identity("the disk is full"), identity(LOCKED.format("users"))]})
    clusters = seen(*map(LOCKED.format, ("orders", "users", "items")), "the disk is full", overrides=together)
    told = why(LOCKED.format("users"), None, clusters)
    assert told.cluster_id == clusters.members["cluster_id"].unique().item()
    assert told.merges == (Merge(LOCKED.format("<?>"), 5, ("items", "orders", "users")),)
    ids = tuple(sorted([identity("the disk is full"), identity(LOCKED.format("users"))]))
    assert told.joins == (Join("together", ids, "another team"),)


def test_a_failure_that_people_keep_apart_says_why():
    apart = decided(apart={"signature": identity(LOCKED.format("users"))})
    clusters = seen(*map(LOCKED.format, ("orders", "users", "items")), overrides=apart)
    assert why(LOCKED.format("users"), None, clusters).apart == "another team"
    assert why(LOCKED.format("items"), None, clusters).apart is None


@pytest.mark.parametrize(
    ("one", "other", "others", "reason", "says"),
    [
        ("disk 7 is full", "disk 8 is full", [], "signature", "Both are the signature"),
        (
            LOCKED.format("users"),
            LOCKED.format("items"),
            [LOCKED.format("carts")],
            "cluster",
            "Both are in the cluster",
        ),
        (
            "the disk is full",
            "the disk is full again",
            [],
            "length",
            "They are alike up to token 4; one has 4 tokens and the other 5, and only",
        ),
        (
            "the disk of ann is full",
            "the tape of bob is full",
            [],
            "places",
            "up to token 1, and differ in 2 places: `disk` and `tape` at 1, `ann` and `bob` at 3.",
        ),
        (
            "the connection to it was refused",
            "the connection to it was reset",
            [],
            "kept",
            "They differ at 5 only, by `refused` and `reset`, and `refused` is a word that says what happened",
        ),
        ("HTTP 429 from it", "HTTP 503 from it", [], "kept", "and `429` is a status, which is never a variable"),
        ("ValueError: no luck", "KeyError: no luck", [], "kept", "and `ValueError` is an exception"),
        ("no lock for owner=7 at all", "no lock for holder=7 at all", [], "kept", "`owner` is the name of a field"),
        ("lost the queue (again", "lost the queue [again", [], "kept", "`(` is a sign"),
        (
            LOCKED.format("users"),
            LOCKED.format("items"),
            ["the disk is full"],
            "values",
            "2 values were seen there, 0 of them identifiers; with 9 words outside of it, 3 values or 2 identifiers",
        ),
        (
            "lost ab again",
            "lost cd again",
            ["lost ef again"],
            "values",
            "3 values were seen there, 0 of them id",
        ),
        ("lost ab", "lost cd", [], "values", "fewer than 2 words are outside of it"),
    ],
)
def test_two_failures_are_one_or_not_for_a_reason(one, other, others, reason, says):
    told = why_not(identity_of(one), identity_of(other), seen(one, other, *others))
    assert told.reason == reason
    assert says in told.sentence
    assert told.is_one == (reason in {"signature", "cluster"})
    assert told.sentence.endswith(".")


def test_a_frame_is_never_a_variable():
    one, other = (f"{STACK.format(name)}KeyError: 'x'" for name in ("runner", "reader"))
    told = why_not(identity_of(one), identity_of(other), seen(one, other))
    assert told.reason == "kept"
    assert "`@runner.step` is a frame of the stack, which is never a variable." in told.sentence


USERS, ITEMS = (identity_of(LOCKED.format(name)) for name in ("users", "items"))


def test_what_people_keep_apart_is_told_before_words():
    apart = decided(apart={"signature": identity(LOCKED.format("users"))})
    clusters = seen(*map(LOCKED.format, ("orders", "users", "items")), overrides=apart)
    told = why_not(USERS, ITEMS, clusters)
    assert (told.is_one, told.reason) == (False, "apart")
    assert told.sentence == f"People keep {identity(LOCKED.format('users'))} apart: another team"


def test_a_failure_that_was_not_seen_would_be_one_with_its_like():
    told = why_not(USERS, ITEMS, seen(*map(LOCKED.format, ("users", "carts"))))
    assert (told.is_one, told.reason, told.seen) == (False, "absent", ("carts", "items", "users"))
    few = why_not(USERS, ITEMS, seen(LOCKED.format("users")))
    assert (few.reason, few.seen) == ("values", ("items", "users"))
    again = seen(*map(LOCKED.format, ("users", "carts", "items")))
    assert why_not(USERS, ITEMS, again).is_one


def test_the_reason_of_too_few_values_is_the_rule_by_which_clusters_are_made():
    names = "ab cd ef gh ij kl mn".split()
    for count in range(2, 8):
        texts = [f"lost {name} again" for name in names[:count]]
        told = why_not(identity_of(texts[0]), identity_of(texts[1]), seen(*texts))
        assert told.is_one == (seen(*texts).members["cluster_id"].n_unique() == 1)
        assert told.is_one or told.seen == tuple(names[:count])
