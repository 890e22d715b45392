"""NDJSON: one JSON object per line. Good lines are never held up by bad ones, and every bad one is reported."""

import re
from collections.abc import Iterator

import numpy as np
import polars as pl
import pyarrow as pa
from numpy.typing import NDArray

from pipelines.sources.duck import query_column
from pipelines.sources.streams import InputStream, UnreadableInputError

MAX_LINE_BYTES = 8 * 2**20
MAX_DEPTH = 100
_BLOCK_BYTES = 16 * 2**20
_NEWLINE = 10
_UTF8_BOM = b"\xef\xbb\xbf"
_UTF16_BOMS = (b"\xff\xfe", b"\xfe\xff")
_SURROGATES = re.compile(r"(\\ud[89ab][\da-f]{2}\\ud[c-f][\da-f]{2})|\\ud[89a-f][\da-f]{2}", re.IGNORECASE)
_NO_BRACKET = re.compile(r"[^\[\]{}]+")
_STRING = re.compile(r'"(?:[^"\\]|\\.)*"')


def read_ndjson(
    stream: InputStream, max_line_bytes: int = MAX_LINE_BYTES, *, is_growing: bool = False
) -> Iterator[pl.DataFrame]:
    """Batches of lines (line, byte_offset, record, problem, received), blank ones left out; memory is bounded.

    A line has either a `record`, or a `problem` (a quarantine reason) and, where it is text, what was `received`.
    Of an input that is growing, the last line is left for later. Raises UnreadableInputError where the whole input is
    damaged, or UTF-16.
    """
    carry, offset, line, dropped = b"", 0, 1, 0
    while chunk := stream.read(_BLOCK_BYTES):
        if dropped:
            lost, newline, chunk = chunk.partition(b"\n")
            dropped += len(lost) + len(newline)
            if not newline:
                continue
            yield _too_long(offset, line)
            offset, line, dropped = offset + dropped, line + 1, 0
        block = carry + chunk if carry else chunk
        bounds = _line_bounds(block, offset)
        if len(bounds) > 1:
            yield _judge(_split(block, bounds, offset, line, max_line_bytes))
        line += len(bounds) - 1
        carry, offset = block[bounds[-1] :], offset + int(bounds[-1])
        if len(carry) > max_line_bytes:
            carry, dropped = b"", len(carry)
    if dropped:
        yield _too_long(offset, line)
    elif carry and not is_growing:
        bounds = np.array([_bom_length(carry, offset), len(carry)])
        last = _judge(_split(carry, bounds, offset, line, max_line_bytes))
        yield last.with_columns(pl.col("problem").replace("malformed", "torn"))


def _line_bounds(block: bytes, offset: int) -> NDArray[np.int64]:
    """Where the whole lines of a block begin, and where the last of them ends. A block starts with a line."""
    newlines = np.flatnonzero(np.frombuffer(block, dtype=np.uint8) == _NEWLINE)
    return np.concatenate(([_bom_length(block, offset)], newlines + 1))


def _bom_length(block: bytes, offset: int) -> int:
    """How many bytes at the start of the input are a byte order mark. Raises UnreadableInputError for UTF-16."""
    if offset == 0 and block.startswith(_UTF16_BOMS):
        raise UnreadableInputError("it is UTF-16; convert it to UTF-8")
    return len(_UTF8_BOM) if offset == 0 and block.startswith(_UTF8_BOM) else 0


def _split(block: bytes, bounds: NDArray[np.int64], offset: int, first_line: int, max_line_bytes: int) -> pl.DataFrame:
    """The lines of a block between the bounds, as text; blank ones are left out."""
    lines = pl.DataFrame(
        {
            "line": np.arange(first_line, first_line + len(bounds) - 1),
            "byte_offset": bounds[:-1] + offset,
            "is_too_long": np.diff(bounds) > max_line_bytes,
        }
    )
    record = _decode(block, bounds)
    too_long = pl.col("is_too_long")
    return lines.with_columns(
        pl.when(too_long)
        .then(pl.lit("line_too_long"))
        .when(record.is_null())
        .then(pl.lit("not_utf8"))
        .alias("problem"),
        pl.when(~too_long).then(record.str.strip_chars_end("\r\n")).alias("record"),
    ).filter(pl.col("record").str.contains(r"\S").fill_null(value=True))


def _decode(block: bytes, bounds: NDArray[np.int64]) -> pl.Series:
    """The slices of the block as text; null where they are not UTF-8."""
    slices = pa.LargeBinaryArray.from_buffers(
        pa.large_binary(), len(bounds) - 1, [None, pa.py_buffer(np.ascontiguousarray(bounds)), pa.py_buffer(block)]
    )
    binary = pl.Series(slices)
    try:
        return binary.cast(pl.String)
    except pl.exceptions.ComputeError:
        return pl.Series([_utf8_or_none(line) for line in binary], dtype=pl.String)


def _utf8_or_none(line: bytes) -> str | None:
    try:
        return line.decode()
    except UnicodeDecodeError:
        return None


def _judge(lines: pl.DataFrame) -> pl.DataFrame:
    """Each line with its problem, if it has one. Lines with NUL or half a surrogate pair get a second chance."""
    record = lines["record"]
    problem = lines["problem"].zip_with(lines["problem"].is_not_null(), _verdict(record))
    suspects = (problem == "malformed").fill_null(value=False).arg_true()
    if len(suspects):
        repaired = pl.Series([_repair(text) for text in record.gather(suspects)], dtype=pl.String)
        record = record.scatter(suspects, repaired)
        problem = problem.scatter(suspects, _verdict(repaired))
    nested = (record.str.count_matches(r"[\[{]") > MAX_DEPTH).fill_null(value=False).arg_true()
    too_deep = [position for position in nested if _depth(record[position]) > MAX_DEPTH]
    problem = problem.scatter(too_deep, "nested_too_deep") if too_deep else problem
    is_good = problem.is_null()
    return lines.select(
        "line",
        "byte_offset",
        pl.when(is_good).then(record).alias("record"),
        problem.alias("problem"),
        pl.when(~is_good).then(record).alias("received"),
    )


def _verdict(record: pl.Series) -> pl.Series:
    is_valid, is_object = query_column(record, "json_valid(record)"), record.str.contains(r"^\s*\{")
    verdict = pl.when(~is_valid).then(pl.lit("malformed")).when(~is_object).then(pl.lit("not_an_object"))
    return pl.select(verdict).to_series()


def _repair(text: str) -> str:
    """NUL and half surrogate pairs, which databases refuse, as U+FFFD."""
    return _SURROGATES.sub(lambda found: found[1] or r"\ufffd", text.replace("\0", "\N{REPLACEMENT CHARACTER}"))


def _depth(text: str) -> int:
    """How deep the brackets nest outside strings."""
    brackets = np.frombuffer(_NO_BRACKET.sub("", _STRING.sub("", text)).encode(), dtype=np.uint8)
    opens = (brackets == ord("[")) | (brackets == ord("{"))
    return int(np.where(opens, 1, -1).cumsum().max(initial=0))


def _too_long(offset: int, line: int) -> pl.DataFrame:
    return pl.DataFrame({"line": [line], "byte_offset": [offset], "problem": ["line_too_long"]})
