-- A percentile as percentile_cont tells it, within 1 %, of `count` values: p99 needs 100 of them, p95 needs 20. Null where
-- they are fewer, or where the sketch does not hold them all: days of an older version have none until they are run again.
create function agentmill.sketch_percentile(sketch bigint[], percent integer, count bigint) returns double precision
language sql immutable parallel safe
begin atomic
    select case
        when agentmill.sketch_count(sketch) = count
            and count >= case when percent >= 99 then 100 when percent >= 95 then 20 else 1 end
            then below.value + (rank - floor(rank)) * (above.value - below.value)
    end
    from (select percent / 100.0::double precision * (count - 1) as rank, nullif(count - 1, 0) as last) as asked
    -- Half a rank keeps rounding from reaching the rank before.
    cross join lateral (
        select agentmill.sketch_quantile(sketch, coalesce(least(1, (floor(rank) + 0.5) / last), 0)) as value
    ) as below
    cross join lateral (
        select agentmill.sketch_quantile(sketch, coalesce(least(1, (ceil(rank) + 0.5) / last), 0)) as value
    ) as above;
end;
