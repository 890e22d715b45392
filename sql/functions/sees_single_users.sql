-- Whether the role that asks may see single users: the privacy officer, or who owns the schema.
create function agentmill.sees_single_users() returns boolean
language sql stable
return exists (
    select from pg_catalog.pg_roles as role
    where pg_has_role(current_user, role.oid, 'usage') and (
        role.rolname in ('agentmill_privacy', 'agentmill_owner')
        or role.oid = (select nspowner from pg_catalog.pg_namespace where nspname = 'agentmill')
    )
);
