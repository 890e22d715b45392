"""Every kind of source there is."""

from collections.abc import Collection
from typing import Annotated

from pydantic import Field

from pipelines.sources.database import DatabaseSource
from pipelines.sources.files import FileSource
from pipelines.sources.spans import TraceSource

AnySource = Annotated[FileSource | DatabaseSource | TraceSource, Field(discriminator="kind")]

DEFAULT_KIND = "files"
_OF_DATABASES = frozenset(("url", "table", "query"))
KINDS: dict[str, type[FileSource | DatabaseSource]] = {
    "files": FileSource,
    "database": DatabaseSource,
    "otlp": TraceSource,
    "langfuse": TraceSource,
}


def default_kind(configured: Collection[str]) -> str:
    """The kind of a source that does not say it, by the keys it has."""
    return "database" if _OF_DATABASES & set(configured) else DEFAULT_KIND
