from datetime import UTC, date, datetime, timedelta

import polars as pl
import pytest
from conftest import as_frame, enter_day

from pipelines.anonymize.text import DEFAULT
from pipelines.execution import EXECUTION
from pipelines.failures import publish_clusters
from pipelines.failures.fingerprint import RULES_VERSION
from pipelines.failures.shadow import TEXTS, adopt, compare, read_aliases, run_shadow
from pipelines.publication import publish_derived

NOON = datetime(2026, 3, 10, 12, tzinfo=UTC)
DISK, FUEL = "the disk of the machine is full", "there is no fuel left in the car"


def texts(*rows):
    """(signature, text, occurrences)"""
    told = [(date(2026, 3, 10), signature, text, None, count) for signature, text, count in rows]
    return pl.DataFrame(told, schema=TEXTS, orient="row")


def kinds(shadow):
    return shadow.changes.select("kind", "cluster_id", "occurrence_count").rows()


def test_rules_that_change_nothing_but_ids_have_aliases_and_no_changes():
    shadow = compare(texts(("s1", DISK, 3), ("s2", FUEL, 2)), {"s1": "s1", "s2": "s2"})
    assert kinds(shadow) == []
    assert (shadow.occurrence_count, shadow.moved_count) == (5, 0)
    assert shadow.aliases["old_signature_id"].to_list() == ["s1", "s2"]


def test_a_cluster_in_two_is_split_and_its_smaller_part_is_moved():
    shadow = compare(texts(("s1", DISK, 3), ("s1", FUEL, 2)), {"s1": "s1"})
    assert kinds(shadow) == [("split", "s1", 3), ("split", "s1", 2)]
    assert shadow.moved_count == 2
    (alias,) = shadow.aliases.rows()
    assert alias[2] == 3, "the successor is what most occurrences have"


def test_two_clusters_in_one_are_merged():
    shadow = compare(texts(("s1", DISK, 3), ("s2", DISK, 2)), {"s1": "s1", "s2": "s2"})
    assert kinds(shadow) == [("merged", "s1", 3), ("merged", "s2", 2)]
    assert shadow.moved_count == 0


def test_what_leaves_one_cluster_for_another_is_split_and_merged():
    shadow = compare(texts(("s1", DISK, 5), ("s1", FUEL, 1), ("s2", FUEL, 4)), {"s1": "s1", "s2": "s2"})
    assert ("split and merged", "s1", 1) in kinds(shadow)
    assert shadow.moved_count == 1


def test_the_order_of_texts_does_not_matter():
    told = texts(("s1", DISK, 5), ("s1", FUEL, 1), ("s2", FUEL, 4), ("s3", "boom", 1))
    one, other = (compare(rows, {"s1": "s1", "s2": "s1"}) for rows in (told, told.reverse()))
    assert one.changes.equals(other.changes)
    assert one.aliases.equals(other.aliases)


@pytest.fixture
def published(warehouse, prices):
    rows = [
        {
            "source": "app",
            "execution_id": f"r{number}",
            "row_hash": "0",
            "agent_id": "a",
            "agent_name": "a",
            "status": "failed",
            "error_message": message,
            "event_time": NOON + timedelta(minutes=number),
            "cost_source": "unpriced",
            "quality_flags": [],
        }
        for number, message in enumerate([DISK, DISK, FUEL])
    ]
    publish_derived(enter_day(warehouse, NOON.date(), as_frame(rows, EXECUTION)), warehouse, prices)
    publish_clusters(warehouse)
    return warehouse


def test_the_rules_that_published_it_change_nothing(published):
    shadow = run_shadow(published)
    assert (shadow.changes.height, shadow.aliases.height) == (0, 0)
    assert (shadow.occurrence_count, shadow.sampled_count) == (3, 3), "executions are not published: samples tell"


def test_new_rules_find_old_ids_once_the_change_is_adopted(published, monkeypatch):
    before = published.read("select signature_id, cluster_id from agentmill.failure_cluster_signatures").rows()
    monkeypatch.setattr("pipelines.failures.fingerprint.RULES_VERSION", RULES_VERSION + 1)
    shadow = run_shadow(published)
    assert (shadow.changes.height, shadow.aliases.height) == (0, 2)
    assert adopt(published, shadow, "kim", "read by me@example.org", DEFAULT) == 2
    aliases = read_aliases(published)
    assert aliases.keys() == {signature for signature, _ in before}
    assert not set(aliases.values()) & aliases.keys()
    reasons = published.read("select distinct reason from agentmill.signature_aliases").to_series()
    assert reasons.to_list() == ["read by <email>"]


def test_what_only_a_stack_tells_apart_is_not_judged_by_a_sample_without_it(warehouse, prices):
    frame = 'Traceback (most recent call last):\n  File "/app/{}.py", line 1, in load\n    x()\nKeyError: 7'
    rows = [
        {
            "source": "app",
            "execution_id": name,
            "row_hash": "0",
            "agent_id": "a",
            "agent_name": "a",
            "status": "failed",
            "error_message": "KeyError: 7",
            "stack": frame.format(name),
            "event_time": NOON,
            "cost_source": "unpriced",
            "quality_flags": [],
        }
        for name in ("one", "two")
    ]
    publish_derived(enter_day(warehouse, NOON.date(), as_frame(rows, EXECUTION)), warehouse, prices)
    publish_clusters(warehouse)
    assert warehouse.read("select count(*) from agentmill.failure_clusters").item() == 2
    shadow = run_shadow(warehouse)
    assert (shadow.occurrence_count, shadow.aliases.height, shadow.changes.height) == (0, 0, 0)
