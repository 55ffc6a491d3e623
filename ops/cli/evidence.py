"""`ops evidence`: verify and list the evidence of drills."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from pydantic import ValidationError
from rich.markup import escape
from rich.table import Table

from ops.cli.drill_output import VERDICT_COLOURS
from ops.cli.options import JsonOption, OutputsOption, StackOption
from ops.core import console
from ops.core.errors import KeyProblemError, OpsError, VerdictError
from ops.core.formatting import duration
from ops.drill.evidence.document import EVIDENCE, Document
from ops.drill.evidence.store import documents, read
from ops.drill.evidence.verification import Verification, verify
from ops.monitoring.recorder import evidence_checked
from ops.stack.outputs import LoadedStack, load_stack

evidence_app = typer.Typer(no_args_is_help=True)

PlaceArgument = Annotated[Path, typer.Argument(metavar="[FOLDER|FILE]", help="Folder of evidence, or one document.")]


@evidence_app.command("verify")
def verify_command(
    place: PlaceArgument = EVIDENCE,
    key: Annotated[
        list[str] | None,
        typer.Option(
            "--key",
            metavar="FILE|LINE",
            help="Trusted public key (repeatable; default: backup.signers).",
        ),
    ] = None,
    head: Annotated[
        str | None,
        typer.Option("--head", metavar="SHA256", help="SHA-256 of the newest document, as recorded elsewhere."),
    ] = None,
    stack: StackOption = None,
    outputs: OutputsOption = None,
    as_json: JsonOption = False,
) -> None:
    """Verify every signature and every link of the chain. Exits 3 if a document was changed or is missing."""
    loaded: LoadedStack | None = None
    if key is None:
        loaded = load_stack(stack, outputs)
        key = list(loaded.outputs.backup.signers)
        if not key:
            raise KeyProblemError(f"{loaded.name}: backup.signers is empty; give --key")
    found = verify(place, [_line(text) for text in key], head=head)
    if loaded is not None and place.is_dir():
        evidence_checked(loaded, str(found.problems[0]) if found.problems else None)
    if as_json:
        console.print_json(_document(found))
    else:
        _print(found)
    if found.problems:
        more = f" (and {len(found.problems) - 1} more)" if len(found.problems) > 1 else ""
        raise VerdictError(f"the evidence does not verify: {found.problems[0]}{more}")


@evidence_app.command("list")
def list_command(place: PlaceArgument = EVIDENCE, as_json: JsonOption = False) -> None:
    """List the drills, oldest first. Signatures are not checked; run `evidence verify` for that."""
    if not place.exists():
        raise OpsError(f"{place}: no such folder or document")
    rows = sorted(_documents(place), key=lambda row: (row.started_at, row.sequence))
    if not rows:
        raise OpsError(f"{place}: no evidence; run `ops drill`")
    if as_json:
        listed = {"sequence", "environment", "name", "backup", "verdict", "damage", "finished_at"}
        console.print_json(
            [row.model_dump(mode="json", include=listed | {"rto_seconds", "rpo_seconds"}) for row in rows]
        )
        return
    table = Table("#", "when (UTC)", "what", "backup", "verdict", "RTO", "RPO")
    for row in rows:
        colour = VERDICT_COLOURS.get(row.verdict, "red")
        control = f" [dim](control: {row.damage})[/dim]" if row.damage else ""
        table.add_row(
            str(row.sequence),
            f"{row.started_at:%Y-%m-%d %H:%M}",
            escape(" ".join(filter(None, [row.environment, row.name]))),
            escape(row.backup or "none"),
            f"[{colour}]{row.verdict}[/{colour}]{control}",
            duration(row.rto_seconds),
            duration(row.rpo_seconds),
        )
    console.out.print(table)


def _documents(place: Path) -> list[Document]:
    """Read the documents of a folder, or one document. Unreadable ones are left out; `verify` reports them."""
    if place.is_dir():
        return [link.document for link in documents(place)]
    try:
        return [read(place).document]
    except (OSError, ValidationError):
        return []


def _line(text: str) -> str:
    """Return the public key line: the text itself, or the content of the file it names."""
    if text.startswith("ssh-"):
        return text
    try:
        return Path(text).read_text().strip()
    except (OSError, UnicodeDecodeError) as error:
        raise KeyProblemError(f"{text}: no public key (an ssh-ed25519 line, or a file with one): {error}") from None


def _document(found: Verification) -> dict[str, object]:
    return {
        "verified": not found.problems,
        "documents": found.documents,
        "heads": {name: {"sequence": number, "sha256": sha256} for name, (number, sha256) in found.heads.items()},
        "problems": [{"file": problem.file, "problem": problem.what} for problem in found.problems],
        "absent": found.absent,
    }


def _print(found: Verification) -> None:
    for problem in found.problems:
        console.out.print(f"[red]wrong[/red] {escape(str(problem))}")
    if found.absent:
        console.out.print(f"[dim]missing, not verified: {len(found.absent)} logs and pages[/dim]")
    if not found.problems:
        console.out.print(f"[green]verified[/green] {found.documents} documents: every signature and every link")
    for name, (number, sha256) in found.heads.items():
        console.out.print(f"head of {name}: {number} {sha256}")
