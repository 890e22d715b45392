"""Tombstones in two places: if the lake or the warehouse is restored from a backup, the other still knows them."""

from collections.abc import Iterable
from datetime import datetime

from pipelines.lake import Lake
from pipelines.tombstones import read_tombstones, write_tombstones
from pipelines.warehouse.connection import Warehouse


def bury(user_keys: Iterable[str], lake: Lake, warehouse: Warehouse, erased_at: datetime) -> list[str]:
    """Remember in both places that users were erased; return the pseudonyms that neither knew."""
    known = reconcile(lake, warehouse)
    new = {user_key: erased_at for user_key in user_keys if user_key not in known}
    write_tombstones(lake, known | new)
    reconcile(lake, warehouse)
    return sorted(new)


def reconcile(lake: Lake, warehouse: Warehouse) -> dict[str, datetime]:
    """Let both places know what either does."""
    in_lake = read_tombstones(lake)
    in_warehouse = dict(warehouse.read("select user_key, erased_at from agentmill.erased_users").rows())
    known = in_warehouse | in_lake
    if known.keys() != in_lake.keys():
        write_tombstones(lake, known)
    if known.keys() != in_warehouse.keys():
        with warehouse.connect() as connection, connection.cursor() as cursor:
            cursor.executemany(
                "insert into agentmill.erased_users values (%s, %s) on conflict do nothing", list(known.items())
            )
    return known
