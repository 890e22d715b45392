-- Distinct users from one instant to another (half-open), of one agent or of all: exact as long as executions are kept.
create function agentmill.user_count(from_time timestamptz, to_time timestamptz, agent text default null) returns bigint
language sql stable parallel safe
as $$
    select count(distinct user_key)
    from agentmill.agent_users(from_time, to_time)
    where agent is null or agent_id = agent
$$;
