from decimal import Decimal

import polars as pl
import pytest

from pipelines.sources.casting import to_booleans, to_integers, to_money, to_text


@pytest.mark.parametrize(
    ("written", "read"),
    [
        ("12", 12),
        ("12.0", 12),
        ("1e3", 1000),
        ("-0", 0),
        ("12.5", None),
        ("abc", None),
        ("NaN", None),
        (str(2**63 - 1), 2**63 - 1),
        (str(2**63), None),
        (str(-(2**63)), -(2**63)),
        ("18446744073709551616", None),
        (None, None),
    ],
)
def test_whole_numbers_are_read_without_loss_or_not_at_all(written, read):
    assert to_integers(pl.Series([written], dtype=pl.String))[0] == read


def test_unsigned_numbers_never_wrap():
    assert to_integers(pl.Series([1, 2**64 - 1], dtype=pl.UInt64)).to_list() == [1, None]


@pytest.mark.parametrize(
    ("written", "read"),
    [("0.1", "0.1"), ("1.2e-05", "0.000012"), ("NaN", None), ("1e400", None), ("9" * 20, None), ("x", None)],
)
def test_money_is_exact_and_finite(written, read):
    amount = to_money(pl.Series([written]))[0]
    assert amount == (None if read is None else Decimal(read))


def test_money_from_floats_is_rounded_not_spoilt():
    assert to_money(pl.Series([0.1 + 0.2, float("nan")])).to_list() == [Decimal("0.3"), None]


def test_booleans_in_their_spellings():
    assert to_booleans(pl.Series(["true", "False", "1", "no", "perhaps", None])).to_list() == [
        True,
        False,
        True,
        False,
        None,
        None,
    ]


def test_nested_values_become_json_text():
    assert to_text(pl.Series([{"a": 1}, None])).to_list() == ['{"a":1}', None]
    assert to_text(pl.Series([["x", "y"], None])).to_list() == ['["x","y"]', None]
