-- One row: when the figures of a range of days were published last, and whether each of its days was over then.
-- A day between the first and the last that were ever loaded is missed; one before or after them is not.
create function agentmill.published_range(from_day date, to_day date)
returns table (published_at timestamptz, is_final boolean)
language sql stable strict parallel safe
as $$
    select
        max(published_at) filter (where day >= $1 and day < $2),
        bool_and(is_final) filter (where day >= $1 and day < $2)
        and count(*) filter (where day >= $1 and day < $2) >= least($2, max(day) + 1) - greatest($1, min(day))
    from agentmill.published_days
$$;
