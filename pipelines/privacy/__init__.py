"""What is not kept: users who are erased everywhere and for good, and days that were kept long enough."""


class PrivacyError(Exception):
    """Something that was to be erased is still there."""
