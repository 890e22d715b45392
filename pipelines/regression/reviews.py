"""What people say about candidates: an append-only table, written through one function of the database."""

import json
import re
from dataclasses import dataclass
from typing import Any, Literal

import polars as pl
import psycopg

from pipelines.anonymize.text import Sanitizer
from pipelines.execution import TEXTS, TIMESTAMP
from pipelines.warehouse.connection import Warehouse

Action = Literal["approve", "reject", "merge", "retire", "reopen"]

REVIEWS = "candidate_reviews"
REVIEW = pl.Schema(
    {
        "review_id": pl.Int64(),
        "reviewed_at": TIMESTAMP,
        "reviewed_by": pl.String(),
        "candidate_id": pl.String(),
        "signature_ids": TEXTS,
        "action": pl.String(),
        "merged_into": pl.String(),
        "is_blocking": pl.Boolean(),
        "fixture": pl.String(),
        "reason": pl.String(),
    }
)
"""Grain: one thing that a person said about a candidate; `signature_ids` are those of its failure at that moment."""
_LONG_NUMBER_DIGITS = 12

_CALL = """
select agentmill.review_candidate(
    candidate_id => %(candidate_id)s, action => %(action)s, reason => %(reason)s, reviewed_by => %(reviewed_by)s,
    merged_into => %(merged_into)s, is_blocking => %(is_blocking)s, fixture => %(fixture)s::jsonb
)
"""


class ReviewError(Exception):
    """What was said cannot be entered; the message says why and what to do."""


@dataclass(frozen=True, slots=True)
class Review:
    """What a person says about a candidate, and why. A fixture is the input that the test is to use, as JSON."""

    candidate_id: str
    action: Action
    reviewed_by: str
    reason: str
    merged_into: str | None = None
    is_blocking: bool = True
    fixture: Any = None


def read_reviews(warehouse: Warehouse) -> pl.DataFrame:
    """All that was said, in order."""
    columns = ", ".join("fixture::text as fixture" if name == "fixture" else name for name in REVIEW.names())
    told = warehouse.read(f"select {columns} from agentmill.{REVIEWS} order by reviewed_at, review_id")  # noqa: S608 - our own words
    return told.match_to_schema(REVIEW) if told.height else REVIEW.to_frame()


def review_candidate(warehouse: Warehouse, review: Review, sanitizer: Sanitizer) -> int:
    """Enter a review and return its id; the tables follow when they are derived next. Raises ReviewError.

    Reason and name are sanitized as texts of logs are, and so are the texts, keys and long numbers of a fixture.
    """
    reason, by = sanitizer.sanitize_texts(pl.Series([review.reason, review.reviewed_by]))
    fixture = None if review.fixture is None else json.dumps(_sanitize_json(review.fixture, sanitizer))
    given = {name: getattr(review, name) for name in Review.__slots__}
    told = given | {"reason": reason, "reviewed_by": by, "fixture": fixture}
    try:
        with warehouse.connect() as connection, connection.transaction():
            row = connection.execute(_CALL, told).fetchone()
    except (psycopg.errors.RaiseException, psycopg.errors.CheckViolation) as error:
        raise ReviewError(re.sub(r"\s+", " ", error.diag.message_primary or str(error))) from None
    assert row is not None  # noqa: S101 - a function returns one row
    return int(row[0])


def _sanitize_json(content: Any, sanitizer: Sanitizer) -> Any:  # noqa: ANN401 - whatever JSON holds
    """The content with its texts sanitized, its keys too, and numbers as long as those of cards."""
    if isinstance(content, dict):
        return _sanitize_object(content, sanitizer)
    if isinstance(content, list):
        return [_sanitize_json(value, sanitizer) for value in content]
    if isinstance(content, str):
        return sanitizer.sanitize_texts(pl.Series([content])).item()
    return _sanitize_number(content, sanitizer) if isinstance(content, int | float) else content


def _sanitize_object(content: dict[str, Any], sanitizer: Sanitizer) -> dict[str, Any]:
    """No member is lost: of keys that have become the same, all but the first are numbered."""
    told: dict[str, Any] = {}
    for key, value in content.items():
        name = sanitized = sanitizer.sanitize_texts(pl.Series([key])).item()
        number = 1
        while name in told or (name != key and name in content):
            number += 1
            name = f"{sanitized} {number}"
        told[name] = _sanitize_json(value, sanitizer)
    return told


def _sanitize_number(number: float, sanitizer: Sanitizer) -> Any:  # noqa: ANN401 - a number, or a text instead
    """The number itself, unless it is a long whole one in which the sanitizer finds something."""
    if isinstance(number, bool) or (isinstance(number, float) and not number.is_integer()):
        return number
    digits = str(int(number))
    if len(digits.removeprefix("-")) < _LONG_NUMBER_DIGITS:
        return number
    sanitized = sanitizer.sanitize_texts(pl.Series([digits])).item()
    return number if sanitized == digits else sanitized
