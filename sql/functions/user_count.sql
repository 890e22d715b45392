-- Distinct users from one instant to another (half-open), of one agent or of all: exact as long as executions are kept.
-- Null where the reader may not be told: see `user_counts`.
create function agentmill.user_count(from_time timestamptz, to_time timestamptz, agent text default null) returns bigint
language sql stable parallel restricted
as $$
    select case when count(*) = 0 then 0 else max(user_count) end
    from agentmill.user_counts(from_time, to_time)
    where agent_id is not distinct from agent
$$;
