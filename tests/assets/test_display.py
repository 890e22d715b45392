"""Tables on narrow and wide terminals, and in pipes."""

import os
import subprocess
import sys
from datetime import UTC, datetime
from decimal import Decimal

import pytest

from assets.display import out, sheet

COLUMNS = ["id", "success_rate_low", "first_seen_at", "title"]
SEEN = datetime(2026, 3, 10, 8, 5, 6, 122000, tzinfo=UTC)
ROWS = [("54c194783ee6c57a", Decimal("75.00"), SEEN, "the quota of tokens of this month is used up")]


@pytest.fixture
def printed(monkeypatch):
    """The lines of a table on a terminal of some width."""

    def show(width, columns=COLUMNS, rows=ROWS, **options):
        monkeypatch.setattr(out, "width", width)
        with out.capture() as captured:
            out.print(sheet("Found", columns, rows, **options))
        return [line.rstrip() for line in captured.get().splitlines()]

    return show


def test_a_row_is_a_line_where_there_is_room(printed):
    assert printed(120)[1:] == [
        "id                success_rate_low  first_seen_at               title",
        "54c194783ee6c57a             75.00  2026-03-10 08:05:06.122+00  the quota of tokens of this month is used up",
    ]


def test_names_of_columns_and_long_texts_are_broken_before_anything_else(printed):
    told = printed(80)
    assert any(line.split() == ["id", "low", "first_seen_at", "title"] for line in told)
    assert any(line.startswith("54c194783ee6c57a     75.00  2026-03-10 08:05:06.122+00") for line in told)


def test_rows_stand_one_below_the_other_where_the_terminal_is_too_narrow(printed):
    assert printed(50)[1:5] == [
        "id                54c194783ee6c57a",
        "success_rate_low  75.00",
        "first_seen_at     2026-03-10 08:05:06.122+00",
        "title             the quota of tokens of this",
    ]


def test_numbers_are_to_the_right_and_counts_have_their_thousands_apart(printed):
    rows = [("a", 1234567, 2026, True), ("b", 1, "", False)]
    assert printed(80, ["name", "times", "year", "ok"], rows, numbers=["times"])[2:] == [
        "a     1,234,567  2026  true",
        "b             1        false",
    ]


def test_lists_and_objects_are_json_and_control_characters_do_not_reach_the_terminal(printed):
    (line,) = printed(80, ["found", "text"], [(["a", {"b": None}], "x\x1b[2Jy")])[2:]
    assert line == '["a", {"b": null}]  x\N{REPLACEMENT CHARACTER}[2Jy'


def test_a_pipe_gets_lines_that_are_wide_enough_to_search():
    told = subprocess.run(
        [sys.executable, "-c", "from assets.display import out; print(out.width)"],
        check=True,
        capture_output=True,
        text=True,
        env={name: value for name, value in os.environ.items() if name != "COLUMNS"},
    )
    assert told.stdout.strip() == "250"
