"""`ops backup`: its commands, each imported when it is run."""

from __future__ import annotations

import typer

from ops.cli.lazy_commands import Lazy, lazy_group

COMMANDS = lazy_group(
    Lazy(
        "prune",
        "ops.cli.backup_prune:prune_command",
        "Delete the backups that retention does not keep. While anything is wrong, nothing is deleted; that exits 3.",
    ),
    Lazy(
        "verify",
        "ops.cli.backup_verify:verify_command",
        "Check stored backups against what was written and seen before. Damage, a lost or a rewritten backup exits 3.",
    ),
    Lazy(
        "fresh",
        "ops.cli.backup_verify:fresh_command",
        "Ask each store for the newest complete backup of each set. One that is too old, or missing, exits 3.",
    ),
    Lazy(
        "diff",
        "ops.cli.backup_diff:diff_command",
        "Name the secrets that differ between two backups; with --identity also those whose value changed. No value.",
    ),
    Lazy(
        "create",
        "ops.cli.backup_create:create_command",
        "Dump, compress and upload; the manifest last. What fails leaves nothing in the bucket, and hinders no other.",
    ),
    Lazy(
        "list",
        "ops.cli.backup_create:list_command",
        "List the restore points, oldest first. Without a manifest one is incomplete: it failed, or is being made.",
    ),
    Lazy("show", "ops.cli.backup_create:show_command", "Show what one restore point holds, by its manifest."),
    Lazy(
        "keygen",
        "ops.cli.backup_create:keygen_command",
        "Make an age identity: keep the file off the machines, and put the printed recipient in the stack file.",
    ),
    Lazy(
        "canary",
        "ops.cli.drill:canary_command",
        "Write one row with the time into `ancla.canary` of a LIVE database, so that drills measure what would be "
        "lost.",
    ),
)
backup_app = typer.Typer(cls=COMMANDS, no_args_is_help=True)
