"""What an older marketplace application knows already, brought into the warehouse once: plan, backup, apply, undo.

It is told apart from what was measured: its tables are never touched by daily runs nor summed into rollups.
"""


class LegacyError(Exception):
    """The older application cannot be read, or what it knows cannot be brought in or undone; nothing was changed."""
