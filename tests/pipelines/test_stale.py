"""A day that was read anew and not cleaned since is told, whatever stopped the run that read it."""

from datetime import date, timedelta

import pytest
from conftest import DAY, NOW

from pipelines.clean import CLEAN_EXECUTIONS, clean
from pipelines.clean.stale import find_stale_days
from pipelines.extract import extract, find_dirty_days
from pipelines.lake import Receipt

START = date(2026, 1, 1)
LATER = NOW + timedelta(minutes=1)


@pytest.fixture
def app(source, lake, write_log, record, key, prices):
    """A source with one file, read and cleaned as often as asked."""

    class App:
        def __init__(self):
            self.source = source()
            self.records = [record(), record()]

        def read(self):
            write_log(*self.records)
            extract(self.source, [DAY], lake, NOW)

        def clean(self):
            clean(DAY, [self.source], lake, key, prices)

        def stale(self, since=START, read_before=LATER):
            return find_stale_days([self.source], lake, since, read_before)

    return App()


def test_a_day_that_is_clean_as_it_was_read_is_not_stale(app):
    app.read()
    app.clean()
    app.read()
    assert app.stale() == {}


def test_late_records_that_were_read_and_not_cleaned_are_told_though_the_source_has_not_changed_since(
    app, lake, record
):
    app.read()
    app.clean()
    app.records.append(record())
    app.read()
    assert find_dirty_days(app.source, lake, NOW, START) == {}
    assert app.stale() == {DAY: ["app"]}
    app.clean()
    assert app.stale() == {}


def test_a_record_that_was_corrected_is_told_though_there_are_as_many(app):
    app.read()
    app.clean()
    app.records[0]["state"] = "failed"
    app.read()
    assert app.stale() == {DAY: ["app"]}


def test_a_day_that_was_read_and_never_cleaned_is_told_unless_it_is_empty(app, lake):
    app.read()
    extract(app.source, [DAY + timedelta(days=1)], lake, NOW)
    assert app.stale() == {DAY: ["app"]}


def test_what_was_read_just_now_is_left_to_the_run_that_reads_it(app):
    app.read()
    assert app.stale(read_before=NOW) == {}


def test_days_before_the_first_clean_one_are_left_alone(app, lake):
    app.read()
    lake.commit(CLEAN_EXECUTIONS, DAY + timedelta(days=1), Receipt())
    assert app.stale() == {}


def test_days_before_the_first_that_is_asked_for_are_left_alone(app):
    app.read()
    assert app.stale(since=DAY + timedelta(days=1)) == {}
