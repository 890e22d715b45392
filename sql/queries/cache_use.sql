-- How much of the input comes from caches?
-- Asked by: analysts
-- Why: Cached tokens cost a fraction.
-- Read it: By token and by run, of the runs that tell their tokens.
select
    model,
    sum(metered_count) as metered_count,
    sum(input_tokens) as input_tokens,
    round(100.0 * sum(cache_read_tokens) / nullif(sum(input_tokens), 0), 2) as hit_pct_tokens,
    round(100.0 * sum(cache_read_count) / nullif(sum(metered_count), 0), 2) as hit_pct_runs
from agentmill.model_metrics_daily
group by model
order by input_tokens desc nulls last, model
