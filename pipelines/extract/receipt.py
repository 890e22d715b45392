"""What accounts for a raw day: which inputs were read, how many records each gave, and what was left out."""

from datetime import date, datetime

from pydantic import BaseModel, Field

from pipelines.lake import Receipt


class ExtractionError(Exception):
    """Some inputs cannot be used, so no day of the source can be told whole."""


class Input(BaseModel, frozen=True):
    """A file or a query that was read, and how many of its records belong to the day."""

    name: str
    records: int
    size: int | None = None
    sha256: str | None = None


class RawReceipt(Receipt):
    """Accounts for one day of one source: `parts` hold every record of `inputs` that belongs to the day."""

    source: str
    source_fingerprint: str
    day: date
    read_at: datetime
    inputs: list[Input] = Field(default_factory=list)
    growing: list[str] = Field(default_factory=list)
    unplaced: int = 0
    """Rows of the source that no day can hold, for want of a time."""


def raw_dataset(source_name: str) -> str:
    """Where the lake keeps a source's records as received."""
    return f"raw/{source_name}"
