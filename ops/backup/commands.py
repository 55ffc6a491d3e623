"""`ops backup`: its commands, each imported when it is run."""

from __future__ import annotations

import typer

from ops.lazy import Lazy, lazy_group

COMMANDS = lazy_group(
    Lazy(
        "prune",
        "ops.backup.prune_cli:prune_command",
        "Delete the backups that retention does not keep. A backup in doubt holds what came before it, and exits 3.",
    ),
    Lazy(
        "verify",
        "ops.backup.verify_cli:verify_command",
        "Hold stored objects to the size and SHA-256 that were written: those not read of late. Damage exits 3.",
    ),
    Lazy(
        "fresh",
        "ops.backup.verify_cli:fresh_command",
        "Ask each store for the newest complete backup of each set. One that is too old, or missing, exits 3.",
    ),
    Lazy(
        "diff",
        "ops.backup.diff_cli:diff_command",
        "Name the secrets that differ between two backups; with --identity also those whose value changed. No value.",
    ),
    Lazy(
        "create",
        "ops.backup.cli:create_command",
        "Dump, compress and upload; the manifest last. What fails leaves nothing in the bucket, and hinders no other.",
    ),
    Lazy(
        "list",
        "ops.backup.cli:list_command",
        "List the restore points, oldest first. Without a manifest one is incomplete: it failed, or is being made.",
    ),
    Lazy("show", "ops.backup.cli:show_command", "Show what one restore point holds, by its manifest."),
    Lazy(
        "keygen",
        "ops.backup.cli:keygen_command",
        "Make an age identity: keep the file off the machines, and put the printed recipient in the stack file.",
    ),
    Lazy(
        "canary",
        "ops.drill.cli:canary_command",
        "Write one row with the time into `ancla.canary` of a LIVE database, so that drills measure what would be "
        "lost.",
    ),
)
backup_app = typer.Typer(cls=COMMANDS, no_args_is_help=True)
