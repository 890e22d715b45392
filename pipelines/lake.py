"""Parquet by dataset and day, on disk or in object storage: parts are written aside and committed by a receipt.

A day of a dataset is what its receipt names, and nothing else. Parts are named by their content, so writing the same
rows again changes nothing, and a writer killed half-way leaves only parts that no receipt names.
"""

import contextlib
import hashlib
import io
import stat
from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import unquote, urlsplit

import obstore
import polars as pl
from obstore.store import ObjectStore, from_url
from pydantic import BaseModel

_ORPHANS_KEPT = timedelta(days=1)
"""A reader or a second writer may still hold on to parts that were replaced."""


class CorruptPartError(Exception):
    """A stored part does not hold the bytes its receipt names."""


class Part(BaseModel, frozen=True):
    """One Parquet file of a day."""

    path: str
    rows: int
    sha256: str


class Receipt(BaseModel):
    """What makes up one day of a dataset. Each stage adds what it accounts for."""

    parts: list[Part] = []

    @property
    def rows(self) -> int:
        """Rows of all parts."""
        return sum(part.rows for part in self.parts)

    @property
    def content(self) -> list[str]:
        """Digests of the parts: two days with the same content are the same."""
        return [part.sha256 for part in self.parts]


ReceiptType = TypeVar("ReceiptType", bound=Receipt)


def open_store(url: str, options: Mapping[str, str]) -> ObjectStore:
    """Open disk or object storage by URL, with the options of its kind (credentials, endpoint, region)."""
    if url.startswith("file:"):
        return from_url(url)
    plain_http: dict[str, Any] | None = {"allow_http": True} if "http://" in options.get("endpoint", "") else None
    store: ObjectStore = from_url(url, config=dict(options), client_options=plain_http)  # type: ignore[call-overload]
    return store


class Lake:
    """The zones: `raw/<source>` is restricted, everything else is anonymized."""

    def __init__(self, url: str, options: Mapping[str, str] | None = None) -> None:
        self.url = url
        self._root = Path(unquote(urlsplit(url).path)) if url.startswith("file:") else None
        if self._root is not None:
            restricted = self._root / "raw"
            restricted.mkdir(parents=True, exist_ok=True)
            restricted.chmod(stat.S_IRWXU)
        self._store = open_store(url, options or {})

    def write(self, dataset: str, day: date, rows: pl.DataFrame, *, briefly: bool = False) -> Part:
        """Write rows aside. They are not part of the day before a receipt that names them is committed.

        What is kept `briefly` is packed faster and less tightly.
        """
        buffer = io.BytesIO()
        if briefly:
            rows.write_parquet(buffer, compression="lz4", statistics=False)
        else:
            rows.write_parquet(buffer, compression="zstd", compression_level=1)
        content = buffer.getvalue()
        digest = hashlib.sha256(content).hexdigest()
        part = Part(path=f"{_folder(dataset, day)}/{digest[:32]}.parquet", rows=rows.height, sha256=digest)
        obstore.put(self._store, part.path, content)
        return part

    def commit(self, dataset: str, day: date, receipt: Receipt) -> None:
        """Make the receipt's parts the day, at once and whole, and remove what no receipt names any more."""
        self.put_text(_receipt_path(dataset, day), receipt.model_dump_json(indent=1))
        self._sweep(dataset, day, {part.path for part in receipt.parts}, datetime.now(UTC) - _ORPHANS_KEPT)

    def receipt(self, dataset: str, day: date, kind: type[ReceiptType]) -> ReceiptType | None:
        """Return the committed receipt of a day, or None where nothing was ever committed."""
        stored = self.get_text(_receipt_path(dataset, day))
        return None if stored is None else kind.model_validate_json(stored)

    def read(self, part: Part, columns: Sequence[str] | None = None) -> pl.DataFrame:
        """Read a part, or some columns of it. Raises CorruptPartError where its bytes changed since it was written."""
        content = bytes(obstore.get(self._store, part.path).bytes())
        if hashlib.sha256(content).hexdigest() != part.sha256:
            raise CorruptPartError(f"{self.url}/{part.path} has changed since it was written; run its day again")
        return pl.read_parquet(io.BytesIO(content), columns=None if columns is None else list(columns))

    def days(self, dataset: str) -> list[date]:
        """The days of a dataset that were ever committed, in order."""
        folders = obstore.list_with_delimiter(self._store, prefix=f"{dataset}/")["common_prefixes"]
        return sorted(date.fromisoformat(folder.rpartition("day=")[2].strip("/")) for folder in folders)

    def datasets(self, zone: str) -> list[str]:
        """The datasets of a zone such as `raw`."""
        folders = obstore.list_with_delimiter(self._store, prefix=f"{zone}/")["common_prefixes"]
        return sorted(folder.strip("/") for folder in folders)

    def size(self, dataset: str, day: date) -> int:
        """Bytes that a day takes, with whatever lies beside its parts."""
        pages = obstore.list(self._store, prefix=_folder(dataset, day) + "/")
        return sum(entry["size"] for page in pages for entry in page)

    def drop(self, dataset: str, day: date) -> None:
        """Remove a day as if it had never been. Its receipt goes first, so that nobody is sent to missing parts."""
        folder, receipt = _folder(dataset, day), _receipt_path(dataset, day)
        paths = [entry["path"] for page in obstore.list(self._store, prefix=folder + "/") for entry in page]
        for path in sorted(paths, key=lambda path: path != receipt):
            obstore.delete(self._store, path)
        if self._root is not None:
            with contextlib.suppress(OSError):  # somebody has just written to it
                (self._root / folder).rmdir()

    def sweep(self, dataset: str, day: date) -> None:
        """Remove what the receipt of a day does not name, at once: also what another process has just written."""
        receipt = self.receipt(dataset, day, Receipt) or Receipt()
        self._sweep(dataset, day, {part.path for part in receipt.parts}, datetime.max.replace(tzinfo=UTC))

    def put_text(self, path: str, text: str) -> None:
        """Write a small text whole: readers see the old one or the new one."""
        obstore.put(self._store, path, text.encode())

    def get_text(self, path: str) -> str | None:
        """Return a text, or None where there is none."""
        try:
            return bytes(obstore.get(self._store, path).bytes()).decode()
        except FileNotFoundError:
            return None

    def _sweep(self, dataset: str, day: date, keep: set[str], written_before: datetime) -> None:
        for page in obstore.list(self._store, prefix=_folder(dataset, day) + "/"):
            for entry in page:
                is_orphan = entry["path"].endswith(".parquet") and entry["path"] not in keep
                if is_orphan and entry["last_modified"] < written_before:
                    obstore.delete(self._store, entry["path"])


def _folder(dataset: str, day: date) -> str:
    return f"{dataset}/day={day:%Y-%m-%d}"


def _receipt_path(dataset: str, day: date) -> str:
    return f"{_folder(dataset, day)}/receipt.json"
