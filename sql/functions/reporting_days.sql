-- One row: the half-open range of days that a question is about. By default the last 30 days that were loaded.
create function agentmill.reporting_days(from_day date, to_day date)
returns table (from_day date, to_day date)
language sql stable parallel safe
as $$
    select
        coalesce($1, least($2, latest.to_day) - 30, latest.to_day - 30),
        coalesce($2, latest.to_day)
    from (select max(day) + 1 as to_day from agentmill.execution_rollup_daily) as latest
$$;
