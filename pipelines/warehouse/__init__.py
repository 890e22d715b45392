"""The only code that talks to Postgres: the embedded server, migrations, atomic publishing, read-only queries."""

from pipelines.settings import Settings
from pipelines.warehouse.connection import Warehouse
from pipelines.warehouse.migrations import upgrade
from pipelines.warehouse.server import database_url, start_server

EMBEDDED_DATABASE = "agentmill"


def open_warehouse(settings: Settings) -> Warehouse:
    """The configured warehouse, or the embedded one, with its schema up to date."""
    if settings.database_url is not None:
        warehouse = Warehouse(settings.database_url.get_secret_value())
    else:
        server = start_server(settings.state_dir / "postgres")
        warehouse = Warehouse(database_url(server, EMBEDDED_DATABASE))
    upgrade(warehouse)
    return warehouse
