-- The 95 % interval of a rate: Wilson score interval, E. B. Wilson, JASA 22 (1927). Null where nothing was counted.
create function agentmill.wilson_interval(successes bigint, total bigint)
returns table (low double precision, high double precision)
language sql immutable parallel safe
begin atomic
    select
        greatest(0, (rate + z2 / (2 * total) - margin) / (1 + z2 / total)),
        least(1, (rate + z2 / (2 * total) + margin) / (1 + z2 / total))
    from (select 3.841458820694124::double precision as z2, successes::double precision / nullif(total, 0) as rate) as given
    cross join lateral (
        select sqrt(z2 * (rate * (1 - rate) / total + z2 / (4.0 * total * total))) as margin
    ) as spread;
end;
