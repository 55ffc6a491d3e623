"""What is said of names that people chose: those that are there twice, and what a wrong one was meant to be."""

from __future__ import annotations

import difflib
from collections import Counter
from collections.abc import Iterable


def repeated(names: Iterable[str]) -> list[str]:
    """Return the names that are there more than once, in order."""
    return sorted(name for name, times in Counter(names).items() if times > 1)


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """Return a question about the nearest known name; nothing where none is near."""
    near = difflib.get_close_matches(word, list(known), n=1, cutoff=0.6)
    return f"did you mean {near[0]}?" if near else ""
