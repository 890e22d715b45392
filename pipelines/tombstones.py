"""Who was erased, by pseudonym only: what keeps a backfill, a re-extraction or a restore from bringing them back."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime

import polars as pl

from pipelines.anonymize.keys import PseudonymKey
from pipelines.anonymize.pseudonyms import pseudonymize
from pipelines.lake import Lake
from pipelines.sources.casting import to_text
from pipelines.sources.records import map_records
from pipelines.sources.source import Source

_PATH = "tombstones.json"


@dataclass(frozen=True, slots=True)
class Erased:
    """The pseudonyms of erased users, and the keys under which the users behind records are looked up."""

    user_keys: frozenset[str] = frozenset()
    keys: tuple[PseudonymKey, ...] = ()

    def among(self, users: pl.Series, tenant: str) -> pl.Series:
        """Which of some ids of a tenant's users are of erased ones; an unknown user is none of them."""
        is_erased = pl.Series([False]).new_from_index(0, len(users))
        for key in self.keys if self.user_keys else ():
            pseudonyms = pseudonymize(users, "user", key.of(tenant))
            is_erased |= pseudonyms.is_in(list(self.user_keys)).fill_null(value=False)
        return is_erased

    def own(self, records: pl.DataFrame, source: Source) -> pl.Series:
        """Which raw records are of erased users. Nobody knows whose a record is that cannot be read."""
        is_erased = pl.Series([False]).new_from_index(0, records.height)
        is_usable = records["problem"].is_null()
        if not self.user_keys or "user" not in source.mapping or not is_usable.any():
            return is_erased
        users = map_records(records.filter(is_usable), source, only=["user"])["user"]
        return is_erased.scatter(is_usable.arg_true(), self.among(to_text(users), source.tenant))


NOBODY = Erased()


def pseudonyms_of(user: str, tenant: str, keys: Iterable[PseudonymKey]) -> list[str]:
    """The pseudonyms of a tenant's user under every key, the id read as a record's is; none where it is empty."""
    known = to_text(pl.Series([user], dtype=pl.String)).drop_nulls()
    return [pseudonym for key in keys for pseudonym in pseudonymize(known, "user", key.of(tenant))]


def read_erased(lake: Lake, keys: Iterable[PseudonymKey]) -> Erased:
    """Everybody who was erased, to be recognised under these keys."""
    return Erased(frozenset(read_tombstones(lake)), tuple(keys))


def read_tombstones(lake: Lake) -> dict[str, datetime]:
    """The pseudonyms of erased users, and since when."""
    stored = json.loads(lake.get_text(_PATH) or "{}")
    return {user_key: datetime.fromisoformat(erased_at) for user_key, erased_at in stored.items()}


def write_tombstones(lake: Lake, tombstones: Mapping[str, datetime]) -> None:
    """Keep the pseudonyms of erased users in the lake."""
    lake.put_text(_PATH, json.dumps({name: tombstones[name].isoformat() for name in sorted(tombstones)}, indent=1))
