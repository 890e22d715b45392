"""The table `regression_candidates`: derived whole from published clusters and reviews, found and told."""

from typing import Any

import polars as pl

from pipelines.failures import CLUSTERS, read_history
from pipelines.failures.derived import CLUSTER_SIGNATURES
from pipelines.regression.candidates import CANDIDATE, Evidence, derive_candidates
from pipelines.regression.case_table import read_table
from pipelines.regression.reviews import read_reviews
from pipelines.regression.scores import SIGNATURES
from pipelines.regression.standing import PREFIX, as_signature
from pipelines.settings import FailureSettings
from pipelines.warehouse.connection import Warehouse
from pipelines.warehouse.ledger import ALL_DAYS, Load, content_digest, table_contents, while_made_of
from pipelines.warehouse.publish import replace_rows

CANDIDATES = "regression_candidates"

_COVERED = """
select execution_id
from agentmill.executions
where execution_id in (select unnest(sample_execution_ids) from agentmill.failure_clusters)
    and lower(attributes ->> 'test_generated') in ('true', 't', '1')
"""


_ACTIVE_DAYS = "select distinct day from agentmill.execution_rollup_daily order by 1"
_FIND = """
select distinct candidate.candidate_id
from agentmill.regression_candidates as candidate
join agentmill.failure_cluster_signatures as known using (cluster_id)
where candidate.cluster_id = %s or starts_with(known.signature_id, %s)
order by 1
"""
_TELL = """
select *
from agentmill.regression_candidates join agentmill.failure_clusters using (cluster_id)
where candidate_id = %s
"""
_DIFFERENT = """
select concat_ws(' ', dimension, agent_id, value) as what, lift,
    concat(occurrence_count, ' of ', execution_count, ' executions; ', lift_low::numeric(12, 1), ' to ',
        lift_high::numeric(12, 1)) as detail
from agentmill.failure_differences
where cluster_id = %s
order by rank
"""
_SIGNATURES_OF = "select signature_id from agentmill.failure_cluster_signatures where cluster_id = %s"
_DEFAULTS = FailureSettings()


def publish_candidates(warehouse: Warehouse, settings: FailureSettings = _DEFAULTS) -> pl.DataFrame:
    """Derive the candidates from clusters and reviews, publish them, and return them."""
    contents = table_contents(warehouse, CLUSTERS)
    evidence = _read_evidence(warehouse, settings)
    policy = settings.candidate_policy
    candidates = derive_candidates(evidence, policy) if evidence.clusters.height else CANDIDATE.to_frame()
    content = content_digest(CANDIDATES, contents, candidates.write_json())
    load = Load(table=CANDIDATES, day=ALL_DAYS, content=content, rows=candidates.height)
    replace_rows(warehouse, [(load, candidates)], basis=while_made_of(CLUSTERS, contents))
    return candidates


def find_candidate(warehouse: Warehouse, text: str) -> list[str]:
    """The candidates whose id, or whose former id, is or begins with a text; `rc_` may be left out."""
    begins = text.removeprefix(PREFIX)
    return warehouse.read(_FIND, [begins, begins]).to_series().to_list() if begins else []


def tell_candidate(warehouse: Warehouse, candidate_id: str) -> dict[str, Any]:
    """Everything about a candidate, for people: its failure, what is different about that, and what was said."""
    (told,) = warehouse.read(_TELL, [candidate_id]).rows(named=True)
    del told["signature_ids"]
    known = set(warehouse.read(_SIGNATURES_OF, [told["cluster_id"]])["signature_id"])
    said = read_reviews(warehouse).drop("fixture", "signature_ids").rows(named=True)
    told["reviews"] = [review for review in said if as_signature(review["candidate_id"]) in known]
    told["differences"] = warehouse.read(_DIFFERENT, [told["cluster_id"]]).rows(named=True)
    return told


def _read_evidence(warehouse: Warehouse, settings: FailureSettings) -> Evidence:
    history = read_history(warehouse, settings)
    return Evidence(
        facts=history.facts,
        clusters=warehouse.read("select * from agentmill.failure_clusters order by cluster_id"),
        signatures=read_table(warehouse, CLUSTER_SIGNATURES, SIGNATURES),
        states=warehouse.read("select cluster_id, state, reason from agentmill.failure_states"),
        reviews=read_reviews(warehouse),
        covered=frozenset(warehouse.read(_COVERED).to_series().to_list()),
        active_days=warehouse.read(_ACTIVE_DAYS).to_series().to_list(),
        as_of=history.as_of,
    )
