"""What follows from what a person has just entered on the command line: derived at once, or left to the next run."""

import polars as pl
import psycopg

from assets.display import err
from pipelines.regression import refresh
from pipelines.settings import Settings
from pipelines.warehouse.connection import Warehouse
from pipelines.warehouse.ledger import BusyError


def derive_anew(warehouse: Warehouse, settings: Settings) -> dict[str, pl.DataFrame] | None:
    """The tables that follow, derived anew, by name.

    None, told in a sentence, where another process is at them or the login may only enter: nothing that was entered is
    lost by that.
    """
    try:
        return refresh(warehouse, settings)
    except (BusyError, psycopg.errors.InsufficientPrivilege) as error:
        why = str(error).splitlines()[0]
        err.print(f"It is entered; the tables follow with the next run ({why}).", style="yellow", soft_wrap=True)
        return None
