import io
import json

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.sources import ndjson
from pipelines.sources.ndjson import MAX_LINE_BYTES, read_ndjson
from pipelines.sources.streams import InputStream, UnreadableInputError


def read(content: bytes, **options) -> pl.DataFrame:
    stream = InputStream(io.BytesIO(content), len(content), None)
    return pl.concat(list(read_ndjson(stream, **options)), how="diagonal")


def problems(content: bytes, **options) -> list:
    return read(content, **options)["problem"].to_list()


def test_good_lines_come_with_their_place():
    told = read(b'{"a":1}\n\n  \n{"b":2}\n')
    assert told["record"].to_list() == ['{"a":1}', '{"b":2}']
    assert told["line"].to_list() == [1, 4]
    assert told["byte_offset"].to_list() == [0, 12]


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        (b"not json", "malformed"),
        (b'{"a": tru}', "malformed"),
        (b"{'a': 1}", "malformed"),
        (b'{"a": 1}}', "malformed"),
        (b'{"a": "tab\there"}', "malformed"),
        (b"[1, 2]", "not_an_object"),
        (b'"text"', "not_an_object"),
        (b'{"a": "\xff"}', "not_utf8"),
        (b'{"a":' * 101 + b"1" + b"}" * 101, "nested_too_deep"),
        (b'{"a":' * 5000 + b"1" + b"}" * 5000, "nested_too_deep"),
        (b'{"a": "' + b"x" * MAX_LINE_BYTES + b'"}', "line_too_long"),
    ],
)
def test_one_bad_line_is_reported_and_its_neighbours_are_read(line, problem):
    told = read(b'{"before": 1}\n' + line + b'\n{"after": 1}\n')
    assert told["problem"].to_list() == [None, problem, None]
    assert told["line"].to_list() == [1, 2, 3]


@pytest.mark.parametrize(
    ("line", "record"),
    [
        (b'\xef\xbb\xbf{"a":1}', '{"a":1}'),
        (b'{"a":1}\r', '{"a":1}'),
        (b'{"a":NaN}', '{"a":NaN}'),
        (b'{"a":"x\x00y"}', '{"a":"x\ufffdy"}'),
        (b'{"a":"\\ud800x"}', '{"a":"\\ufffdx"}'),
        (b'{"a":"\\ud83d\\ude00"}', '{"a":"\\ud83d\\ude00"}'),
        (b'{"a":"[[{{' + b"[" * 300 + b'"}', '{"a":"[[{{' + "[" * 300 + '"}'),
    ],
    ids=["bom", "crlf", "nan", "nul", "half a surrogate pair", "a whole pair", "brackets in text"],
)
def test_what_can_be_repaired_is_accepted(line, record):
    told = read(line + b"\n")
    assert told["record"].to_list() == [record]


def test_a_last_line_that_is_cut_off_is_torn_and_a_whole_one_is_read():
    assert problems(b'{"a":1}\n{"b":') == [None, "torn"]
    assert problems(b'{"a":1}\n{"b":2}') == [None, None]


def test_an_endless_line_is_skipped_without_being_held():
    endless = b'{"a": "' + b"x" * (3 * 2**20)
    told = read(b'{"a":1}\n' + endless + b'"}\n{"b":2}\n', max_line_bytes=2**20)
    assert told["problem"].to_list() == [None, "line_too_long", None]
    assert told["byte_offset"].to_list() == [0, 8, 8 + len(endless) + 3]
    assert problems(endless, max_line_bytes=2**20) == ["line_too_long"]


def test_utf_16_is_refused_with_what_to_do():
    with pytest.raises(UnreadableInputError, match="convert it to UTF-8"):
        read('{"a":1}\n'.encode("utf-16"))


lines = st.lists(
    st.one_of(
        st.dictionaries(st.text(max_size=5), st.one_of(st.integers(), st.text(max_size=20)), max_size=3).map(
            json.dumps
        ),
        st.text(st.characters(exclude_characters="\n\r", codec="utf-8"), max_size=30),
    ),
    max_size=12,
)


@settings(max_examples=60)
@given(lines, st.integers(1, 64))
def test_the_size_of_the_blocks_does_not_matter(texts, size):
    content = "\n".join(texts).encode()
    whole = read(content) if content else None
    before = ndjson._BLOCK_BYTES
    ndjson._BLOCK_BYTES = size
    try:
        if whole is not None and whole.height:
            in_blocks = read(content)
            assert in_blocks.select(sorted(whole.columns)).equals(whole.select(sorted(whole.columns)))
    finally:
        ndjson._BLOCK_BYTES = before


@settings(max_examples=60)
@given(st.lists(st.integers(0, 99), min_size=1, max_size=6), st.data())
def test_a_file_cut_anywhere_loses_at_most_its_last_line(numbers, data):
    content = b"".join(json.dumps({"n": number}).encode() + b"\n" for number in numbers)
    cut = data.draw(st.integers(1, len(content)))
    told = read(content[:cut])
    complete = content[:cut].count(b"\n")
    good = told.filter(pl.col("problem").is_null())["record"].to_list()
    assert good[:complete] == [json.dumps({"n": number}) for number in numbers[:complete]]
    assert told.height in (complete, complete + 1)
