-- One row per candidate for a regression test, named as the table auto_generated_tests. Counts are those of its case.
select
    candidate.candidate_id as id,
    'regression_' || cluster.category as test_name,
    'regression' as test_type,
    null::text as test_prompt,
    null::jsonb as expected_behavior,
    null::text as framework,
    run.confidence_score,
    run.run_count,
    run.pass_count,
    run.fail_count,
    candidate.evidence_execution_ids[1] as created_from_failure_id,
    coalesce(run.state = 'active', false) as is_active,
    candidate.struck_at as created_at
from agentmill.regression_candidates as candidate
left join agentmill.failure_clusters as cluster using (cluster_id)
left join agentmill.regression_cases as run using (candidate_id)
