"""The only code that talks to Postgres: the embedded server, migrations, atomic publishing, read-only queries."""

import logging
from pathlib import Path

import psycopg

from pipelines.settings import Settings, find_config
from pipelines.warehouse.connection import Warehouse
from pipelines.warehouse.migrations import is_outdated, may_upgrade, upgrade
from pipelines.warehouse.server import database_url, start_server

EMBEDDED_DATABASE = "agentmill"

log = logging.getLogger(__name__)


class OutdatedSchemaError(Exception):
    """The schema is of an earlier version, and the database user may not change it."""


class NothingHereError(Exception):
    """Neither a configuration nor a state folder: whoever asks is probably in another folder than intended."""


def open_warehouse(settings: Settings) -> Warehouse:
    """The configured warehouse, or the embedded one, with its schema and privacy policy up to date."""
    warehouse = find_warehouse(settings)
    upgrade(warehouse)
    _apply_policy(warehouse, settings.minimum_group_size)
    return warehouse


def open_for_reading(settings: Settings) -> Warehouse:
    """The warehouse for a login that may be a reader's: brought up to date by those whose schema it is, else as it is.

    Raises OutdatedSchemaError, NothingHereError.
    """
    if find_config() is None and settings.database_url is None and not settings.state_dir.exists():
        raise NothingHereError(
            f"There is no agentmill.yaml and no {settings.state_dir} in {Path.cwd()}: go to the folder that has them, "
            "or name the configuration with --config. `agentmill init` begins a new one."
        )
    warehouse = find_warehouse(settings)
    if may_upgrade(warehouse):
        return open_warehouse(settings)
    if is_outdated(warehouse):
        raise OutdatedSchemaError(
            f"The schema of {warehouse.name} is of an earlier version of Agentmill: let a member of agentmill_owner "
            "run `agentmill status` with this version."
        )
    return warehouse


def find_warehouse(settings: Settings) -> Warehouse:
    """The configured warehouse, or the embedded one, as it is."""
    if settings.database_url is not None:
        return Warehouse(settings.database_url.get_secret_value())
    server = start_server(settings.state_dir / "postgres")
    return Warehouse(database_url(server, EMBEDDED_DATABASE))


def _apply_policy(warehouse: Warehouse, minimum_group_size: int) -> None:
    """Keep the setting where views read it and analysts cannot change it."""
    with warehouse.connect() as connection:
        held = connection.execute("select minimum_group_size from agentmill.privacy_policy").fetchone()
        if held is None or held == (minimum_group_size,):
            return
        try:
            connection.execute("update agentmill.privacy_policy set minimum_group_size = %s", [minimum_group_size])
        except psycopg.errors.InsufficientPrivilege:
            log.warning(
                "minimum_group_size stays %s: the database user may not make it %s; a loader or owner may",
                held[0],
                minimum_group_size,
            )
