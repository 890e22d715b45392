"""What people decided about failures: which are one, which are not, what they are called and what kind they are."""

import hashlib
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any

import polars as pl
import yaml
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StringConstraints,
    ValidationError,
    model_validator,
)

from pipelines.anonymize.text import sanitize_texts
from pipelines.failures.classify import CATEGORIES, UNKNOWN, Severity

_CATEGORIES = {category.name: category for category in (*CATEGORIES, UNKNOWN)}
_LISTS = "together, apart, rename, category"


class OverridesError(Exception):
    """A file of overrides cannot be used. `problems` say where, what and how to mend it."""

    def __init__(self, path: Path, problems: list[tuple[str, str, str]]) -> None:
        super().__init__(f"{path}: " + " ".join(f"{where}: {what}. {fix}" for where, what, fix in problems))
        self.path = path
        self.problems = problems


def _known(name: str) -> str:
    if name not in _CATEGORIES:
        raise ValueError(f"`{name}` is no category; there are {', '.join(_CATEGORIES)}")
    return name


def _each_once(ids: tuple[str, ...]) -> tuple[str, ...]:
    if len(set(ids)) < len(ids):
        raise ValueError("a signature stands twice")
    return ids


def _listed(entries: object) -> object:
    return () if entries in (None, "") else entries


def _sanitized(text: str) -> str:
    """What people write is published as names and reasons, so it is held to the rules for texts of logs."""
    return str(sanitize_texts(pl.Series([text])).item())


Text = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1), AfterValidator(_sanitized)]
SignatureId = Annotated[
    str, StringConstraints(strip_whitespace=True, to_lower=True), Field(pattern="^[0-9a-fA-F]{16}$")
]


class _Entry(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    reason: Text


class Together(_Entry):
    """Signatures that are one failure, whatever their words."""

    signatures: Annotated[tuple[SignatureId, ...], Field(min_length=2), AfterValidator(_each_once)]


class Apart(_Entry):
    """A signature that no rule joins with others; `from` tells with whom it was mixed up, to be checked only."""

    signature: SignatureId
    mixed_up_with: Annotated[SignatureId | None, Field(alias="from")] = None


class Rename(_Entry):
    """What the cluster of a signature is called."""

    signature: SignatureId
    name: Text


class Recategorize(_Entry):
    """What kind of failure the cluster of a signature is; its severity is the category's where none is said."""

    signature: SignatureId
    category: Annotated[str, AfterValidator(_known)]
    severity: Severity | None = None

    @property
    def told_severity(self) -> Severity:
        """The severity that was said, else the category's."""
        return self.severity or _CATEGORIES[self.category].severity


def _first_repeated(values: Iterable[str]) -> str | None:
    seen: set[str] = set()
    return next((value for value in values if value in seen or seen.add(value)), None)  # type: ignore[func-returns-value]


class Overrides(BaseModel):
    """All decisions. Any signature id that was ever published may be named, in the data or not."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    together: Annotated[tuple[Together, ...], BeforeValidator(_listed)] = ()
    apart: Annotated[tuple[Apart, ...], BeforeValidator(_listed)] = ()
    rename: Annotated[tuple[Rename, ...], BeforeValidator(_listed)] = ()
    category: Annotated[tuple[Recategorize, ...], BeforeValidator(_listed)] = ()

    @model_validator(mode="after")
    def _no_contradictions(self) -> "Overrides":
        for what, entries in (("apart", self.apart), ("rename", self.rename), ("category", self.category)):
            if twice := _first_repeated(entry.signature for entry in entries):
                raise ValueError(f"{what}: the signature {twice} stands twice; say once what holds")
        for group in self.groups():
            for apart in self.apart:
                if apart.mixed_up_with in group and apart.signature in group:
                    both = f"{apart.signature} is apart from and together with {apart.mixed_up_with}"
                    raise ValueError(f"the signature {both}; say one of both")
            for what, told in (("names", self._names()), ("categories", self._categories())):
                said = sorted({told[one] for one in group if one in told})
                if len(said) > 1:
                    raise ValueError(f"signatures that are together have two {what}, {said[0]} and {said[1]}; say one")
        return self

    def _names(self) -> dict[str, str]:
        return {entry.signature: f"`{entry.name}`" for entry in self.rename}

    def _categories(self) -> dict[str, str]:
        return {entry.signature: f"`{entry.category}` ({entry.severity})" for entry in self.category}

    def groups(self) -> list[frozenset[str]]:
        """The signatures that are one failure if all that `together` names are in the data."""
        groups: list[frozenset[str]] = []
        for entry in self.together:
            touched = [group for group in groups if group & set(entry.signatures)]
            groups = [group for group in groups if group not in touched]
            groups.append(frozenset(entry.signatures).union(*touched))
        return groups

    @property
    def digest(self) -> str:
        """SHA-256 of all that is decided; neither the order of entries nor how the file is written changes it."""
        lists = {
            name: sorted(entry.model_dump_json() for entry in entries)
            for name, entries in (
                ("together", [_in_order(entry) for entry in self.together]),
                ("apart", self.apart),
                ("rename", self.rename),
                ("category", self.category),
            )
        }
        return hashlib.sha256(repr(sorted(lists.items())).encode()).hexdigest()


def _in_order(entry: Together) -> Together:
    return entry.model_copy(update={"signatures": tuple(sorted(entry.signatures))})


NO_OVERRIDES = Overrides()


def read_overrides(path: Path) -> Overrides:
    """Read a YAML file with the lists together, apart, rename and category. Raises OverridesError."""
    content: Any = None
    try:
        content = yaml.load(path.read_text(encoding="utf-8"), Loader=_Loader)  # noqa: S506 - all it makes is text
        return Overrides.model_validate({} if content in (None, "") else content)
    except OSError as error:
        problems = [("file", f"it cannot be read ({error.strerror})", "Name a file that there is.")]
    except UnicodeDecodeError:
        problems = [("file", "it is not UTF-8", "Save it as UTF-8.")]
    except yaml.MarkedYAMLError as error:
        line = f"line {error.problem_mark.line + 1}" if error.problem_mark else "file"
        problems = [(line, error.problem or "it is not YAML", "Check indentation, colons and quotes there.")]
    except yaml.YAMLError:
        problems = [("file", "it is not YAML", "Check indentation, colons, quotes and odd characters.")]
    except ValidationError as error:
        problems = [_problem(one["loc"], one["type"], one["msg"]) for one in error.errors()]
    raise OverridesError(path, problems)


_FIXES = {
    "missing": "Write it.",
    "extra_forbidden": f"Leave it out; there are the lists {_LISTS}.",
    "string_pattern_mismatch": "Write the 16 hex digits of a signature, as `signature_ids` of a cluster has them.",
    "string_too_short": "Say why, or what.",
    "too_short": "Name two signatures at least.",
    "tuple_type": "Write a list: a line for each, with a dash before it.",
    "model_type": f"Write the lists {_LISTS}.",
    "literal_error": "Write one of those, or leave it out.",
}


def _problem(location: tuple[int | str, ...], kind: str, message: str) -> tuple[str, str, str]:
    """Where something is wrong, entries counted from 1; what it is, and how to mend it."""
    where = ".".join(str(part + 1) if isinstance(part, int) else part for part in location) or "file"
    return where, message.removeprefix("Value error, "), _FIXES.get(kind, "Change it.")


class _Loader(yaml.BaseLoader):
    """Every value stays the text it is, so that an id of digits is none; a key that stands twice is a mistake."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:  # noqa: FBT001, FBT002
        twice = _first_repeated(key.value for key, _ in node.value)
        if twice is not None:
            raise yaml.constructor.ConstructorError(None, None, f"`{twice}` stands twice", node.start_mark)
        return super().construct_mapping(node, deep=deep)
