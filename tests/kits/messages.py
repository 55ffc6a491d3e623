"""What tests do with the messages of a run that they do not look at."""

from __future__ import annotations


def silent(text: str) -> None:
    """Take a message and show it to nobody."""
