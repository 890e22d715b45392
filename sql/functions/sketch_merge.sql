-- The sketch of all values of some sketches: an aggregate. Null for none.
-- `array_append` grows its state in place, so merging takes linear time.
create aggregate agentmill.sketch_merge(agentmill.sketch) (
    sfunc = array_append,
    stype = agentmill.sketch[],
    finalfunc = agentmill.sketch_merged,
    combinefunc = array_cat,
    parallel = safe
);
