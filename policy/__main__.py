"""`python -m policy`."""

from __future__ import annotations

from policy.cli import app

app(prog_name="python -m policy")
