import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.anonymize.skeleton import KNOWN_KEYS, skeleton
from pipelines.regression.synthesis import synthesise, text_of

KEYS = st.sampled_from(sorted(KNOWN_KEYS))
SCALARS = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text()
ANYTHING = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=5) | st.dictionaries(KEYS | st.text(), inner, max_size=5)
)
ALIKE = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=1) | st.dictionaries(KEYS, inner, max_size=5),
    max_leaves=8,
)
"""Values in which no place holds several things."""


@given(ALIKE)
def test_what_is_made_up_has_the_structure_it_was_made_of(value):
    shape = skeleton(json.dumps(value)).shape
    assert skeleton(json.dumps(synthesise(shape))).shape == shape


@given(ANYTHING)
def test_any_structure_makes_some_json_and_always_the_same(value):
    shape = skeleton(json.dumps(value)).shape
    assert json.dumps(synthesise(shape)) == json.dumps(synthesise(shape))


@given(st.text(alphabet="{}[],:|x19-+.() strbolnum<key>", max_size=40))
def test_no_text_stops_it(shape):
    json.dumps(synthesise(shape))


@pytest.mark.parametrize(
    ("shape", "made_up"),
    [
        ("{messages:[{content:str(10-99),role:str(2-9)}]x2-9,model:str(2-9)}", {"content": 10, "role": 2}),
    ],
)
def test_a_conversation_is_made_up(shape, made_up):
    told = synthesise(shape)
    assert len(told["messages"]) == 2
    assert {key: len(value) for key, value in told["messages"][0].items()} == made_up


def test_of_several_kinds_the_first_that_is_something_counts():
    assert synthesise("{error:null|str(1),input:int|num,<key>:[]x0}") == {"error": "t", "input": 1, "key": []}


def test_texts_are_made_up_as_texts():
    assert len(synthesise("text(100-999)x2-9 lines")) == 100
    assert synthesise("...") is None
    assert len(text_of(10**9)) == 100_000
