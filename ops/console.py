"""What a person sees: results on stdout, progress on stderr, JSON when asked for."""

from __future__ import annotations

import json
import sys
from typing import Any

from rich.console import Console

out = Console(soft_wrap=True, emoji=False, highlight=False)  # `:key:` is a key here, no picture
err = Console(stderr=True, soft_wrap=True, emoji=False, highlight=False)


def print_json(document: Any) -> None:
    """Print one JSON document, as it is, on stdout."""
    sys.stdout.write(json.dumps(document, indent=2, ensure_ascii=False, default=str) + "\n")


def step(text: str) -> None:
    """Print one line of progress."""
    err.print(f"[dim]·[/dim] {text}")
