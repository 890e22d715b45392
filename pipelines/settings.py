"""Environment and `agentmill.yaml` -> one typed, validated object. The only module that reads the environment."""

import difflib
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError, field_validator
from pydantic_core import ErrorDetails
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict, SettingsError

from pipelines.anonymize.gitleaks import GitleaksError, read_gitleaks
from pipelines.anonymize.keys import PseudonymKey, parse_key, read_key_file, refuse_shared_ids
from pipelines.anonymize.text import Sanitizer
from pipelines.anonymize.user_rules import ExtraRule
from pipelines.lake import Lake
from pipelines.pricing.book import PriceBook, PriceFileError, load_prices
from pipelines.sources.database import check_url
from pipelines.sources.kinds import DEFAULT_KIND, KINDS, AnySource, default_kind
from pipelines.sources.mapping import MappedField
from pipelines.sources.presets import apply_preset, preset_names
from pipelines.sources.source import TenantName

CONFIG_VARIABLE = "AGENTMILL_CONFIG"
DEFAULT_CONFIG = Path("agentmill.yaml")
EXAMPLE_CONFIG = Path(__file__).parents[1] / "agentmill.example.yaml"


class _Loader(yaml.SafeLoader):
    """Safe, and without the spellings of yes and no that would turn a source's words into truth values."""

    yaml_implicit_resolvers = {  # noqa: RUF012 - as the base class has it
        first: [(tag, pattern) for tag, pattern in resolvers if tag != "tag:yaml.org,2002:bool"]
        for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }


_Loader.add_implicit_resolver("tag:yaml.org,2002:bool", re.compile("^(?:true|false)$", re.IGNORECASE), list("tTfF"))

_VARIABLE = re.compile(r"\$\{([A-Z_][A-Z0-9_]*)\}")

Location = tuple[int | str, ...]
_KIND_AT = 2


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing wrong with the configuration: where, what, and how to mend it."""

    line: int | None
    where: str
    what: str
    fix: str

    def __str__(self) -> str:
        place = f"line {self.line}: " if self.line else ""
        return f"{place}{self.where}: {self.what}{'' if self.what.endswith('?') else '.'} {self.fix}"


class ConfigError(Exception):
    """The configuration cannot be used."""

    def __init__(self, path: Path, problems: list[Problem]) -> None:
        super().__init__(f"{path} cannot be used:\n" + "\n".join(f"  {problem}" for problem in problems))
        self.path = path
        self.problems = problems


class LegacySettings(BaseModel):
    """An older application whose totals and transactions are brought in once."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    url: SecretStr = Field(description="Its PostgreSQL database; best as ${VARIABLE}.")
    cut: date = Field(description="What happened before 00:00 UTC of this day is the older application's.")
    agents: str = Field("Agent", description="Its table of agents, with its schema where it is not the default one.")
    transactions: str = Field("Transaction", description="Its table of transactions.")
    tenant: TenantName = Field("", description="The tenant whose users they are, as its source has it.")

    @field_validator("url")
    @classmethod
    def _is_postgres(cls, url: SecretStr) -> SecretStr:
        if check_url(url) != "postgresql":
            raise ValueError("only a PostgreSQL database can be migrated from")
        return url


class RetentionSettings(BaseModel):
    """How long what is kept, at least; `agentmill retain` drops what is older."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    raw_days: int = Field(30, ge=1, description="Records as received.")
    quarantine_days: int = Field(30, ge=1, description="Refused records.")
    executions_months: int = Field(13, ge=1, description="Executions, log lines and preferences, besides this month.")
    rollups_months: int = Field(60, ge=1, description="Rollups, users by day, failures and receipts.")


class FailureSettings(BaseModel):
    """How failures become clusters, when they count as gone, and which of them ask for a test."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    overrides: Path | None = Field(None, description="What people know better about clusters, as a YAML file.")
    silent_days: int = Field(
        14, ge=1, description="Days with executions and without a failure, after which it is gone."
    )
    candidate_policy: Literal["gated", "three_strikes"] = Field(
        "gated", description="`three_strikes` proposes every failure that struck three times in seven days."
    )


class Settings(BaseSettings):
    """Everything a user can set. `AGENTMILL_<NAME>` in the environment wins over the file; secrets are never shown."""

    model_config = SettingsConfigDict(env_prefix="AGENTMILL_", extra="forbid", frozen=True)

    state_dir: Path = Field(Path(".agentmill"), description="Where everything lives that is not configured elsewhere.")
    start_date: date = Field(date(2020, 1, 1), description="First day that can be run.")
    database_url: SecretStr | None = Field(None, description="PostgreSQL 15+; the embedded server where unset.")
    dagster_database_url: SecretStr | None = Field(None, description="Dagster's own storage; beside the warehouse.")
    lake_url: str | None = Field(None, description="s3://bucket/prefix and the like; `<state_dir>/lake` where unset.")
    lake_options: dict[str, SecretStr] = Field({}, description="Options of the object store: endpoint, region, keys.")
    reports_dir: Path | None = Field(None, description="Where reports are written; `<state_dir>/reports` where unset.")
    pseudonym_key: SecretStr | None = Field(None, description="`k1:<hex>`; the key file is not read then.")
    pseudonym_key_file: Path = Field(Path("agentmill.key"), description="Written by `agentmill init`.")
    former_pseudonym_keys: list[SecretStr] = Field([], description="Keys of before; erased users are found by them.")
    access_log: str | None = Field(None, description="CSV or JSON logs of the warehouse's server, as a path or glob.")
    prices_file: Path | None = Field(None, description="Prices of models, in place of the shipped ones.")
    extra_rules: tuple[ExtraRule, ...] = Field((), description="Rules of your own for what texts must not hold.")
    gitleaks_rules: Path | None = Field(None, description="A gitleaks configuration whose rules apply to texts too.")
    sources: dict[str, AnySource] = Field({}, description="Where logs come from, by name.")
    legacy: LegacySettings | None = Field(None, description="An older application to migrate from, once.")
    failures: FailureSettings = Field(FailureSettings(), description="How failures are judged.")
    results_dir: Path | None = Field(
        None, description="Results of regression tests; `<state_dir>/results` where unset."
    )
    cases_dir: Path | None = Field(None, description="Regression tests as JSON; `<state_dir>/cases` where unset.")
    retention: RetentionSettings = Field(RetentionSettings(), description="How long what is kept.")
    minimum_group_size: int = Field(5, ge=2, description="Users that a group needs to be shown in views.")

    @field_validator("sources", mode="before")
    @classmethod
    def _name_sources(cls, sources: object) -> object:
        if not isinstance(sources, dict):
            return sources
        return {
            name: {"kind": default_kind(body), **apply_preset(body), "name": name} if isinstance(body, dict) else body
            for name, body in sources.items()
        }

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],  # noqa: ARG003 - the signature is the library's
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Order the origins: the environment first, then the file."""
        return env_settings, init_settings

    @property
    def reports(self) -> Path:
        """Where reports are written."""
        return self.reports_dir or self.state_dir / "reports"

    @property
    def results(self) -> Path:
        """Where results of regression tests are looked for."""
        return self.results_dir or self.state_dir / "results"

    @property
    def cases(self) -> Path:
        """Where the cases of approved regression tests are written."""
        return self.cases_dir or self.state_dir / "cases"

    def open_lake(self) -> Lake:
        """Open the lake. Makes its folders where it is on disk."""
        url = self.lake_url or (self.state_dir / "lake").absolute().as_uri()
        return Lake(url, {name: value.get_secret_value() for name, value in self.lake_options.items()})

    def read_key(self) -> PseudonymKey:
        """Return the pseudonym key. Raises KeyProblemError where there is none, or it is unfit."""
        if self.pseudonym_key is not None:
            return parse_key(self.pseudonym_key.get_secret_value(), "AGENTMILL_PSEUDONYM_KEY")
        return read_key_file(self.pseudonym_key_file)

    def read_former_keys(self) -> list[PseudonymKey]:
        """Return the keys that were used before. Raises KeyProblemError where one is unfit, or has another's id."""
        former = [parse_key(key.get_secret_value(), "former_pseudonym_keys") for key in self.former_pseudonym_keys]
        has_key = self.pseudonym_key is not None or self.pseudonym_key_file.is_file()
        refuse_shared_ids([*([self.read_key()] if has_key else []), *former])
        return former

    def read_prices(self) -> PriceBook:
        """Return the price book. Raises ConfigError where the user's own prices cannot be used."""
        try:
            return load_prices(self.prices_file)
        except PriceFileError as error:
            fix = "Change the file that `prices_file` names."
            raise ConfigError(error.path, [Problem(None, where, what, fix) for where, what in error.problems]) from None

    def read_sanitizer(self) -> Sanitizer:
        """Return the sanitizer with the user's own rules. Raises ConfigError where they cannot be used."""
        extra = tuple(rule.stage for rule in self.extra_rules)
        if self.gitleaks_rules is None:
            return Sanitizer(extra)
        try:
            return Sanitizer((*extra, *read_gitleaks(self.gitleaks_rules)))
        except GitleaksError as error:
            fix = "Change the file that `gitleaks_rules` names."
            raise ConfigError(error.path, [Problem(*problem, fix) for problem in error.problems]) from None


def find_config(explicit: Path | None = None) -> Path | None:
    """The configuration file: the one named, else AGENTMILL_CONFIG, else ./agentmill.yaml if there is one."""
    named = explicit or (Path(os.environ[CONFIG_VARIABLE]) if os.environ.get(CONFIG_VARIABLE) else None)
    return named or (DEFAULT_CONFIG if DEFAULT_CONFIG.exists() else None)


def dagster_home() -> Path | None:
    """Dagster's home, where its owner has set one."""
    home = os.environ.get("DAGSTER_HOME")
    return Path(home) if home else None


def load_settings(path: Path | None = None) -> Settings:
    """Read the configuration; without a file everything has its default, and no source. Raises ConfigError."""
    found = find_config(path)
    if found is None:
        return parse_settings("", Path("the environment"))
    try:
        text = found.read_text()
    except UnicodeDecodeError:
        raise ConfigError(found, [Problem(None, str(found), "it is not UTF-8", "Save it as UTF-8.")]) from None
    except OSError as error:
        fix = "Run `agentmill init` to write one, or name another with --config."
        raise ConfigError(found, [Problem(None, str(found), f"it cannot be read ({error.strerror})", fix)]) from None
    return parse_settings(text, found)


def parse_settings(text: str, path: Path) -> Settings:
    """Build settings from the text of a configuration file. Raises ConfigError."""
    try:
        root = yaml.compose(text, Loader=_Loader)
        content = yaml.load(text, Loader=_Loader) or {}  # noqa: S506 - it is a safe loader
    except yaml.YAMLError as error:
        mark = error.problem_mark if isinstance(error, yaml.MarkedYAMLError) else None
        told = (error.problem if isinstance(error, yaml.MarkedYAMLError) else None) or "it is not YAML"
        fix = "Check indentation, colons, quotes and odd characters there."
        raise ConfigError(path, [Problem(mark.line + 1 if mark else None, "YAML", told, fix)]) from None
    if not isinstance(content, dict) or not all(isinstance(key, str) for key in content):
        raise ConfigError(path, [Problem(1, "YAML", "it is not a mapping of settings", "Write `key: value` lines.")])
    if mistakes := [*_repeated_keys(root), *_unset_variables(content, root), *_unknown_presets(content, root)]:
        raise ConfigError(path, mistakes)
    try:
        return Settings(**_with_variables(content))
    except ValidationError as error:
        problems = [_explain(details, root) for details in error.errors(include_input=False, include_url=False)]
        raise ConfigError(path, sorted(problems, key=lambda problem: problem.line or 0)) from None
    except SettingsError:
        fix = 'A setting that holds others is written as JSON in the environment, such as {"region": "eu-west-1"}.'
        raise ConfigError(path, [Problem(None, "AGENTMILL_...", "a variable cannot be read", fix)]) from None


def _with_variables(content: Any) -> Any:  # noqa: ANN401 - whatever YAML holds
    """The content with `${NAME}` replaced by the variable of the environment, so that secrets stay out of the file."""
    if isinstance(content, dict):
        return {key: _with_variables(value) for key, value in content.items()}
    if isinstance(content, list):
        return [_with_variables(value) for value in content]
    return _VARIABLE.sub(lambda found: os.environ[found[1]], content) if isinstance(content, str) else content


def _unset_variables(content: Any, root: yaml.Node | None, inside: Location = ()) -> Iterator[Problem]:  # noqa: ANN401
    if isinstance(content, dict):
        for key, value in content.items():
            yield from _unset_variables(value, root, (*inside, key))
    elif isinstance(content, list):
        for value in content:
            yield from _unset_variables(value, root, inside)
    elif isinstance(content, str):
        for name in sorted(set(_VARIABLE.findall(content)) - os.environ.keys()):
            where = ".".join(map(str, inside))
            yield Problem(_line(root, inside), where, f"the variable {name} is not set", f"Set it: export {name}=...")


def _unknown_presets(content: dict[str, Any], root: yaml.Node | None) -> Iterator[Problem]:
    sources = content.get("sources")
    for name, body in sources.items() if isinstance(sources, dict) else ():
        if isinstance(body, dict) and body.get("preset") not in (None, *preset_names()):
            place = ("sources", name, "preset")
            fix = f"There are: {', '.join(preset_names())}."
            yield Problem(_line(root, place), ".".join(place), f"`{body['preset']}` is no preset", fix)


def _explain(details: ErrorDetails, root: yaml.Node | None) -> Problem:
    location, kind_of_source = _without_kind(tuple(step for step in details["loc"] if step != "[key]"))
    where = ".".join(str(step) for step in location) or "file"
    kind, message = details["type"], details["msg"].removeprefix("Value error, ")
    if kind == "extra_forbidden":
        known = _known_keys(location, kind_of_source)
        near = difflib.get_close_matches(str(location[-1]), known, n=1)
        what = "this key is unknown" + (f"; did you mean `{near[0]}`?" if near else "")
        return Problem(_line(root, location), where, what, f"There are: {', '.join(sorted(known))}.")
    if kind == "union_tag_invalid":
        place = (*location, "kind")
        fix = f"There are: {', '.join(KINDS)}."
        return Problem(_line(root, place), f"{where}.kind", f"`{details['ctx']['tag']}` is no kind of source", fix)
    if kind == "missing":
        return Problem(_line(root, location[:-1]), where, "it is missing", f"Add a line `{location[-1]}: ...`.")
    fix = "Change it as the message says." if kind == "value_error" else "Give it a value of that kind."
    return Problem(_line(root, location), where, message, fix)


def _without_kind(location: Location) -> tuple[Location, str]:
    """Where it is in the file: pydantic puts the kind of a source into the place of what is wrong with it."""
    if location[0] == "sources" and len(location) > _KIND_AT and location[_KIND_AT] in KINDS:
        return location[:_KIND_AT] + location[_KIND_AT + 1 :], str(location[_KIND_AT])
    return location, DEFAULT_KIND


_PARTS: dict[str, type[BaseModel]] = {
    "legacy": LegacySettings,
    "retention": RetentionSettings,
    "extra_rules": ExtraRule,
}
"""What settings consist of that hold others."""


def _known_keys(location: Location, kind: str) -> set[str]:
    """The keys that may stand where an unknown one was found."""
    model: type[BaseModel] = Settings
    if location[0] == "sources":
        model = MappedField if "mapping" in location else KINDS[kind]
    elif location[0] in _PARTS and len(location) > 1:
        model = _PARTS[str(location[0])]
    names = {field.alias or name for name, field in model.model_fields.items()}
    names |= {"preset"} if location[0] == "sources" and "mapping" not in location else set()
    return names - {"name"} if location[0] == "sources" and "mapping" not in location else names


def _line(node: yaml.Node | None, location: Location) -> int | None:
    """The line of a value, or of the innermost thing around it that the file has."""
    line = None
    for step in location:
        if isinstance(node, yaml.SequenceNode) and isinstance(step, int) and step < len(node.value):
            node = node.value[step]
            line = node.start_mark.line + 1
            continue
        if not isinstance(node, yaml.MappingNode):
            break
        found = next(((key, value) for key, value in node.value if key.value == str(step)), None)
        if found is None:
            break
        line, node = found[0].start_mark.line + 1, found[1]
    return line


def _repeated_keys(node: yaml.Node | None, inside: str = "") -> Iterator[Problem]:
    """YAML lets a second key win silently; here it is a mistake."""
    if not isinstance(node, yaml.MappingNode):
        return
    seen: dict[str, int] = {}
    for key, value in node.value:
        where, line = f"{inside}{key.value}", key.start_mark.line + 1
        if key.value in seen:
            yield Problem(line, where, f"the key stands on line {seen[key.value]} too", "Keep one of them.")
        seen[key.value] = line
        yield from _repeated_keys(value, f"{where}.")
