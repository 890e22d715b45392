"""Who may do what: grants that follow from the privacy class of columns, ownership, default privileges, audit logging.

The groups themselves are made by `sql/roles.sql`. What is granted is compared with what should be, so that applying it
again does nothing, and what a person granted or opened by hand is taken back.
"""

import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import psycopg
from psycopg import sql

from pipelines.execution import Privacy
from pipelines.record_types import RECORD_TYPES
from pipelines.warehouse.connection import PARTITIONS, SCHEMA, SQL_FOLDER, STAGING
from pipelines.warehouse.dictionary import Dictionary, Relation, load_dictionary

OWNER, LOADER = "agentmill_owner", "agentmill_loader"
ANALYST, ONCALL, PRIVACY = "agentmill_analyst", "agentmill_oncall", "agentmill_privacy"
GROUPS = (OWNER, LOADER, ANALYST, ONCALL, PRIVACY)

_STORED = tuple(Privacy)[: list(Privacy).index(Privacy.PERSONAL)]
READS: Mapping[str, frozenset[Privacy]] = {
    ANALYST: frozenset({Privacy.PUBLIC, Privacy.INTERNAL}),
    ONCALL: frozenset({Privacy.PUBLIC, Privacy.INTERNAL, Privacy.TEXT, Privacy.PSEUDONYM}),
    PRIVACY: frozenset(_STORED),
}
"""The classes of columns that each group of readers may see."""

_PUBLIC = "public"
_READS = ("SELECT",)
_ADDS = (*_READS, "INSERT")
_WRITES = (*_ADDS, "UPDATE", "DELETE")
_AUDIT = {"log_statement": "all", "log_duration": "on"}
_PGAUDIT = {"pgaudit.log": "read, write, ddl, role"}

log = logging.getLogger(__name__)


@dataclass(frozen=True, order=True, slots=True)
class Grant:
    """One privilege of one role on a schema, table, column or function."""

    kind: str
    schema: str
    name: str
    column: str
    role: str
    privilege: str

    def statement(self, *, revoke: bool) -> sql.Composed:
        """The SQL that gives it, or takes it back."""
        # A function's name is a signature that the server has quoted.
        target = {
            "schema": sql.Identifier(self.schema),
            "table": sql.Identifier(self.schema, self.name),
            "routine": sql.SQL(self.name),
        }[self.kind]
        column = sql.SQL(" ({})").format(sql.Identifier(self.column)) if self.column else sql.SQL("")
        role = sql.SQL("public") if self.role == _PUBLIC else sql.Identifier(self.role)
        template = "revoke {}{} on {} {} from {}" if revoke else "grant {}{} on {} {} to {}"
        return sql.SQL(template).format(sql.SQL(self.privilege.lower()), column, sql.SQL(self.kind), target, role)


def apply_roles(connection: psycopg.Connection) -> list[str]:
    """Make roles, ownership, grants and audit logging what they should be, and return the statements it took.

    What the database user has no right to is left out, with one warning that says what.
    """
    done: list[str] = []
    refused = []
    for what, statements in _STEPS:
        try:
            with connection.transaction():
                todo = list(statements(connection))
                for statement in todo:
                    connection.execute(statement)
        except psycopg.errors.InsufficientPrivilege:
            refused.append(what)
            if what == _STEPS[0][0]:
                break
        else:
            done += [statement.as_string(connection) for statement in todo]
    if refused:
        log.warning("the database user may not %s: see docs/access.md", "; nor ".join(refused))
    return done


def plan_roles(connection: psycopg.Connection) -> list[str]:
    """The statements that `apply_roles` would run now. They are run, and undone: nothing changes."""
    with connection.transaction(force_rollback=True):
        return apply_roles(connection)


def readable(connection: psycopg.Connection) -> dict[str, dict[str, str]]:
    """What each group of readers reads in fact, by table or view: `all`, `m of n columns`, or an empty text."""
    rows = connection.execute(
        """
        select n.nspname::text, c.relname::text, r.rolname::text, count(*),
            count(*) filter (where has_schema_privilege(r.oid, n.oid, 'usage')
                and has_column_privilege(r.oid, c.oid, a.attnum, 'select'))
        from pg_class c
        join pg_namespace n on n.oid = c.relnamespace and n.nspname = any(%s)
        join pg_attribute a on a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
        cross join pg_roles r
        where c.relkind in ('r', 'p', 'v', 'm') and r.rolname = any(%s)
        group by 1, 2, 3 order by 1, 2
        """,
        [_schemas(load_dictionary()), list(READS)],
    )
    told: dict[str, dict[str, str]] = {}
    for schema, name, role, columns, seen in rows:
        shown = name if schema == SCHEMA else f"{schema}.{name}"
        told.setdefault(shown, {})[role] = "all" if seen == columns else f"{seen} of {columns} columns" if seen else ""
    return told


def has_groups(connection: psycopg.Connection) -> bool:
    """Whether the server has all groups."""
    found = connection.execute("select count(*) from pg_roles where rolname = any(%s)", [list(GROUPS)]).fetchone()
    return found == (len(GROUPS),)


def _groups(connection: psycopg.Connection) -> Iterator[sql.SQL | sql.Composed]:
    inherits = "select from pg_auth_members where roleid = to_regrole(%s) and member = to_regrole(%s)"
    if not has_groups(connection) or connection.execute(inherits, [LOADER, OWNER]).fetchone() is None:
        yield sql.SQL((SQL_FOLDER / "roles.sql").read_text().strip())


def _ownership(connection: psycopg.Connection) -> Iterator[sql.SQL | sql.Composed]:
    """The schema is the owners'; tables whose days are swapped, and where their days lie, are the loaders'."""
    is_member = connection.execute("select pg_has_role(%s, 'usage')", [OWNER]).fetchone()
    if is_member != (True,):
        yield sql.SQL("grant {} to current_user").format(sql.Identifier(OWNER))
    schemas, lent = _ours(load_dictionary()), False
    for schema, owner in connection.execute(_OWNED_SCHEMAS, [schemas]).fetchall():
        wanted = LOADER if schema in {PARTITIONS, STAGING} else OWNER
        if owner != wanted:
            yield sql.SQL("alter schema {} owner to {}").format(sql.Identifier(schema), sql.Identifier(wanted))
    for kind, schema, name, owner in connection.execute(_OWNED, {"schemas": schemas}).fetchall():
        target = sql.SQL(name) if kind == "routine" else sql.Identifier(schema, name)
        is_swapped = schema in {PARTITIONS, STAGING} or (schema == SCHEMA and name in RECORD_TYPES)
        wanted = LOADER if is_swapped else OWNER
        if owner == wanted:
            continue
        if wanted == LOADER and not lent:  # for this moment: who becomes an owner must be allowed to create there
            lent = True
            yield sql.SQL("grant create on schema {} to {}").format(sql.Identifier(SCHEMA), sql.Identifier(LOADER))
        yield sql.SQL("alter {} {} owner to {}").format(sql.SQL(kind), target, sql.Identifier(wanted))
    if lent:
        yield sql.SQL("revoke create on schema {} from {}").format(sql.Identifier(SCHEMA), sql.Identifier(LOADER))


def _privileges(connection: psycopg.Connection) -> Iterator[sql.SQL | sql.Composed]:
    wanted, held = set(_wanted(connection)), set(_held(connection))
    yield from (grant.statement(revoke=True) for grant in sorted(held - wanted))
    yield from (grant.statement(revoke=False) for grant in sorted(wanted - held))
    yield from _defaults(connection)


def _wanted(connection: psycopg.Connection) -> Iterator[Grant]:
    known = load_dictionary()
    schemas = connection.execute("select nspname::text from pg_namespace where nspname = any(%s)", [_schemas(known)])
    for (schema,) in schemas.fetchall():
        yield from (Grant("schema", schema, "", "", role, "USAGE") for role in (LOADER, *READS))
    for schema, name, is_view, owner, columns in connection.execute(_RELATIONS, [_schemas(known)]).fetchall():
        relation = known.relations.get((schema, name))
        if owner != LOADER:
            granted = _loaders_may(relation, is_view=is_view)
            yield from (Grant("table", schema, name, "", LOADER, privilege) for privilege in granted)
        defined = relation.columns if relation else {}
        for role, classes in READS.items():
            seen = [column for column in columns if column in defined and defined[column].privacy in classes]
            chosen = [""] if seen == columns else seen
            yield from (Grant("table", schema, name, column, role, "SELECT") for column in chosen)
    for name, signature in connection.execute(_ROUTINES, [SCHEMA]).fetchall():
        if name in known.functions:
            told = known.functions[name].roles
            callers = (LOADER, *READS) if told is None else told
            yield from (Grant("routine", SCHEMA, signature, "", role, "EXECUTE") for role in callers)


def _loaders_may(relation: Relation | None, *, is_view: bool) -> tuple[str, ...]:
    """What loaders may do with a table or view that is not theirs."""
    if is_view or (relation and relation.entered_by):
        return _READS
    return _ADDS if relation and relation.append_only else _WRITES


def _held(connection: psycopg.Connection) -> Iterator[Grant]:
    """What everybody and the groups hold, owners apart."""
    rows = connection.execute(_HELD, [_ours(load_dictionary()), [*GROUPS, _PUBLIC]]).fetchall()
    yield from (Grant(*row) for row in rows)


def _defaults(connection: psycopg.Connection) -> Iterator[sql.SQL | sql.Composed]:
    """Tables to come: loaders write them, nobody reads them before the dictionary says so."""
    held = set(connection.execute(_DEFAULTS, [_ours(load_dictionary()), [*GROUPS, _PUBLIC]]).fetchall())
    makers = connection.execute("select distinct unnest(array[%s, current_user::text])", [OWNER]).fetchall()
    wanted = {(maker, SCHEMA, LOADER, privilege) for (maker,) in makers for privilege in _WRITES}
    for template, difference in (("revoke {} on tables from", held - wanted), ("grant {} on tables to", wanted - held)):
        for maker, schema, role, privilege in sorted(difference):
            to = sql.SQL("public") if role == _PUBLIC else sql.Identifier(role)
            yield sql.SQL("alter default privileges for role {} in schema {} {} {}").format(
                sql.Identifier(maker), sql.Identifier(schema), sql.SQL(template).format(sql.SQL(privilege.lower())), to
            )
    if connection.execute(_FUNCTIONS_OPEN, [OWNER]).fetchone() is None:
        yield sql.SQL("alter default privileges for role {} revoke execute on functions from public").format(
            sql.Identifier(OWNER)
        )


def _audit(connection: psycopg.Connection) -> Iterator[sql.SQL | sql.Composed]:
    """A group's settings do not reach its members, so each login of a reader gets its own, in this database."""
    has_pgaudit = connection.execute("select current_setting('pgaudit.log', true) is not null").fetchone()
    wanted = _AUDIT | (_PGAUDIT if has_pgaudit == (True,) else {})
    (database,) = connection.execute("select current_database()").fetchall()[0]
    for login, held in connection.execute(_LOGINS, [list(READS)]).fetchall():
        for name, value in wanted.items():
            if f"{name}={value}" not in held:
                yield sql.SQL("alter role {} in database {} set {} = {}").format(
                    sql.Identifier(login), sql.Identifier(database), sql.SQL(name), sql.Literal(value)
                )


_STEPS = (
    ("create roles, so nobody but itself reads here", _groups),
    ("give what it owns to agentmill_owner", _ownership),
    ("grant and revoke", _privileges),
    ("set log_statement of readers, which takes a superuser", _audit),
)


def _schemas(known: Dictionary) -> list[str]:
    """The schemas that are published."""
    return sorted({schema for schema, _ in known.relations})


def _ours(known: Dictionary) -> list[str]:
    """The schemas that are ours, closed ones included."""
    return [*_schemas(known), PARTITIONS, STAGING]


_OWNED = """
select 'table', n.nspname::text, c.relname::text, pg_get_userbyid(c.relowner)::text
from pg_class c join pg_namespace n on n.oid = c.relnamespace
where n.nspname = any(%(schemas)s) and c.relkind in ('r', 'p')
union all
select 'view', n.nspname::text, c.relname::text, pg_get_userbyid(c.relowner)::text
from pg_class c join pg_namespace n on n.oid = c.relnamespace
where n.nspname = any(%(schemas)s) and c.relkind = 'v'
union all
select 'routine', n.nspname::text, p.oid::regprocedure::text, pg_get_userbyid(p.proowner)::text
from pg_proc p join pg_namespace n on n.oid = p.pronamespace where n.nspname = any(%(schemas)s)
"""
_OWNED_SCHEMAS = "select nspname::text, pg_get_userbyid(nspowner)::text from pg_namespace where nspname = any(%s)"
_RELATIONS = """
select n.nspname::text, c.relname::text, c.relkind = 'v', pg_get_userbyid(c.relowner)::text,
    array_agg(a.attname::text order by a.attnum)
from pg_class c
join pg_namespace n on n.oid = c.relnamespace
join pg_attribute a on a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
where n.nspname = any(%s) and c.relkind in ('r', 'p', 'v', 'm')
group by 1, 2, 3, 4
"""
_ROUTINES = "select proname::text, oid::regprocedure::text from pg_proc where pronamespace = to_regnamespace(%s)"
_HELD = """
select kind, schema, name, column_name, role, privilege_type from (
    select 'schema' as kind, nspname::text as schema, '' as name, '' as column_name, nspname::text as place,
        nspowner as owner, acl.*
    from pg_namespace, aclexplode(nspacl) as acl
    union all
    select 'table', n.nspname::text, c.relname::text, '', n.nspname::text, c.relowner, acl.*
    from pg_class c join pg_namespace n on n.oid = c.relnamespace, aclexplode(c.relacl) as acl
    where c.relkind in ('r', 'p', 'v', 'm')
    union all
    select 'table', n.nspname::text, c.relname::text, a.attname::text, n.nspname::text, c.relowner, acl.*
    from pg_class c
    join pg_namespace n on n.oid = c.relnamespace
    join pg_attribute a on a.attrelid = c.oid and not a.attisdropped, aclexplode(a.attacl) as acl
    union all
    select 'routine', n.nspname::text, p.oid::regprocedure::text, '', n.nspname::text, p.proowner, acl.*
    from pg_proc p join pg_namespace n on n.oid = p.pronamespace,
        aclexplode(coalesce(p.proacl, acldefault('f', p.proowner))) as acl
) as held
cross join lateral (
    select case grantee when 0 then 'public' else pg_get_userbyid(grantee)::text end as role
) as named
where place = any(%s) and role = any(%s) and grantee <> owner
"""
_DEFAULTS = """
select pg_get_userbyid(d.defaclrole)::text, n.nspname::text, role, acl.privilege_type
from pg_default_acl d
join pg_namespace n on n.oid = d.defaclnamespace, aclexplode(d.defaclacl) as acl
cross join lateral (
    select case acl.grantee when 0 then 'public' else pg_get_userbyid(acl.grantee)::text end as role
) as named
where d.defaclobjtype = 'r' and n.nspname = any(%s) and role = any(%s) and pg_has_role(d.defaclrole, 'usage')
"""
_FUNCTIONS_OPEN = """
select from pg_default_acl d where d.defaclrole = %s::regrole and d.defaclnamespace = 0 and d.defaclobjtype = 'f'
    and not exists (select from aclexplode(d.defaclacl) as acl where acl.grantee = 0)
"""
_LOGINS = """
select r.rolname::text, coalesce(s.setconfig, '{}')
from pg_roles r
left join pg_db_role_setting s on s.setrole = r.oid
    and s.setdatabase = (select oid from pg_database where datname = current_database())
where r.rolcanlogin and not r.rolsuper and exists (
    select from pg_roles g where g.rolname = any(%s) and pg_has_role(r.oid, g.oid, 'member')
)
order by 1
"""
