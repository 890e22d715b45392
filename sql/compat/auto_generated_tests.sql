-- One row per candidate for a regression test, named as the table auto_generated_tests. None has been run yet.
select
    candidate.candidate_id as id,
    'regression_' || cluster.category as test_name,
    'regression' as test_type,
    null::text as test_prompt,
    null::jsonb as expected_behavior,
    null::text as framework,
    null::double precision as confidence_score,
    null::bigint as run_count,
    null::bigint as pass_count,
    null::bigint as fail_count,
    candidate.evidence_execution_ids[1] as created_from_failure_id,
    candidate.state = 'approved' as is_active,
    candidate.struck_at as created_at
from agentmill.regression_candidates as candidate
left join agentmill.failure_clusters as cluster using (cluster_id)
