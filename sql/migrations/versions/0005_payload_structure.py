"""How deep payloads are nested, how many keys they have, and an id of their structure."""

from alembic import op

revision = "0005"
down_revision = "0004"

_UPGRADE = """
alter table agentmill.executions
    add column input_depth bigint,
    add column output_depth bigint,
    add column input_key_count bigint,
    add column output_key_count bigint,
    add column input_shape_id text,
    add column output_shape_id text;
alter table agentmill.execution_logs
    add column context_depth bigint,
    add column context_key_count bigint,
    add column context_shape_id text;
"""

_DOWNGRADE = """
alter table agentmill.execution_logs
    drop column context_depth,
    drop column context_key_count,
    drop column context_shape_id;
alter table agentmill.executions
    drop column input_depth,
    drop column output_depth,
    drop column input_key_count,
    drop column output_key_count,
    drop column input_shape_id,
    drop column output_shape_id;
"""


def upgrade() -> None:
    """Add the columns, empty: days that were published before have them when they are run again."""
    op.execute(_UPGRADE)


def downgrade() -> None:
    """Drop the columns."""
    op.execute(_DOWNGRADE)
