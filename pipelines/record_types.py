"""What the records of a source can be, and the contract of each type: its columns, its key and its times."""

from dataclasses import dataclass
from functools import cached_property

import polars as pl

from pipelines.execution import COLUMNS, COUNT, PERSONAL_INPUTS, TEXT, TIMESTAMP, Column, Privacy

FLAG = pl.Boolean()


@dataclass(frozen=True)
class RecordType:
    """The contract of one kind of record: its table, what makes a row unique within its day, and when it counts.

    `inputs` may be mapped although they are never stored. The latest by `version` wins among rows of one key.
    """

    name: str
    columns: tuple[Column, ...]
    inputs: tuple[Column, ...]
    key: tuple[str, ...]
    times: tuple[str, ...]
    version: str
    needed: tuple[tuple[frozenset[str], str], ...]
    """Columns of which a mapping has to name one, and why."""
    is_state: bool = False
    """Whether a row moves to another day whenever it changes, so that a day may well lose all of its rows."""

    @cached_property
    def schema(self) -> pl.Schema:
        """The columns that are stored, and their types."""
        return pl.Schema({column.name: column.dtype for column in self.columns})

    @cached_property
    def mappable(self) -> dict[str, Column]:
        """The columns that a mapping may give a value to."""
        return {column.name: column for column in (*self.columns, *self.inputs) if not column.derived}

    @property
    def clean_name(self) -> str:
        """Where its clean rows are kept in the lake."""
        return f"clean_{self.name}"


_SOURCE = Column("source", TEXT, "Name of the configured source.", derived=True)
_ROW_HASH = Column("row_hash", TEXT, "Keyed digest of the record as received.", Privacy.INTERNAL, derived=True)
_USER_KEY = Column("user_key", TEXT, "Pseudonym of the user (keyed HMAC).", Privacy.PSEUDONYM, derived=True)
_USER = next(column for column in PERSONAL_INPUTS if column.name == "user")
_QUALITY = COLUMNS[-3:]
"""What every record says of itself: flags, redactions, attributes."""

EXECUTIONS = RecordType(
    name="executions",
    columns=COLUMNS,
    inputs=PERSONAL_INPUTS,
    key=("execution_id",),
    times=("started_at", "completed_at"),
    version="completed_at",
    needed=(
        (frozenset({"status"}), "without an outcome there is no success rate"),
        (frozenset({"agent_id", "agent_name"}), "without an agent nothing can be grouped"),
        (frozenset({"started_at", "completed_at"}), "without a time a record belongs to no day"),
    ),
)

EXECUTION_LOGS = RecordType(
    name="execution_logs",
    columns=(
        _SOURCE,
        Column("log_id", TEXT, "Id of the line, unique within its source and day.", Privacy.INTERNAL),
        Column("execution_id", TEXT, "Id of the execution that wrote it.", Privacy.INTERNAL),
        _ROW_HASH,
        Column("agent_id", TEXT, "The source's id of the agent."),
        _USER_KEY,
        Column("event_time", TIMESTAMP, "When the line was written, UTC."),
        Column("level", TEXT, "debug, info, warning, error or critical; any other word as the source has it."),
        Column("category", TEXT, "What the line is about, in the source's own word."),
        Column("message", TEXT, "What it says, sanitized.", Privacy.TEXT),
        Column("context_bytes", COUNT, "Size of its context in bytes.", derived=True),
        Column("context_shape", TEXT, "Structure of its context without its values.", derived=True),
        Column("context_depth", COUNT, "Levels of nesting of a JSON context.", derived=True),
        Column("context_key_count", COUNT, "Keys of all objects in a JSON context.", derived=True),
        Column(
            "context_shape_id", TEXT, "Id of its context's structure: equal where `context_shape` is.", derived=True
        ),
        *_QUALITY,
    ),
    inputs=(_USER, Column("context", TEXT, "Data beside the message; only size and shape are kept.", Privacy.SECRET)),
    key=("log_id",),
    times=("event_time",),
    version="event_time",
    needed=(
        (frozenset({"event_time"}), "without a time a line belongs to no day"),
        (frozenset({"message"}), "without a message there is nothing to read"),
    ),
)

USER_AGENT_PREFERENCES = RecordType(
    name="user_agent_preferences",
    columns=(
        _SOURCE,
        _USER_KEY,
        Column("agent_id", TEXT, "The source's id of the agent."),
        _ROW_HASH,
        Column("event_time", TIMESTAMP, "When the user last said so, UTC."),
        Column("is_favorite", FLAG, "Whether the agent is a favourite of the user."),
        Column("rating", COUNT, "Stars the user gave the agent, 1 to 5."),
        Column("feedback", TEXT, "What the user wrote, sanitized.", Privacy.RESTRICTED),
        *_QUALITY,
    ),
    inputs=(_USER,),
    key=("user_key", "agent_id"),
    times=("event_time",),
    version="event_time",
    needed=(
        (frozenset({"user"}), "without a user nobody has said it"),
        (frozenset({"agent_id"}), "without an agent it is about nothing"),
        (frozenset({"event_time"}), "without a time it belongs to no day, and the latest word is not known"),
    ),
    is_state=True,
)

RECORD_TYPES = {kind.name: kind for kind in (EXECUTIONS, EXECUTION_LOGS, USER_AGENT_PREFERENCES)}
