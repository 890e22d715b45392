"""What may be said of an error outside the restricted zone: libraries quote the data they stumble over."""

import traceback
from pathlib import Path

import duckdb
import polars as pl

from pipelines.anonymize.text import sanitize_texts

_QUOTING = (pl.exceptions.PolarsError, pl.exceptions.PanicException, duckdb.Error, UnicodeError)
_MOST_FRAMES = 8


def describe_error(error: BaseException) -> str:
    """The error's kind, its sanitized message, and where it arose; no message where it may quote a record."""
    name = type(error).__name__
    withheld = f"{name}: its message is withheld, because it may quote a record"
    said = withheld if isinstance(error, _QUOTING) else f"{name}: {_sanitized(str(error))}"
    frames = traceback.extract_tb(error.__traceback__)[-_MOST_FRAMES:]
    places = [f"  {'/'.join(Path(frame.filename).parts[-2:])}:{frame.lineno} {frame.name}" for frame in frames]
    return "\n".join([said, *places])


def _sanitized(text: str) -> str:
    clean: str = sanitize_texts(pl.Series([text], dtype=pl.String))[0]
    return clean
