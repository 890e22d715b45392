"""${message}."""

from alembic import op

revision = ${repr(up_revision)}
down_revision = ${repr(down_revision)}


def upgrade() -> None:
    """Add what the revision is about."""
    op.execute(${repr("")})


def downgrade() -> None:
    """Leave nothing of the revision behind."""
    op.execute(${repr("")})
