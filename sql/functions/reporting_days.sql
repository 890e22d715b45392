-- One row: the half-open range of days that a question is about. By default the last `day_count` that were loaded.
create function agentmill.reporting_days(from_day date, to_day date, day_count integer default 30)
returns table (from_day date, to_day date)
language sql stable parallel safe
as $$
    select
        coalesce($1, least($2, latest.to_day) - $3),
        coalesce($2, latest.to_day)
    from (select max(day) + 1 as to_day from agentmill.published_days) as latest
$$;
