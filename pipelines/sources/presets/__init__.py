"""Sources that are described already: applications with a known table. A user names one and overrides what differs."""

from functools import cache
from pathlib import Path
from typing import Any

import yaml

_FOLDER = Path(__file__).parent
_MERGED = ("mapping", "types")
"""Settings of a source that are added to; of all others the user's own replaces the preset's."""


def preset_names() -> list[str]:
    """The presets there are."""
    return sorted(path.stem for path in _FOLDER.glob("*.yaml"))


def apply_preset(source: dict[str, Any]) -> dict[str, Any]:
    """A source as configured, completed by the preset it names. Raises ValueError where there is no such preset."""
    name = source.get("preset")
    if name is None:
        return source
    if name not in preset_names():
        raise ValueError(f"`{name}` is no preset; there are: {', '.join(preset_names())}")
    own = {key: value for key, value in source.items() if key != "preset"}
    told = _read(str(name))
    merged = {key: {**told.get(key, {}), **own[key]} for key in _MERGED if isinstance(own.get(key), dict)}
    origin = {"table": None, "query": None} if {"table", "query"} & own.keys() else {}
    return {**told, **origin, **own, **merged}


@cache
def _read(name: str) -> dict[str, Any]:
    content: dict[str, Any] = yaml.safe_load((_FOLDER / f"{name}.yaml").read_text())
    return content
