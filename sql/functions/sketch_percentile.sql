-- A percentile of a sketch where it holds enough values to tell it: p99 needs 100, p95 needs 20. Else null.
create function agentmill.sketch_percentile(sketch bigint[], percent integer) returns double precision
language sql immutable parallel safe
return case
    when agentmill.sketch_count(sketch) >= case when percent >= 99 then 100 when percent >= 95 then 20 else 1 end
        then agentmill.sketch_quantile(sketch, percent / 100.0::double precision)
end;
