"""The key that pseudonyms and record digests depend on: where it comes from, and what makes it unfit."""

import secrets
import stat
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path

KEY_BYTES = 32


class KeyProblemError(Exception):
    """There is no usable pseudonym key; nothing may run."""


@dataclass(frozen=True, slots=True)
class PseudonymKey:
    """A secret with a public id, for one tenant. The id is part of every pseudonym, so that keys can change."""

    id: str
    secret: bytes = field(repr=False)
    tenant: str = ""

    def of(self, tenant: str) -> "PseudonymKey":
        """The same key for the users of another tenant: who has the same id there has another pseudonym."""
        return replace(self, tenant=tenant)


def parse_key(text: str, origin: str) -> PseudonymKey:
    """Read `k1:<hex>` (32 bytes or more). Raises KeyProblemError, which never quotes the key."""
    key_id, separator, digits = text.strip().partition(":")
    try:
        secret = bytes.fromhex(digits)
    except ValueError:
        secret = b""
    if not separator or not key_id.isalnum() or not key_id.islower():
        raise KeyProblemError(f"the pseudonym key in {origin} is not of the form `k1:<hex digits>`")
    if len(secret) < KEY_BYTES:
        raise KeyProblemError(f"the pseudonym key in {origin} needs at least {2 * KEY_BYTES} hex digits")
    return PseudonymKey(key_id, secret)


def refuse_shared_ids(keys: Iterable[PseudonymKey]) -> None:
    """Raise KeyProblemError where keys that differ have one id: nobody could tell which of them made a pseudonym."""
    secret_of: dict[str, bytes] = {}
    for key in keys:
        if secret_of.setdefault(key.id, key.secret) != key.secret:
            raise KeyProblemError(f"two pseudonym keys have the id `{key.id}`; give the new one an id of its own")


def read_key_file(path: Path) -> PseudonymKey:
    """Read the key file. Raises KeyProblemError where it is missing, readable by others, or unfit."""
    if not path.is_file():
        raise KeyProblemError(
            f"there is no pseudonym key at {path}. Run `agentmill init`, or set AGENTMILL_PSEUDONYM_KEY. Keep the key: "
            "without it the same user gets another pseudonym"
        )
    if path.stat().st_mode & (stat.S_IRWXG | stat.S_IRWXO):
        raise KeyProblemError(f"{path} can be read by others; run `chmod 600 {path}`")
    return parse_key(path.read_text(), str(path))


def write_key_file(path: Path) -> None:
    """Write a new random key that only its owner can read. Raises FileExistsError: a key is never overwritten."""
    path.touch(mode=stat.S_IRUSR | stat.S_IWUSR, exist_ok=False)
    path.write_text(f"k1:{secrets.token_hex(KEY_BYTES)}\n")
