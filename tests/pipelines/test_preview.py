"""What a preview tells about a mapping that does not fit its records."""

import pytest
from conftest import DAY

from pipelines.clean.preview import preview


@pytest.fixture
def told(source, write_log, record, key, prices):
    """The problems found in one record, under a mapping with overrides."""

    def build(**mapping):
        write_log(record(usage={"input": 5}, started=f"{DAY}T10:00:00Z"))
        return preview(source(mapping=mapping), key, prices).problems

    return build


def test_a_field_that_no_record_has_is_told_beside_those_there_are(told):
    problems = told(agent_name="agnet", input_tokens="usage.inptu", model="model")
    (absent,) = [one for one in problems if one.startswith("no record has")]
    named, _, there = absent.partition("there are: ")
    assert "`agent_name: agnet`" in named
    assert "`input_tokens: usage.inptu`" in named
    assert "model" not in named
    assert {"agent", "usage", "model"} <= set(there.split(", "))
    assert not any("is empty in all" in one for one in problems)


def test_a_field_below_another_that_is_there_is_no_problem(told):
    assert not any("usage" in one.partition("there are: ")[0] for one in told(input_tokens="usage.input"))
