"""`ops evidence`: is what drills have left what they wrote, and what do they say?"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape
from rich.table import Table

from ops import console
from ops.amounts import duration
from ops.drill import chain
from ops.drill.evidence import Evidence
from ops.drill.verify import Verification, verify
from ops.errors import KeyProblemError, OpsError, VerdictError
from ops.options import JsonOption, OutputsOption, StackOption
from ops.stack import LoadedStack, load_stack
from ops.watch.runs import evidence_checked

evidence_app = typer.Typer(no_args_is_help=True)

PlaceArgument = Annotated[Path, typer.Argument(metavar="[FOLDER|FILE]", help="A folder of evidence, or one document.")]


@evidence_app.command("verify")
def verify_command(
    place: PlaceArgument = Path("drills"),
    key: Annotated[
        list[str] | None,
        typer.Option(
            "--key",
            metavar="FILE|LINE",
            help="A public key to believe, repeatable; backup.signers else.",
        ),
    ] = None,
    head: Annotated[
        str | None, typer.Option("--head", metavar="SHA256", help="The newest document's digest, as noted elsewhere.")
    ] = None,
    stack: StackOption = None,
    outputs: OutputsOption = None,
    as_json: JsonOption = False,
) -> None:
    """Verify every signature and every link of the chain. One changed character, or a missing link, exits 3."""
    loaded: LoadedStack | None = None
    if key is None:
        loaded = load_stack(stack, outputs)
        key = list(loaded.outputs.backup.signers)
        if not key:
            raise KeyProblemError(f"{loaded.name}: backup.signers names nobody; give --key")
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
def list_command(place: PlaceArgument = Path("drills"), as_json: JsonOption = False) -> None:
    """List the drills, oldest first. It believes what it reads: verify first."""
    environments = {path.stem.removeprefix("chain-") for path in place.glob("chain-*.json")}
    documents = [link.evidence for environment in sorted(environments) for link in chain.links(place, environment)]
    if not documents:
        raise OpsError(f"{place}: no evidence there; `ops drill` leaves some")
    if as_json:
        console.print_json([_row(document) for document in documents])
        return
    table = Table("#", "when (UTC)", "what", "backup", "verdict", "RTO", "RPO")
    for document in documents:
        colour = "green" if document.verdict == "green" else "red"
        control = f" [dim](control: {document.damage})[/dim]" if document.damage else ""
        table.add_row(
            str(document.sequence),
            f"{document.started_at:%Y-%m-%d %H:%M}",
            f"{document.environment} {document.name}",
            document.backup or "none",
            f"[{colour}]{document.verdict}[/{colour}]{control}",
            duration(document.rto_seconds),
            duration(document.rpo_seconds),
        )
    console.out.print(table)


def _row(document: Evidence) -> dict[str, object]:
    wanted = {"sequence", "environment", "name", "backup", "verdict", "damage", "finished_at"}
    wanted |= {"rto_seconds", "rpo_seconds"}
    return document.model_dump(mode="json", include=wanted)


def _line(text: str) -> str:
    """Return the key's line: of a file, where there is one by that name."""
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
        console.out.print(f"[dim]not here, and not verified: {len(found.absent)} logs and pages[/dim]")
    if not found.problems:
        console.out.print(f"[green]verified[/green] {found.documents} documents: every signature and every link")
    for name, (number, sha256) in found.heads.items():
        console.out.print(f"head of {name}: {number} {sha256}")
