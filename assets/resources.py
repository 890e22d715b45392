"""The handle that assets take: the settings, and the stores they open. And how an asset may fail."""

import functools
from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import ParamSpec, TypeVar

import dagster as dg
import polars as pl
import psycopg

from pipelines.anonymize.errors import describe_error
from pipelines.anonymize.keys import PseudonymKey
from pipelines.anonymize.text import Sanitizer
from pipelines.clean import StaleRawError
from pipelines.extract import ExtractionError, PassingError
from pipelines.lake import Lake
from pipelines.pricing.book import PriceBook
from pipelines.settings import Settings, load_settings
from pipelines.warehouse import open_warehouse
from pipelines.warehouse.connection import Warehouse
from pipelines.warehouse.ledger import BusyError

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")

_PASSING = (PassingError, psycopg.OperationalError, BusyError, ConnectionError, TimeoutError)
"""What may be gone at the next attempt."""

patience = dg.RetryPolicy(max_retries=3, delay=5, backoff=dg.Backoff.EXPONENTIAL, jitter=dg.Jitter.PLUS_MINUS)


class Mill(dg.ConfigurableResource["Mill"]):
    """Agentmill as configured by one file (or by the environment alone, where there is none)."""

    config: str | None = None

    @cached_property
    def settings(self) -> Settings:
        """Everything configured."""
        return load_settings(Path(self.config) if self.config else None)

    @cached_property
    def lake(self) -> Lake:
        """The Parquet zones."""
        return self.settings.open_lake()

    @cached_property
    def warehouse(self) -> Warehouse:
        """PostgreSQL, with its schema up to date."""
        return open_warehouse(self.settings)

    @cached_property
    def key(self) -> PseudonymKey:
        """The pseudonym key."""
        return self.settings.read_key()

    @cached_property
    def former_keys(self) -> list[PseudonymKey]:
        """The keys that were used before."""
        return self.settings.read_former_keys()

    @cached_property
    def prices(self) -> PriceBook:
        """The price book."""
        return self.settings.read_prices()

    @cached_property
    def sanitizer(self) -> Sanitizer:
        """The rules that texts are sanitized by."""
        return self.settings.read_sanitizer()


def guarded(body: Callable[Arguments, Result]) -> Callable[Arguments, Result]:
    """Let an asset fail without quoting data: libraries put the value they stumbled over into their messages.

    Only what may have passed by then is retried.
    """

    @functools.wraps(body)
    def _run(*args: Arguments.args, **kwargs: Arguments.kwargs) -> Result:
        try:
            return body(*args, **kwargs)
        except (dg.Failure, dg.DagsterError):
            raise
        except (ExtractionError, StaleRawError) as error:
            told = describe_error(error).splitlines()[0]
            raise dg.Failure(told, allow_retries=isinstance(error, _PASSING)) from None
        except (Exception, pl.exceptions.PanicException) as error:  # noqa: BLE001 - whatever it is, it is told safely
            raise dg.Failure(describe_error(error), allow_retries=isinstance(error, _PASSING)) from None

    return _run
