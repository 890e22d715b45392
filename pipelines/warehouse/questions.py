"""Ready questions to the warehouse: the queries of `sql/queries`, each with who asks it, why, and how to read it."""

from dataclasses import dataclass
from pathlib import Path

QUERIES = Path(__file__).parents[2] / "sql" / "queries"


@dataclass(frozen=True, slots=True)
class Question:
    """A query with what its header says of it."""

    name: str
    title: str
    asked_by: str
    why: str
    how_to_read: str
    query: str


def ready_questions() -> list[Question]:
    """All of them, by name."""
    return [_read(path) for path in sorted(QUERIES.glob("*.sql"))]


def _read(path: Path) -> Question:
    text = path.read_text()
    title, *labelled = (line.removeprefix("-- ") for line in text.splitlines()[:4])
    asked_by, why, how_to_read = (line.partition(": ")[2] for line in labelled)
    return Question(path.stem, title, asked_by, why, how_to_read, text)
