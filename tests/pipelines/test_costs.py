from datetime import UTC, datetime
from decimal import Decimal

import pytest
from conftest import DAY, NOW, as_frame

from pipelines.clean import clean
from pipelines.execution import EXECUTION
from pipelines.extract import extract
from pipelines.validate import validate
from pipelines.validate.costs import judge_costs


def ran(number, usd=None, **overrides):
    """An execution that costs 0.00045 USD by the price book."""
    return {
        "source": "app",
        "execution_id": f"r{number:02}",
        "model": "gpt-4o",
        "event_time": datetime(2026, 3, 10, 12, tzinfo=UTC),
        "input_tokens": 100,
        "output_tokens": 20,
        "cost_usd": None if usd is None else Decimal(usd),
        "cost_source": "unpriced" if usd is None else "provided",
        **overrides,
    }


@pytest.fixture
def judged(source, prices):
    return lambda *rows, **overrides: judge_costs(as_frame(list(rows), EXECUTION), [source(**overrides)], prices)


def test_costs_are_counted_by_origin_and_unpriced_ones_by_reason(judged):
    told = judged(
        ran(1, "0.00045"),
        ran(2, "0.00046"),
        ran(3, "0.00045", cost_source="computed"),
        ran(4, model="foo"),
        ran(5, model="foo"),
        ran(6, model="bar"),
        ran(7, model=None),
        ran(8, output_tokens=None),
        ran(9, model="gpt-4-turbo", cache_read_tokens=1),
    )
    assert told.passed
    assert told.message == (
        "2 provided, 1 computed, 6 unpriced (unknown model 3: foo and bar, no model 1, no price for a kind 1, "
        "no tokens 1); 0 of 2 comparable costs deviate by more than 5%; "
        "0.0009 USD provided where 0.0009 are computed"
    )
    assert told.figures == {
        "provided": 2,
        "computed": 1,
        "unpriced": 6,
        "comparable": 2,
        "deviating": 0,
        "provided_usd": pytest.approx(0.00091),
        "computed_usd": pytest.approx(0.0009),
    }


def test_costs_that_deviate_warn_and_name_the_models_with_their_ratio(judged):
    good = [ran(n, "0.00045") for n in range(20)]
    wrong = [ran(30, "0.45"), ran(31, "0.45"), ran(32, "0", model="gpt-4o-2024-11-20"), ran(33, "0.00001", model="foo")]
    told = judged(*good, *wrong)
    assert not told.passed
    assert not told.blocks
    assert told.message.endswith(
        "gpt-4o is provided at 1000.00 times the computed cost: 2 of 22; "
        "gpt-4o-2024-11-20 is provided at 0.00 times the computed cost: 1 of 1"
    )
    assert told.findings[0].examples == ["r30", "r31"]
    assert (told.figures["comparable"], told.figures["deviating"]) == (23, 3)


@pytest.mark.parametrize(
    ("good", "wrong", "passed"), [(18, 2, True), (17, 3, False), (16, 3, True), (0, 19, True), (0, 20, False)], ids=str
)
def test_more_than_a_tenth_of_at_least_twenty_must_deviate(judged, good, wrong, passed):
    rows = [ran(n, "0.00045") for n in range(good)] + [ran(n + good, "1") for n in range(wrong)]
    assert judged(*rows).passed is passed


@pytest.mark.parametrize(
    ("usd", "tokens", "deviating"),
    [
        ("0.000473", 100, 1),
        ("0.000472", 100, 0),
        ("0.000427", 100, 1),
        ("0.000428", 100, 0),
        ("0.000001", 0, 0),
        ("0.0000011", 0, 1),
    ],
    ids=str,
)
def test_a_twentieth_and_a_millionth_of_a_dollar_are_tolerated(judged, usd, tokens, deviating):
    row = ran(1, usd, input_tokens=tokens, output_tokens=20 if tokens else 0)
    assert judged(row).figures["deviating"] == deviating


def test_what_is_computed_to_cost_nothing_has_no_ratio(judged):
    told = judged(*[ran(n, "1", input_tokens=0, output_tokens=0) for n in range(20)])
    assert "gpt-4o is provided at what is computed to cost nothing: 20 of 20" in told.message


def test_a_source_that_declines_is_neither_computed_nor_compared(judged):
    told = judged(ran(1, "1"), ran(2), compute_cost=False)
    assert "1 provided, 0 computed, 1 unpriced (not computed for the source 1); 0 of 0 comparable" in told.message


def test_an_execution_that_a_newer_price_book_knows_is_told(judged):
    assert "1 unpriced (priced by now, run the day again 1)" in judged(ran(1)).message


def test_a_day_without_executions_has_no_costs(judged):
    told = judged()
    assert told.passed
    assert told.figures["provided_usd"] == 0.0


def test_a_cleaned_day_is_priced_and_told(source, lake, key, prices, write_log, record):
    write_log(record(cost=None), record(cost=0.00045), record(cost=None, model="foo"))
    extract(source(), [DAY], lake, NOW)
    receipt = clean(DAY, [source()], lake, key, prices)
    rows = lake.read(receipt.parts[0]).sort("execution_id")
    assert rows["cost_source"].to_list() == ["computed", "provided", "unpriced"]
    assert rows["cost_usd"].to_list() == [Decimal("0.00045"), Decimal("0.00045"), None]
    told = {one.check: one for one in validate(DAY, [source()], lake, prices).verdicts}
    assert told["costs"].message.startswith("1 provided, 1 computed, 1 unpriced (unknown model 1: foo); 0 of 1")
    assert told["expectations"].passed
