"""The table `regression_cases` and the folder of case files: derived from candidates, reviews and results, whole."""

from collections.abc import Iterable
from pathlib import Path

import polars as pl

from pipelines.regression.case_file import Case, write_cases
from pipelines.regression.cases import build_cases, freeze_cases
from pipelines.regression.scores import (
    CANDIDATES,
    CASES,
    RESULTS,
    RETIRED,
    REVIEWS,
    SIGNATURES,
    STATES,
    Evidence,
    derive_cases,
)
from pipelines.warehouse.connection import Warehouse
from pipelines.warehouse.ledger import ALL_DAYS, Load, content_digest, table_contents, while_made_of
from pipelines.warehouse.publish import replace_rows

_READS = {
    "candidates": ("regression_candidates", CANDIDATES),
    "reviews": ("candidate_reviews", REVIEWS),
    "results": ("regression_results", RESULTS),
    "signatures": ("failure_cluster_signatures", SIGNATURES),
    "states": ("failure_states", STATES),
}
_BASIS = "regression_candidates"
_EMPTY = "; there is no input to run it on: approve it once more with a fixture"


def publish_cases(warehouse: Warehouse, folder: Path) -> pl.DataFrame:
    """Derive the cases, publish them and return them; make the folder hold the files of those that are not retired.

    What a new case is run on is kept for good. Raises BusyError where candidates change meanwhile, and
    psycopg.errors.InsufficientPrivilege for whoever may not write the tables, who writes no file either.
    """
    contents = table_contents(warehouse, _BASIS)
    freeze_cases(warehouse)
    cases = build_cases(warehouse)
    rows = derive_cases(read_evidence(warehouse), {case.candidate_id: case.agent.id for case in cases})
    rows = _with_empty_told(rows, cases)
    load = Load(table=CASES, day=ALL_DAYS, content=content_digest(CASES, rows.write_json()), rows=rows.height)
    replace_rows(warehouse, [(load, rows)], basis=while_made_of(_BASIS, contents))
    retired = set(rows.filter(pl.col("state") == RETIRED)["case_id"])
    write_cases([case for case in cases if case.case_id not in retired], folder)
    return rows


def _with_empty_told(rows: pl.DataFrame, cases: Iterable[Case]) -> pl.DataFrame:
    """Cases with nothing to run them on say so: their executions went before they were first published."""
    empty = [case.case_id for case in cases if case.input.fixture is None and not case.input.structures]
    told = pl.when(pl.col("case_id").is_in(empty)).then(pl.col("state_reason") + _EMPTY).otherwise("state_reason")
    return rows.with_columns(state_reason=told)


def read_evidence(warehouse: Warehouse) -> Evidence:
    """The published tables that scores are derived from."""
    return Evidence(**{name: read_table(warehouse, table, schema) for name, (table, schema) in _READS.items()})


def read_table(warehouse: Warehouse, table: str, schema: pl.Schema) -> pl.DataFrame:
    """The columns of a schema of a table of ours, typed as it says, in no order."""
    rows = warehouse.read(f"select {', '.join(schema)} from agentmill.{table}")  # noqa: S608 - our own words
    return rows.match_to_schema(schema) if rows.height else schema.to_frame()
