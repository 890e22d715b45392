"""Pages and files people read: what fails, since when, whom it hits, and which tests that asks for."""

from collections.abc import Mapping
from datetime import datetime
from pathlib import Path

import jinja2

from pipelines.report.failures import failure_context
from pipelines.report.regression import regression_context
from pipelines.warehouse.connection import Warehouse

_TEMPLATES = Path(__file__).parent / "templates"
_FORMATS = ("md", "html")


def write_failure_report(warehouse: Warehouse, folder: Path) -> list[Path]:
    """Write `failure_report` as Markdown and HTML. The same tables give the same bytes."""
    return _write("failure_report", failure_context(warehouse), folder)


def write_regression_report(warehouse: Warehouse, folder: Path) -> list[Path]:
    """Write `regression_report` as Markdown and HTML. The same tables give the same bytes."""
    return _write("regression_report", regression_context(warehouse), folder)


def _write(name: str, context: Mapping[str, object], folder: Path) -> list[Path]:
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for suffix in _FORMATS:
        path = folder / f"{name}.{suffix}"
        aside = path.with_suffix(f".{suffix}.part")
        aside.write_text(_environment().get_template(f"{name}.{suffix}.j2").render(context))
        aside.replace(path)
        paths.append(path)
    return paths


def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_TEMPLATES),
        autoescape=jinja2.select_autoescape(["html.j2"]),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(count=_count, share=_share, usd=_usd, code=_code, time=_time)
    return environment


def _count(value: int | None) -> str:
    return "unknown" if value is None else f"{value:,}"


def _share(value: float | None) -> str:
    return "unknown" if value is None else f"{value:.1%}"


def _usd(value: float | None) -> str:
    return "unknown" if value is None else f"${value:,.2f}"


def _time(value: datetime) -> str:
    return f"{value:%Y-%m-%d %H:%M} UTC"


def _code(text: str) -> str:
    """Text as inline code in Markdown: nothing in it may end the code or the line."""
    return "`" + " ".join(text.replace("`", "'").split()).replace("|", "\\|") + "`"
