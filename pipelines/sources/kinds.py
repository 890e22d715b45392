"""Every kind of source there is."""

from typing import Annotated

from pydantic import Field

from pipelines.sources.database import DatabaseSource
from pipelines.sources.files import FileSource
from pipelines.sources.spans import TraceSource

AnySource = Annotated[FileSource | DatabaseSource | TraceSource, Field(discriminator="kind")]

DEFAULT_KIND = "files"
KINDS: dict[str, type[FileSource | DatabaseSource]] = {
    "files": FileSource,
    "database": DatabaseSource,
    "otlp": TraceSource,
    "langfuse": TraceSource,
}
