"""From failures that come back to candidates for regression tests: derived from all facts, reviewed by people."""

import hashlib
import json
from datetime import timedelta

import polars as pl

from pipelines.execution import TEXTS, TIMESTAMP
from pipelines.failures import SIGNATURES, derive_clusters, edge_times, read_facts
from pipelines.regression.strikes import POLICY, WINDOW, Strike, find_strike
from pipelines.warehouse.connection import Warehouse
from pipelines.warehouse.ledger import ALL_DAYS, Load, content_digest, table_contents, while_made_of
from pipelines.warehouse.publish import replace_rows

CANDIDATES = "regression_candidates"

CANDIDATE = pl.Schema(
    {
        "candidate_id": pl.String(),
        "cluster_id": pl.String(),
        "kind": pl.String(),
        "state": pl.String(),
        "policy": pl.String(),
        "struck_at": TIMESTAMP,
        "window_started_at": TIMESTAMP,
        "window_occurrence_count": pl.Int64(),
        "gates": pl.String(),
        "evidence_score": pl.Float64(),
        "evidence_execution_ids": TEXTS,
    }
)
"""Grain: one cluster that met the strike rule."""

_SEVERITY_WEIGHT = {"high": 1.0, "medium": 0.6, "low": 0.3}
_FULL_REACH, _FULL_PERSISTENCE = 10, 7
_ID_DIGITS = 16


def publish_candidates(warehouse: Warehouse) -> pl.DataFrame:
    """Derive the candidates from the facts of all days, publish them, and return them."""
    contents = table_contents(warehouse, SIGNATURES)
    candidates = derive_candidates(read_facts(warehouse))
    load = Load(table=CANDIDATES, day=ALL_DAYS, content=content_digest(CANDIDATES, contents), rows=candidates.height)
    replace_rows(warehouse, [(load, candidates)], basis=while_made_of(SIGNATURES, contents))
    return candidates


def derive_candidates(facts: pl.DataFrame) -> pl.DataFrame:
    """One row per cluster that met the strike rule, the most convincing first. The order of the facts does not matter.

    A failure of the provider cannot be mended in the agent: its candidate asks for resilience, not for other behaviour.
    """
    rows = []
    clusters = derive_clusters(facts)
    belongs = clusters.select("cluster_id", signature_id="signature_ids").explode("signature_id")
    of_clusters = facts.join(belongs, on="signature_id", maintain_order="left").partition_by("cluster_id", as_dict=True)
    for found in clusters.iter_rows(named=True):
        of_cluster = of_clusters[found["cluster_id"],]
        strike = find_strike(of_cluster.select(edge_times().list.explode()).to_series().to_list())
        if strike is not None:
            rows.append(_candidate(found, of_cluster, strike))
    return pl.DataFrame(rows, schema=CANDIDATE, orient="row").sort(
        "evidence_score", "candidate_id", descending=[True, False]
    )


def _candidate(found: dict[str, object], of_cluster: pl.DataFrame, strike: Strike) -> dict[str, object]:
    last_day = strike.struck_at.date()
    in_window = pl.col("day").is_between(last_day - WINDOW + timedelta(days=1), last_day)
    gates = {"has_evidence": bool(found["sample_execution_ids"])}
    return {
        "candidate_id": hashlib.sha256(f"{POLICY}\n{found['cluster_id']}".encode()).hexdigest()[:_ID_DIGITS],
        "cluster_id": found["cluster_id"],
        "kind": "resilience" if found["fault_domain"] == "provider" else "behaviour",
        "state": "proposed" if all(gates.values()) else "held",
        "policy": POLICY,
        "struck_at": strike.struck_at,
        "window_started_at": strike.window_started_at,
        "window_occurrence_count": of_cluster.filter(in_window)["occurrence_count"].sum(),
        "gates": json.dumps(gates),
        "evidence_score": _evidence_score(found),
        "evidence_execution_ids": found["sample_execution_ids"],
    }


def _evidence_score(found: dict[str, object]) -> float:
    """Mean of three shares between 0 and 1: severity, reach (users hit, full at 10), persistence (days, full at 7)."""
    severity = _SEVERITY_WEIGHT[str(found["severity"])]
    reach = min(1.0, int(str(found["user_count"])) / _FULL_REACH)
    persistence = min(1.0, int(str(found["day_count"])) / _FULL_PERSISTENCE)
    return round((severity + reach + persistence) / 3, 4)
