import gzip
import json
import os
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import pytest
from conftest import DAY, NOW, as_frame

from pipelines.clean import CLEAN_EXECUTIONS, CleanReceipt, SourceCount, clean
from pipelines.execution import EXECUTION
from pipelines.extract import ExtractionError, extract, find_dirty_days
from pipelines.validate import MissingDayError, read_verdict, validate
from pipelines.validate.conservation import judge_conservation, judge_inputs, judge_quarantine
from pipelines.validate.expectations import RULES, judge_rows
from pipelines.validate.verdict import CHECKS, DayVerdict, Verdict, judge_gate

NOON = datetime(2026, 3, 10, 12, tzinfo=UTC)


def good(**overrides):
    return {
        "source": "app",
        "execution_id": "r1",
        "row_hash": "0" * 32,
        "agent_id": "a",
        "agent_name": "a",
        "status": "success",
        "event_time": NOON,
        "started_at": NOON,
        "completed_at": NOON,
        "duration_ms": 0,
        "cost_source": "unpriced",
        "quality_flags": [],
        **overrides,
    }


def judged(*rows, expected=None):
    frame = as_frame(list(rows), EXECUTION)
    return judge_rows(frame, DAY, frame.height if expected is None else expected)


def count(**overrides):
    given = {
        "source": "app",
        "received": 10,
        "clean": 10,
        "quarantined": {},
        "duplicates": 0,
        "conflicts": 0,
        "inputs": 1,
        "growing": 0,
    }
    return SourceCount(**{**given, **overrides})


def receipt(*counts):
    return CleanReceipt(day=DAY, key_id="k1", sources=list(counts), quarantine=[])


def test_good_rows_pass():
    errors, warnings = judged(good(), good(execution_id="r2", status="failed", error_type="Boom"))
    assert errors.passed
    assert warnings.passed


@pytest.mark.parametrize(
    ("rows", "says"),
    [
        ([good(), good()], "occurs once"),
        ([good(agent_id=None)], "are known"),
        ([good(event_time=datetime(2026, 3, 11, tzinfo=UTC))], "lies in its day"),
        ([good(started_at=datetime(2026, 3, 10, 13, tzinfo=UTC))], "does not end before it starts"),
        ([good(cost_usd=Decimal(1))], "exactly where it is unpriced"),
        ([good(error_message="boom")], "carries no error"),
        ([good(user_key="ann")], "pseudonyms"),
        ([good(input_tokens=1, cache_read_tokens=2)], "part of the input tokens"),
        ([good(duration_ms=-1)], "`duration_ms` is not negative"),
        ([good(status="limbo")], "status is canonical"),
    ],
)
def test_each_broken_rule_blocks_and_says_so(rows, says):
    errors, _ = judged(good(execution_id="r0", status="failed", error_type="x"), *rows)
    assert errors.blocks
    assert says in errors.message


def test_a_finding_names_executions_to_look_at():
    errors, _ = judged(good(), good(execution_id="r9", user_key="ann"))
    assert errors.findings[0].examples == ["r9"]
    assert (errors.findings[0].failed, errors.findings[0].of) == (1, 2)


def test_missing_rows_block():
    errors, _ = judged(good(), expected=2)
    assert errors.blocks


def test_failures_that_do_not_say_why_are_only_watched():
    errors, warnings = judged(good(status="failed"), good(execution_id="r2", status="failed"))
    assert errors.passed
    assert not warnings.passed
    assert not warnings.blocks


def test_every_rule_tells_true_from_false_and_never_null():
    frame = as_frame([good(), good(execution_id="r2", status="failed", error_type="Boom")], EXECUTION)
    for rule in RULES:
        concerned = frame if rule.applies is None else frame.filter(rule.applies)
        assert concerned.select(rule.holds).to_series().to_list() == [True] * concerned.height, rule.name


def test_lost_and_invented_records_block():
    assert judge_conservation(receipt(count(received=11)), [as_frame([good()] * 10, EXECUTION)]).blocks
    assert judge_conservation(receipt(count(clean=9, duplicates=1)), [as_frame([good()] * 8, EXECUTION)]).blocks
    told = judge_conservation(
        receipt(count(clean=8, duplicates=1, quarantined={"torn": 1})), [as_frame([good()] * 8, EXECUTION)]
    )
    assert told.passed
    assert told.message == "10 received = 8 clean + 1 quarantined + 1 duplicates"


def test_too_many_refused_records_block_unless_their_reason_is_tolerated(source):
    refused = receipt(count(received=100, clean=97, quarantined={"no_event_time": 3}))
    assert judge_quarantine(refused, [source()]).blocks
    assert judge_quarantine(refused, [source(max_quarantine_share=0.03)]).passed
    assert judge_quarantine(refused, [source(tolerate=["no_event_time"])]).passed
    assert judge_quarantine(receipt(count(received=0, clean=0)), [source()]).passed


def test_missing_and_growing_inputs_are_watched():
    assert not judge_inputs(receipt(count(inputs=0))).passed
    assert not judge_inputs(receipt(count(growing=1))).passed
    assert "app 3" in judge_inputs(receipt(count(unplaced=3))).message
    assert judge_inputs(receipt(count())).passed


def test_the_gate_lets_the_good_days_of_a_run_pass():
    bad = Verdict(check="conservation", severity="error", passed=False, message="lost")
    days = [DayVerdict(day=DAY, content=[], verdicts=[bad]), DayVerdict(day=DAY, content=[], verdicts=[])]
    assert judge_gate(days).passed
    assert "lost" in judge_gate(days).message
    assert judge_gate(days[:1]).blocks


def test_a_verdict_is_about_one_content_only(source, lake, key, prices, write_log, record):
    with pytest.raises(MissingDayError):
        validate(DAY, [source()], lake, prices)
    write_log(record())
    extract(source(), [DAY], lake, NOW)
    clean(DAY, [source()], lake, key, prices)
    told = validate(DAY, [source()], lake, prices)
    assert [verdict.check for verdict in told.verdicts] == [check.name for check in CHECKS]
    assert read_verdict(DAY, lake) == told
    write_log(record(), record())
    extract(source(), [DAY], lake, NOW)
    clean(DAY, [source()], lake, key, prices)
    assert lake.receipt(CLEAN_EXECUTIONS, DAY, CleanReceipt).rows == 2
    assert read_verdict(DAY, lake) is None


def test_an_empty_day_is_judged_too():
    errors, warnings = judged()
    assert errors.passed
    assert warnings.passed
    assert "no executions" in errors.message


def test_an_execution_that_stands_on_two_days_is_told_on_the_later_judged(source, lake, key, prices, write_log, record):
    write_log(
        record(id="moved", started="2026-03-09T23:00:00Z", ended=None),
        record(id="moved", started="2026-03-10T01:00:00Z", ended=None),
        record(id="other"),
    )
    days = [DAY - timedelta(days=1), DAY]
    extract(source(), days, lake, NOW)
    for day in days:
        clean(day, [source()], lake, key, prices)
    told = {one.check: one for one in validate(DAY, [source()], lake, prices).verdicts}["repeated_on_other_days"]
    assert not told.passed
    assert not told.blocks
    assert told.message == "1 executions stand on 2026-03-09 too, such as moved"


def test_an_optional_source_that_fails_leaves_the_day_incomplete_and_says_so(
    source, lake, key, prices, write_log, record
):
    write_log(record())
    good = source()

    def judged():
        for one in (good, broken):
            extract(one, [DAY], lake, NOW)
        counts = clean(DAY, [good, broken], lake, key, prices).sources
        told = {one.check: one for one in validate(DAY, [good, broken], lake, prices).verdicts}["inputs"]
        return [count.clean for count in counts], told.message

    folder = Path(good.path).parent
    broken = source(name="broken", path=f"{folder}/../other/*.ndjson.gz", optional=True)
    other = folder.parent / "other"
    other.mkdir()
    (other / "a.ndjson.gz").write_bytes(gzip.compress(json.dumps(record()).encode() + b"\n"))
    assert judged() == ([1, 1], "2 inputs read")
    (other / "a.ndjson.gz").write_bytes(b"no gzip")
    os.utime(other / "a.ndjson.gz", (0, 0))
    counts, message = judged()
    assert counts == [1, 1]
    assert "the day is incomplete, a source could not be read: broken" in message
    assert find_dirty_days(broken, lake, NOW, DAY) == {}
    with pytest.raises(ExtractionError):
        extract(source(name="broken", path=broken.path), [DAY], lake, NOW)
    (other / "a.ndjson.gz").write_bytes(gzip.compress(json.dumps(record()).encode() + b"\n"))
    assert find_dirty_days(broken, lake, NOW, DAY)[DAY].reason == "could not be read the last time"
    assert judged() == ([1, 1], "2 inputs read")
