"""The only code that talks to Postgres: the embedded server, migrations, atomic publishing, read-only queries."""

from pipelines.settings import Settings
from pipelines.warehouse.connection import Warehouse
from pipelines.warehouse.migrations import upgrade
from pipelines.warehouse.server import database_url, start_server

EMBEDDED_DATABASE = "agentmill"


def open_warehouse(settings: Settings) -> Warehouse:
    """The configured warehouse, or the embedded one, with its schema and privacy policy up to date."""
    warehouse = find_warehouse(settings)
    upgrade(warehouse)
    _apply_policy(warehouse, settings.minimum_group_size)
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
        connection.execute(
            "update agentmill.privacy_policy set minimum_group_size = %(k)s where minimum_group_size <> %(k)s",
            {"k": minimum_group_size},
        )
