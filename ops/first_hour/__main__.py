"""`tools/first-hour`: ask a real account, in order, for an hour and less than a US dollar.

Parts: `account` makes nothing; `bucket` makes a bucket and a key; `machine` a droplet and a reserved IP; `cluster` a
database cluster and a fork of it, reached from the droplet. Everything is removed at the end, also after Ctrl-C.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from ops.core.errors import OpsError
from ops.first_hour.account import ask_account
from ops.first_hour.bucket import Spaces, ask_bucket
from ops.first_hour.machine import ask_cluster, ask_machine, machine
from ops.first_hour.notebook import FAILURES, Notebook
from ops.stack.cloud import Cloud, cloud_from_environment

PARTS = ("account", "bucket", "machine", "cluster")
app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
console = Console(stderr=True, highlight=False, markup=False, soft_wrap=True)


Out = Annotated[Path, typer.Option("--out", metavar="FOLDER", help="Folder for the answers.")]


@app.command(help=__doc__)
def first_hour(  # noqa: PLR0913, PLR0917 - typer reads the options from the parameters
    parts: Annotated[list[str] | None, typer.Argument(metavar="[PART…]", help=f"{', '.join(PARTS)} (all).")] = None,
    region: Annotated[str, typer.Option("--region", help="Region of the environment.")] = "nyc3",
    version: Annotated[str, typer.Option("--version", help="Major version of PostgreSQL.")] = "15",
    image: Annotated[str, typer.Option("--image", help="Image of the droplet.")] = "ubuntu-24-04-x64",
    out: Out = Path("docs/first-hour"),
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask before it costs money.")] = False,  # noqa: FBT002 - as above
) -> None:
    """Ask the parts that are wanted, in order, and keep the answers."""
    wanted = tuple(parts or PARTS)
    if unknown := [part for part in wanted if part not in PARTS]:
        raise typer.BadParameter(f"no part {', '.join(unknown)}; there are: {', '.join(PARTS)}", param_hint="PART")
    try:
        cloud = cloud_from_environment()
        account = cloud.account()
    except OpsError as error:
        console.print(f"error: {error}")
        raise typer.Exit(1) from None
    if wanted != ("account",) and not yes:
        typer.confirm(f"Make and remove things in the account {account} at {cloud.address}?", abort=True, err=True)
    notebook = Notebook(folder=out, address=cloud.address, say=console.print)
    try:
        Hour(cloud=cloud, notebook=notebook, region=region, version=version, image=image).ask(wanted)
    finally:
        if notebook.answers:
            console.print(f"answers: {notebook.file.with_suffix('.md')}")
    if notebook.left:
        raise typer.Exit(1)


@dataclass(frozen=True, kw_only=True)
class Hour:
    """What is asked, and of what."""

    cloud: Cloud
    notebook: Notebook
    region: str
    version: str
    image: str

    def ask(self, wanted: Sequence[str]) -> None:
        """Ask the wanted parts; one that breaks off does not keep the next from being asked."""
        if "account" in wanted:
            self._part("account", lambda: ask_account(self.cloud, self.notebook, self.region))
        if "bucket" in wanted:
            self._part("bucket", lambda: ask_bucket(self.cloud, _spaces(self.region), self.notebook))
        if {"machine", "cluster"} & {*wanted}:
            self._part("machine", lambda: self._on_machine(wanted))

    def _on_machine(self, wanted: Sequence[str]) -> None:
        with machine(self.cloud, self.notebook, self.region, self.image) as droplet:
            if "machine" in wanted:
                self._part("machine", lambda: ask_machine(self.cloud, self.notebook, droplet))
            if "cluster" in wanted:
                more = {"region": self.region, "version": self.version}
                self._part("cluster", lambda: ask_cluster(self.cloud, self.notebook, droplet, **more))

    def _part(self, name: str, do: Callable[[], None]) -> None:
        try:
            do()
        except FAILURES as error:
            text = f"{type(error).__name__}: {' '.join(str(error).split())}"
            self.notebook.ask(name, "Could all of this part be asked?", "yes", lambda: (False, text))


def _spaces(region: str) -> Spaces:
    address = os.environ.get("SPACES_ENDPOINT_URL", "").replace("{{.Region}}", region)
    names = ("SPACES_ACCESS_KEY_ID", "SPACES_SECRET_ACCESS_KEY")
    keys = [os.environ.get(name) for name in names]
    if not all(keys):
        raise OpsError(f"{' and '.join(names)}: not set; make a full-access key in the control panel")
    return Spaces(
        endpoint=address or f"https://{region}.digitaloceanspaces.com",
        region=region,
        access_key=keys[0] or "",
        secret_key=keys[1] or "",
    )


if __name__ == "__main__":
    app()
