"""`ops backup`: a group of commands, each imported when it is run."""

from __future__ import annotations

import typer

from ops.cli.lazy_commands import Lazy, lazy_group

COMMANDS = lazy_group(
    Lazy(
        "prune",
        "ops.cli.backup_prune:prune_command",
        "Delete the backups that retention does not keep. While any backup has a problem, delete nothing and exit 3.",
    ),
    Lazy(
        "verify",
        "ops.cli.backup_verify:verify_command",
        "Check stored objects against the manifests (size, SHA-256). Exits 3 if one is damaged, lost or rewritten.",
    ),
    Lazy(
        "fresh",
        "ops.cli.backup_verify:fresh_command",
        "Check the age of the newest complete backup of each set in each store. Exits 3 if one is too old or missing.",
    ),
    Lazy(
        "diff",
        "ops.cli.backup_diff:diff_command",
        "List the names of secrets that differ between two backups, with --identity also those whose value changed.",
    ),
    Lazy(
        "create",
        "ops.cli.backup_create:create_command",
        "Dump, compress, encrypt and upload. A failed backup removes what it uploaded; other backup sets still run.",
    ),
    Lazy(
        "list",
        "ops.cli.backup_create:list_command",
        "List the backups, oldest first. One without a manifest is incomplete: it failed or is still running.",
    ),
    Lazy("show", "ops.cli.backup_create:show_command", "Show the contents of one backup, from its manifest."),
    Lazy(
        "keygen",
        "ops.cli.backup_create:keygen_command",
        "Generate an age identity. Keep the file off the servers, and put the printed recipient in the stack file.",
    ),
    Lazy(
        "canary",
        "ops.cli.drill:canary_command",
        "Write a timestamp row into `ancla.canary` of a LIVE database, so that drills can measure data loss.",
    ),
)
backup_app = typer.Typer(cls=COMMANDS, no_args_is_help=True)
