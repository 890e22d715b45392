-- The 95 % interval of a rate: Wilson score interval, E. B. Wilson, JASA 22 (1927). Null where nothing was counted.
create function agentmill.wilson_interval(successes bigint, total bigint)
returns table (low double precision, high double precision)
language sql immutable parallel safe
begin atomic
    select
        case when n > 0 then greatest(0, (rate + z2 / (2 * n) - margin) / (1 + z2 / n)) end,
        case when n > 0 then least(1, (rate + z2 / (2 * n) + margin) / (1 + z2 / n)) end
    from (select 3.841458820694124::double precision as z2, nullif(total, 0)::double precision as n) as given
    cross join lateral (select successes / n as rate) as told
    cross join lateral (select sqrt(z2 * (rate * (1 - rate) / n + z2 / (4 * n * n))) as margin) as spread;
end;
