"""Who read what, from the server's log."""

from alembic import op

revision = "0007"
down_revision = "0006"

_UPGRADE = """
create table agentmill.access_audit (
    logged_at timestamptz not null,
    session_id text not null,
    session_line bigint not null,
    login text not null,
    database text not null,
    application text,
    kind text not null,
    objects text[] not null,
    duration_ms double precision check (duration_ms >= 0),
    sql_state text,
    statement text not null,
    primary key (session_id, session_line)
);
create index on agentmill.access_audit (logged_at);
"""


def upgrade() -> None:
    """Create the table, empty."""
    op.execute(_UPGRADE)


def downgrade() -> None:
    """Drop it; what the server's log still has can be loaded again."""
    op.execute("drop table agentmill.access_audit")
