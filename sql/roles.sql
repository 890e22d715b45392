-- Groups without login. Whoever reads the warehouse is made a member; `agentmill sql` reads as the analyst does.
do $$
begin
    create role agentmill_analyst nologin;
exception when duplicate_object or unique_violation then null; -- it belongs to the whole server
end
$$;
revoke all on schema agentmill_partitions, agentmill_staging from public;
grant usage on schema agentmill to agentmill_analyst;
grant select on all tables in schema agentmill to agentmill_analyst;
grant usage on schema compat to agentmill_analyst;
grant select on all tables in schema compat to agentmill_analyst;
