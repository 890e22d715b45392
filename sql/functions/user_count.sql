-- Distinct users from one instant to another (half-open), of one agent or of all: exact as long as executions are kept.
create function agentmill.user_count(from_time timestamptz, to_time timestamptz, agent text default null) returns bigint
language sql stable parallel safe
as $$
    select coalesce(max(user_count), 0)
    from agentmill.user_counts(from_time, to_time)
    where agent_id is not distinct from agent
$$;
