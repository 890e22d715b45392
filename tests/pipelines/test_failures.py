import itertools
from datetime import UTC, date, datetime, timedelta

import polars as pl
import pytest
from conftest import as_frame, enter_day
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.execution import EXECUTION
from pipelines.failures import (
    CATEGORIES,
    FACTS,
    categorize_failures,
    derive_clusters,
    edge_times,
    publish_clusters,
    publish_signatures,
    read_facts,
    signature_facts,
)
from pipelines.failures.classify import UNKNOWN, categorize
from pipelines.failures.cluster import cluster
from pipelines.failures.fingerprint import fingerprint
from pipelines.failures.text import failure_text
from pipelines.warehouse.ledger import BusyError

NOON = datetime(2026, 3, 10, 12, tzinfo=UTC)


def failed(message, at=NOON, number=0, **overrides):
    return {
        "source": "app",
        "execution_id": f"r{number}",
        "row_hash": "0",
        "agent_id": "a",
        "agent_name": "a",
        "status": "failed",
        "error_message": message,
        "event_time": at,
        "cost_source": "unpriced",
        "quality_flags": [],
        **overrides,
    }


def facts(*rows):
    return signature_facts(as_frame(list(rows), EXECUTION))


def identity(*texts):
    return fingerprint(pl.Series(texts))["signature_id"].to_list()


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("timed out after 100 ms", "timed out after 2.5s"),
        ("no such file: /data/a/b.csv", "no such file: /var/lib/c.csv"),
        ("request 3a2d08fb-4150-41cc-94dd-6fcee24cfbdd lost", "request 0f2d08fb-4150-41cc-94dd-6fcee24cfbd1 lost"),
        ("model gpt-4o is overloaded", "model claude-sonnet-4 is overloaded"),
        ("mail to <email> bounced  twice", "mail to <email> bounced twice"),
        ("at 2026-03-10T10:00:00Z it broke", "at 2026-04-11 11:30:00.5 it broke"),
        (
            'Traceback (most recent call last):\n  File "a"\nValueError: no',
            "Traceback (most recent call last):\nValueError: no",
        ),
    ],
)
def test_what_varies_does_not_make_another_failure(one, other):
    first, second = identity(one, other)
    assert first == second


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("HTTP 429 from upstream", "HTTP 503 from upstream"),
        ("connection refused", "connection reset"),
        ("ValueError: no", "KeyError: no"),
        ("could not read the file", "could not write the file"),
    ],
)
def test_what_tells_failures_apart_stays(one, other):
    first, second = identity(one, other)
    assert first != second


words = st.text(st.characters(codec="utf-8"), max_size=80)


@settings(max_examples=80)
@given(st.lists(words, min_size=1, max_size=8))
def test_a_signature_depends_on_its_own_text_only(texts):
    together = identity(*texts)
    assert together == [identity(text)[0] for text in texts]
    assert identity(*texts[::-1]) == together[::-1]


def test_a_template_reads_well_and_keeps_the_http_status():
    told = fingerprint(pl.Series(["Error code: 503 - the model gpt-4o is overloaded (request id req_a1b2c3d4)"]))
    assert told["template"][0] == "Error code: <num> - the model <model> is overloaded (request id <id>) [HTTP 503]"


def test_a_failure_without_words_is_its_outcome():
    rows = as_frame([failed(None), failed(None, error_type="Boom"), failed("Boom: no", error_type="Boom")], EXECUTION)
    assert rows.select(failure_text()).to_series().to_list() == ["failed", "Boom", "Boom: no"]


@pytest.mark.parametrize(
    ("text", "category"),
    [
        ("Rate limit reached for gpt-4o", "rate_limit"),
        ("This model's maximum context length is 8192 tokens", "context_length"),
        ("Request timed out.", "ai_timeout"),
        ("401 Unauthorized", "auth"),
        ("Error code: 503 - overloaded", "provider_error"),
        ("connection refused by 10.0.0.x:5432", "network"),
        ("ModuleNotFoundError: No module named 'x'", "dependency_error"),
        ("SyntaxError: invalid syntax", "syntax_error"),
        ("1 validation error for Invoice", "validation_error"),
        ("tool search failed: no result", "tool_error"),
        ("something odd", "unknown"),
        (None, None),
    ],
)
def test_a_text_has_a_category(text, category):
    assert categorize(pl.Series([text], dtype=pl.String)).to_list() == [category]


def test_only_failures_have_a_category():
    rows = as_frame([failed("HTTP 429"), failed("HTTP 429", status="success")], EXECUTION)
    assert categorize_failures(rows).to_list() == ["rate_limit", None]


def test_every_category_has_a_name_of_its_own():
    names = [category.name for category in (*CATEGORIES, UNKNOWN)]
    assert len(names) == len(set(names))


def test_facts_of_a_day_tell_how_often_when_and_who():
    told = facts(
        failed("disk 7 is full", NOON + timedelta(hours=2), 1, user_key="u2", agent_version="2"),
        failed("disk 8 is full", NOON, 2, user_key="u1", agent_version="1"),
        failed("disk 8 is full", NOON + timedelta(hours=1), 3, user_key="u1"),
        failed("fine", NOON, 4, status="success"),
    ).row(0, named=True)
    assert told["occurrence_count"] == 3
    assert told["user_keys"] == ["u1", "u2"]
    assert told["agent_versions"] == ["1", "2"]
    assert (told["first_seen_at"], told["last_seen_at"]) == (NOON, NOON + timedelta(hours=2))
    assert told["sample_execution_ids"] == ["r2", "r3", "r1"]


@pytest.mark.parametrize("count", range(1, 9))
def test_the_edge_times_of_a_day_name_each_occurrence_once(count):
    times = [NOON + timedelta(minutes=n) for n in range(count)]
    told = facts(*(failed("boom", at, n) for n, at in enumerate(times))).select(edge_times()).to_series()[0].to_list()
    assert told == (times if count <= 5 else times[:3] + times[-2:])


def test_facts_have_their_schema_also_without_failures():
    assert facts().schema == FACTS
    assert facts(failed("x")).schema == FACTS


def test_three_different_words_in_one_place_are_one_failure_and_two_are_not():
    def keys(*names):
        return [f"could not open the table {name} because it is locked" for name in names]

    two, three = keys("orders", "users"), keys("orders", "users", "items")
    assert len(set(cluster(two).values())) == 2
    assert len(set(cluster(three).values())) == 1


def test_words_that_say_what_happened_are_never_a_variable():
    keys = [f"the connection to the main server was {word}" for word in ("refused", "reset", "denied", "closed")]
    assert len(set(cluster(keys).values())) == 4


sentences = st.lists(
    st.tuples(st.sampled_from(["open", "load"]), st.sampled_from("abcdefg"), st.sampled_from(["now", "then", "once"])),
    max_size=25,
).map(lambda rows: [f"could not {verb} the table {name} of the shop {when}" for verb, name, when in rows])


@settings(max_examples=150)
@given(sentences, sentences, st.randoms())
def test_clusters_have_no_order_and_more_data_only_merge_them(some, more, random):
    before, everything = cluster(some), some + more
    random.shuffle(everything)
    after = cluster(everything)
    assert after == cluster(some + more)
    for key in some:
        assert before[key] <= after[key]


def day_facts(day, *messages):
    at = datetime.combine(day, datetime.min.time(), tzinfo=UTC)
    return facts(*(failed(message, at + timedelta(minutes=n), n) for n, message in enumerate(messages)))


def test_a_clusters_id_is_its_earliest_member_so_that_every_id_resolves():
    days = [date(2026, 3, 10) + timedelta(days=n) for n in range(3)]
    names = ("orders", "users", "items")
    daily = [
        day_facts(day, f"could not open the table {name} of the shop") for day, name in zip(days, names, strict=True)
    ]
    first = daily[0]["signature_id"][0]
    told = derive_clusters(pl.concat(daily[::-1]))
    assert told.select("cluster_id", "occurrence_count", "day_count").rows() == [(first, 3, 3)]
    published = {identifier for n in (1, 2, 3) for identifier in derive_clusters(pl.concat(daily[:n]))["cluster_id"]}
    assert published <= set(told["signature_ids"][0])
    assert derive_clusters(pl.concat(daily)).equals(told)


def test_no_failures_make_no_clusters():
    assert derive_clusters(FACTS.to_frame()).height == 0


def test_published_facts_read_back_as_they_were(warehouse):
    rows = as_frame([failed("boom 1", number=1, user_key="u"), failed('é \\ "', number=2)], EXECUTION)
    facts = publish_signatures(enter_day(warehouse, NOON.date(), rows), warehouse)
    assert read_facts(warehouse).equals(facts)
    clusters = publish_clusters(warehouse)
    stored = warehouse.read("select cluster_id, occurrence_count from agentmill.failure_clusters order by 1").rows()
    assert stored == clusters.select("cluster_id", "occurrence_count").sort("cluster_id").rows()


def test_clusters_follow_the_days_they_were_derived_from(warehouse):
    def publish(content, *messages):
        rows = as_frame([failed(message, number=n) for n, message in enumerate(messages)], EXECUTION)
        publish_signatures(enter_day(warehouse, NOON.date(), rows, content), warehouse)
        return publish_clusters(warehouse).height

    assert publish("one", "boom", "bang: the disk is full") == 2
    assert publish("two", "boom") == 1
    assert warehouse.read("select count(*) from agentmill.failure_clusters").item() == 1


def test_clusters_of_facts_that_changed_meanwhile_are_not_published(warehouse, monkeypatch):
    def publish(content, *messages):
        rows = as_frame([failed(message, number=n) for n, message in enumerate(messages)], EXECUTION)
        publish_signatures(enter_day(warehouse, NOON.date(), rows, content), warehouse)

    publish("one", "boom")

    def read_while_another_publishes(warehouse):
        publish("two", "boom", "bang: the disk is full")
        return read_facts(warehouse)

    monkeypatch.setattr("pipelines.failures.read_facts", read_while_another_publishes)
    with pytest.raises(BusyError):
        publish_clusters(warehouse)
    monkeypatch.undo()
    assert publish_clusters(warehouse).height == 2


def test_failures_that_vary_in_many_words_are_told_apart_in_bounded_time():
    words = [[f"{name}{n}" for n in ("alpha", "beta", "gamma")] for name in "abcdefgh"]
    keys = [f"the request could not be completed because {' '.join(chosen)}" for chosen in itertools.product(*words)]
    assert len(set(cluster(keys).values())) == 1


def test_two_words_may_vary_together():
    keys = [f"tool {name} of the agent stopped at step {name}{n}" for name in ("ab", "cd", "ef") for n in "xyz"]
    assert len(set(cluster(keys).values())) == 1


@pytest.mark.parametrize(
    ("text", "category"),
    [
        ("Error code: 429 - slow down", "rate_limit"),
        ("Client error '503 Service down'", "provider_error"),
        ("failed at line 403", "unknown"),
        ("copied 500 of 900 files", "unknown"),
        ("bad option user_timeout_setting", "unknown"),
        ("APITimeoutError: no answer", "ai_timeout"),
        ("ReadTimeout: the pool is empty", "ai_timeout"),
        ("row 429 failed", "unknown"),
    ],
)
def test_numbers_tell_a_category_only_where_they_are_a_status(text, category):
    assert categorize(pl.Series([text])).to_list() == [category]
