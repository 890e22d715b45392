-- Whether a role, the one that asks unless told, may see single users: the privacy officer, or who owns the schema.
create function agentmill.sees_single_users(reader name default current_user) returns boolean
language sql stable
return exists (
    select from pg_catalog.pg_roles as role
    where pg_has_role(reader, role.oid, 'usage') and (
        role.rolname in ('agentmill_privacy', 'agentmill_owner')
        or role.oid = (select nspowner from pg_catalog.pg_namespace where nspname = 'agentmill')
    )
);
