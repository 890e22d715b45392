"""The price book: dated prices per model, shipped ones and those of users, and how a model's name is found there."""

import hashlib
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any

import yaml
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints, ValidationError, model_validator

SHIPPED = Path(__file__).with_name("prices.yaml")
KINDS = ("input", "cache_read", "cache_write", "output")
"""The kinds of tokens that have a price of their own. `input` are those that are not cached."""
DECIMALS = 6
"""Of a price: with it, a token costs a whole number of millionths of a millionth of a dollar."""

_PREFIX = re.compile(
    r"^(?:models|openai|azure|anthropic|bedrock|amazon|google|gemini|vertex_ai|x-?ai|mistral|mistralai|cohere|moonshotai)/"
)
_BEDROCK = re.compile(r"^(?:(?:us|us-gov|eu|apac|au|ca|jp|global)\.)?(?:anthropic|amazon)\.(.+?)(?:-v\d+)?(?::\d+)?$")
_DATED = re.compile(r"[-@](?:\d{4}-\d{2}-\d{2}|\d{8})$")

Name = Annotated[str, StringConstraints(strip_whitespace=True, to_lower=True, min_length=1)]
Usd = Annotated[Decimal, Field(ge=0, le=100_000, decimal_places=DECIMALS)]


class PriceFileError(Exception):
    """A price file cannot be used. `problems` say where and what."""

    def __init__(self, path: Path, problems: list[tuple[str, str]]) -> None:
        super().__init__(f"{path}: " + "; ".join(f"{where}: {what}" for where, what in problems))
        self.path = path
        self.problems = problems


class _Entry(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Price(_Entry):
    """US dollars per 1,000,000 tokens of each kind, from a UTC day on."""

    start: Annotated[date | None, Field(alias="from")] = None
    up_to_input_tokens: Annotated[int | None, Field(gt=0)] = None
    input: Usd | None = None
    cache_read: Usd | None = None
    cache_write: Usd | None = None
    output: Usd | None = None


def _in_order(prices: tuple[Price, ...]) -> tuple[Price, ...]:
    starts = [price.start or date.min for price in prices]
    if starts != sorted(set(starts)):
        raise ValueError("order the prices by `from`, each day once; only the first may leave it out")
    return prices


class Model(_Entry):
    """A model, the names it goes by, and its prices: each holds from its day until that of the next one."""

    provider: Name
    model: Name
    also: tuple[Name, ...] = ()
    source: str | None = None
    prices: Annotated[tuple[Price, ...], Field(min_length=1), AfterValidator(_in_order)]

    @property
    def names(self) -> tuple[str, ...]:
        """All names the model goes by."""
        return self.model, *self.also

    def on(self, day: date) -> Price | None:
        """The price on a UTC day; None before the first one."""
        started = [price for price in self.prices if price.start is None or price.start <= day]
        return started[-1] if started else None


class Origin(_Entry):
    """Where prices were read, and when."""

    name: str
    repository: str | None = None
    read: date


class PriceFile(_Entry):
    """A file of prices."""

    version: str | None = None
    sources: dict[str, Origin] = {}
    models: tuple[Model, ...]

    @model_validator(mode="after")
    def _consistent(self) -> "PriceFile":
        seen: set[tuple[str, str]] = set()
        for model in self.models:
            for name in model.names:
                if (model.provider, name) in seen:
                    raise ValueError(f"`{name}` of {model.provider} stands twice")
                seen.add((model.provider, name))
            if model.source is not None and model.source not in self.sources:
                raise ValueError(f"the source `{model.source}` of {model.model} is not among `sources`")
        return self


@dataclass(frozen=True, slots=True)
class PriceBook:
    """The models that have prices, by each of their names."""

    models: dict[str, list[Model]]

    @property
    def digest(self) -> str:
        """Digest of all prices."""
        return hashlib.sha256(repr(sorted(self.models.items())).encode()).hexdigest()

    def find(self, name: str, provider: str | None = None) -> Model | None:
        """The model of this name. Where several providers have one, the execution's provider must be among them."""
        found = next((self.models[spelling] for spelling in _spellings(name) if spelling in self.models), [])
        if len(found) == 1:
            return found[0]
        return next((model for model in found if model.provider == (provider or "").lower()), None)


def load_prices(own: Path | None = None) -> PriceBook:
    """The shipped prices, and a user's own in their place. Raises PriceFileError.

    A user's model takes the place of the shipped one of that name, under all names that one goes by.
    """
    mine = _by_name(read_price_file(own).models) if own is not None else {}
    heirs = {name: mine.get(one.model, [one]) for one in read_price_file(SHIPPED).models for name in one.names}
    return PriceBook({**heirs, **mine})


def read_price_file(path: Path) -> PriceFile:
    """Read a file of prices. Raises PriceFileError."""
    content: Any = None
    try:
        content = yaml.load(path.read_text(encoding="utf-8"), Loader=_Loader)  # noqa: S506 - all it makes is text
        return PriceFile.model_validate(content)
    except OSError as error:
        problems = [("file", f"it cannot be read ({error.strerror})")]
    except UnicodeDecodeError:
        problems = [("file", "it is not UTF-8")]
    except yaml.MarkedYAMLError as error:
        line = f"line {error.problem_mark.line + 1}" if error.problem_mark else "file"
        problems = [(line, error.problem or "it is not YAML")]
    except yaml.YAMLError:
        problems = [("file", "it is not YAML")]
    except ValidationError as error:
        problems = [(_place(one["loc"], content), one["msg"].removeprefix("Value error, ")) for one in error.errors()]
    raise PriceFileError(path, problems)


class _Loader(yaml.BaseLoader):
    """Every value stays the text it is, so that prices are exact; a key that stands twice is a mistake."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:  # noqa: FBT001, FBT002
        keys = [key.value for key, _ in node.value]
        for place, (key, _) in enumerate(node.value):
            if key.value in keys[:place]:
                raise yaml.constructor.ConstructorError(None, None, f"`{key.value}` stands twice", key.start_mark)
        return super().construct_mapping(node, deep=deep)


def _place(location: tuple[int | str, ...], content: Any) -> str:  # noqa: ANN401 - whatever YAML holds
    """Where in the file something is wrong; a model goes by its name."""
    if len(location) > 1 and location[0] == "models":
        entry = content["models"][location[1]]
        name = entry.get("model") if isinstance(entry, dict) else None
        location = ("models", name or location[1], *location[2:])
    return ".".join(map(str, location)) or "file"


def _by_name(models: Iterable[Model]) -> dict[str, list[Model]]:
    found: dict[str, list[Model]] = {}
    for model in models:
        for name in model.names:
            found.setdefault(name, []).append(model)
    return found


def _spellings(name: str) -> Iterator[str]:
    """A name as it is, without what stands for its provider, and without its date."""
    plain = name.strip().lower()
    yield plain
    while (shorter := _PREFIX.sub("", plain)) != plain:
        plain = shorter
    plain = _BEDROCK.sub(r"\1", plain)
    yield plain
    yield _DATED.sub("", plain)
