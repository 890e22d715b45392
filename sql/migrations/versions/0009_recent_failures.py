"""An index of failures by time: the latest ones are found without reading the days before them."""

from alembic import op

revision = "0009"
down_revision = "0008"


def upgrade() -> None:
    """Index all days; those to come get theirs when they are attached."""
    op.execute(
        "create index executions_failure_time on agentmill.executions (event_time) "
        "where status in ('failed', 'timeout', 'error')"
    )


def downgrade() -> None:
    """Drop it from all days."""
    op.execute("drop index agentmill.executions_failure_time")
