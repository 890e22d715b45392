"""Bytes of an input: read from disk or object storage, decompressed under guard, fingerprinted on the way."""

import hashlib
import io
from typing import Protocol

import obstore
import pyarrow as pa

_CHUNK_BYTES = 8 * 2**20
_MAX_RATIO = 200
_RATIO_GRACE_BYTES = 64 * 2**20


class UnreadableInputError(Exception):
    """A whole input cannot be trusted: truncated, corrupt, or growing without bound. None of its records are used."""


class NoAnswerError(UnreadableInputError):
    """A database did not answer, or not to the end: it may another time."""


class CutOffInputError(UnreadableInputError):
    """A compressed input ends before its end: damaged, or somebody is still writing it."""


class Readable(Protocol):
    """Anything that hands out its bytes in turn."""

    def read(self, size: int, /) -> bytes | obstore.Bytes | None:
        """Return up to `size` bytes; none at the end."""
        ...


class _Fingerprinted(io.RawIOBase):
    """Passes on the first `length` bytes and keeps their digest."""

    def __init__(self, handle: Readable, length: int) -> None:
        self._handle = handle
        self._left = length
        self.digest = hashlib.sha256()
        self.count = 0

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1, /) -> bytes:
        wanted = self._left if size < 0 else min(size, self._left)
        chunk = self._handle.read(wanted)
        chunk = chunk if isinstance(chunk, bytes) else bytes(chunk or b"")
        self._left -= len(chunk)
        self.count += len(chunk)
        self.digest.update(chunk)
        return chunk


class InputStream:
    """The decompressed bytes of the first `length` bytes of an input.

    Reading raises UnreadableInputError where the input is truncated, corrupt, or expands more than 200-fold.
    """

    def __init__(self, handle: Readable, length: int, compression: str | None) -> None:
        self._received = _Fingerprinted(handle, length)
        self._compression = compression
        self._produced = 0
        source = pa.PythonFile(self._received, "r") if compression else None
        self._stream = pa.CompressedInputStream(source, compression) if compression else self._received

    def read(self, size: int = _CHUNK_BYTES, /) -> bytes:
        """Return up to `size` bytes; none at the end."""
        try:
            chunk: bytes = self._stream.read(size)
        except OSError as error:
            kind = CutOffInputError if "truncated" in str(error).lower() else UnreadableInputError
            raise kind(f"its {self._compression} data are damaged or cut off ({error})") from error
        self._produced += len(chunk)
        if self._produced > max(_RATIO_GRACE_BYTES, _MAX_RATIO * self._received.count):
            raise UnreadableInputError(f"it expands more than {_MAX_RATIO}-fold, which no log does")
        return chunk

    @property
    def sha256(self) -> str:
        """Digest of the bytes as they lie in storage, once all are read."""
        return self._received.digest.hexdigest()
