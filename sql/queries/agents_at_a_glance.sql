-- How good is each agent, and what does it cost?
-- Asked by: leaders
-- Why: One table to start any review with.
-- Read it: Rates whose intervals overlap do not differ for certain; cost stands on the priced runs.
select
    agent_name,
    execution_count,
    user_count,
    round(100 * success_rate::numeric, 2) as success_pct,
    round(100 * success_rate_low::numeric, 2) as success_pct_low,
    round(100 * success_rate_high::numeric, 2) as success_pct_high,
    priced_count,
    round(cost_usd, 2) as cost_usd,
    round(cost_usd / nullif(success_count, 0), 5) as cost_per_success_usd
from agentmill.agents
order by execution_count desc, agent_name
