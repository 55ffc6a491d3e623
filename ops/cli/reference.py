"""`python -m ops.cli.reference`: print the reference page of every command, for `docs/reference/ops.md`."""

from __future__ import annotations

import re
import sys

import typer
from typer.cli import get_docs_for_click

from ops.cli.app import app
from ops.cli.lazy_commands import in_full


def build_page() -> str:
    """Return the page as Markdown."""
    command = in_full(app)
    text = get_docs_for_click(obj=command, ctx=typer.Context(command), name="ops", title="ops")
    return re.sub(r"[ \t]+$", "", text, flags=re.MULTILINE).strip() + "\n"


if __name__ == "__main__":
    sys.stdout.write(build_page())
