"""Logs in files, on disk or in object storage: which files there are, and their records in bounded batches."""

import fnmatch
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path, PurePosixPath
from typing import Annotated, Literal
from urllib.parse import unquote, urlsplit

import obstore
import polars as pl
from obstore.store import ObjectStore
from pydantic import BaseModel, Field, SecretStr

from pipelines.lake import open_store
from pipelines.sources.ndjson import MAX_LINE_BYTES, read_ndjson
from pipelines.sources.records import POSITION
from pipelines.sources.source import Source
from pipelines.sources.streams import InputStream, Readable, UnreadableInputError
from pipelines.sources.tabular import read_csv, read_parquet

FileFormat = Literal["ndjson", "csv", "parquet"]

_FORMATS: dict[str, FileFormat] = {
    ".ndjson": "ndjson",
    ".jsonl": "ndjson",
    ".json": "ndjson",
    ".log": "ndjson",
    ".csv": "csv",
    ".parquet": "parquet",
}
_COMPRESSIONS = {".gz": "gzip", ".zst": "zstd"}
_UNFINISHED = (".tmp", ".part", ".partial", ".inprogress", ".crdownload")
_DIGEST_SUFFIX = ".sha256"
_BUFFER_BYTES = 8 * 2**20


class InputFile(BaseModel, frozen=True):
    """A file as listed: its path below the source's root, and what tells whether it has changed."""

    path: str
    size: int
    modified_at: datetime


class Listing(BaseModel, frozen=True):
    """The files of a source that are whole, and those that are still being written."""

    ready: list[InputFile]
    growing: list[InputFile]


class FileSource(Source):
    """Files whose paths match a glob."""

    kind: Literal["files"] = "files"
    path: Annotated[str, Field(description="logs/**/*.ndjson.gz on disk, or a URL such as s3://bucket/logs/*.parquet")]
    format: FileFormat | Literal["auto"] = "auto"
    delimiter: Annotated[str, Field(min_length=1, max_length=1)] = ","
    max_line_bytes: Annotated[int, Field(gt=0)] = MAX_LINE_BYTES
    settle_seconds: Annotated[float, Field(ge=0, le=60)] = 2
    storage: dict[str, SecretStr] = Field({}, description="Options of the object store: endpoint, region, keys.")

    @property
    def location(self) -> str:
        """Where it reads, for people."""
        return self.path


class FileReading:
    """The records of one file in batches: POSITION beside `record`. `sha256` is known once all are read.

    Iterating raises UnreadableInputError; then none of the file's records may be used.
    """

    def __init__(self, source: FileSource, file: InputFile, *, is_growing: bool = False) -> None:
        self._source = source
        self._is_growing = is_growing
        self.file = file
        self._format, self._compression = _kind(source, file.path)
        self.sha256 = ""

    def __iter__(self) -> Iterator[pl.DataFrame]:
        try:
            with _open_file(self._source, self.file.path) as handle:
                stream = InputStream(handle, self.file.size, self._compression)
                for batch in self._batches(stream):
                    yield _positioned(batch, self.file.path)
                self.sha256 = stream.sha256
            self._compare_with_manifest()
        except UnreadableInputError as error:
            raise type(error)(f"`{self.file.path}` cannot be used: {error}") from error

    def read_to_the_end(self) -> None:
        """Look for the end of a compressed file. Raises UnreadableInputError: CutOffInputError where it is missing."""
        if self._compression is None:
            return
        with _open_file(self._source, self.file.path) as handle:
            stream = InputStream(handle, self.file.size, self._compression)
            while stream.read():
                pass

    def _batches(self, stream: InputStream) -> Iterator[pl.DataFrame]:
        if self._format == "ndjson":
            yield from read_ndjson(stream, self._source.max_line_bytes, is_growing=self._is_growing)
            return
        with tempfile.NamedTemporaryFile(prefix="agentmill-") as copy:
            shutil.copyfileobj(stream, copy)
            copy.flush()
            if self._format == "csv":
                yield from read_csv(Path(copy.name), self._source.delimiter, self._source.max_line_bytes)
            else:
                yield from read_parquet(Path(copy.name))

    def _compare_with_manifest(self) -> None:
        """A sender may lay `<file>.sha256` beside a file; then the file must be whole."""
        try:
            manifest = bytes(obstore.get(_open(self._source), self.file.path + _DIGEST_SUFFIX).bytes()).decode()
        except FileNotFoundError:
            return
        if manifest.split()[:1] != [self.sha256]:
            raise UnreadableInputError(f"it differs from what {self.file.path}{_DIGEST_SUFFIX} says")


def list_files(source: FileSource) -> Listing:
    """Look which files match, in path order. One that changes within `settle_seconds` is still being written."""
    before = _look(source)
    young = datetime.now(UTC) - timedelta(seconds=source.settle_seconds)
    if not any(file.modified_at > young for file in before):
        return Listing(ready=before, growing=[])
    time.sleep(source.settle_seconds)
    seen, after = set(before), _look(source)
    return Listing(ready=[file for file in after if file in seen], growing=[file for file in after if file not in seen])


def _look(source: FileSource) -> list[InputFile]:
    root, pattern = _split_glob(source.path)
    if root.startswith("file:") and not _folder_of(root).is_dir():
        return []
    entries = (entry for page in obstore.list(_open(source)) for entry in page)
    files = (
        InputFile(path=entry["path"], size=entry["size"], modified_at=entry["last_modified"])
        for entry in entries
        if _matches(PurePosixPath(entry["path"]).parts, pattern) and not entry["path"].endswith(_UNFINISHED)
    )
    return sorted(files, key=lambda file: file.path)


def _open(source: FileSource) -> ObjectStore:
    root, _ = _split_glob(source.path)
    return open_store(root, {name: value.get_secret_value() for name, value in source.storage.items()})


def is_appended_to(source: FileSource, file: InputFile) -> bool:
    """Whether what stands in a growing file stays as it is: lines that others follow."""
    return _kind(source, file.path) == ("ndjson", None)


@contextmanager
def _open_file(source: FileSource, path: str) -> Iterator[Readable]:
    """A file of the source to read from its start; from disk without a detour."""
    root, _ = _split_glob(source.path)
    if root.startswith("file:"):
        with (_folder_of(root) / path).open("rb", buffering=0) as file:
            yield file
    else:
        yield obstore.open_reader(_open(source), path, buffer_size=_BUFFER_BYTES)


def _folder_of(file_url: str) -> Path:
    return Path(unquote(urlsplit(file_url).path))


def _split_glob(path: str) -> tuple[str, tuple[str, ...]]:
    """The URL of the fixed folder that a glob starts with, and the glob's segments below it."""
    scheme, separator, rest = path.rpartition("://")
    parts = PurePosixPath(rest).parts
    fixed = next((place for place, part in enumerate(parts) if any(mark in part for mark in "*?[")), len(parts) - 1)
    folder = str(PurePosixPath(*parts[:fixed]))
    return f"{scheme}{separator}{folder}" if separator else Path(folder).absolute().as_uri(), parts[fixed:]


def _matches(path: tuple[str, ...], pattern: tuple[str, ...]) -> bool:
    """Glob by path segments; `**` is any number of folders, hidden and marker files (`.x`, `_SUCCESS`) never match."""
    if not pattern or not path:
        return not pattern and not path
    if pattern[0] == "**":
        return _matches(path, pattern[1:]) or (not _is_hidden(path[0]) and _matches(path[1:], pattern))
    fits = fnmatch.fnmatchcase(path[0], pattern[0]) and (not _is_hidden(path[0]) or path[0] == pattern[0])
    return fits and _matches(path[1:], pattern[1:])


def _is_hidden(name: str) -> bool:
    return name.startswith((".", "_"))


def _kind(source: FileSource, path: str) -> tuple[FileFormat, str | None]:
    """The format and compression of a file, from its name or as configured."""
    suffixes = PurePosixPath(path).suffixes
    compression = _COMPRESSIONS.get(suffixes[-1]) if suffixes else None
    suffix = (suffixes[:-1] if compression else suffixes)[-1:]
    if source.format != "auto":
        return source.format, compression
    if not suffix or suffix[0] not in _FORMATS:
        raise UnreadableInputError(
            f"`{path}` has no known ending ({', '.join(_FORMATS)}, with .gz or .zst); set `format` for its source"
        )
    return _FORMATS[suffix[0]], compression


def _positioned(batch: pl.DataFrame, path: str) -> pl.DataFrame:
    """The batch with every POSITION column, then `record`."""
    missing = [pl.lit(None, dtype).alias(name) for name, dtype in POSITION.items() if name not in batch.columns]
    record = pl.col("record") if "record" in batch.columns else pl.lit(None, pl.String).alias("record")
    return batch.with_columns(missing).with_columns(pl.lit(path).alias("file")).select(*POSITION, record)
