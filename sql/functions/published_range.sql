-- One row: when the figures of a range of days were published last, and whether all of its days were over then.
create function agentmill.published_range(from_day date, to_day date)
returns table (published_at timestamptz, is_final boolean)
language sql stable strict parallel safe
as $$
    select max(published_at), bool_and(is_final) from agentmill.published_days where day >= $1 and day < $2
$$;
