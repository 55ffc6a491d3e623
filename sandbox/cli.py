"""The sandbox's own command: `python -m sandbox VERB`."""

from __future__ import annotations

import json
import os
import shlex
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from sandbox.parts.base import PartError
from sandbox.supervisor import NotRunningError, SandboxError, Supervisor, open_instance

app = typer.Typer(
    name="sandbox", no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False,
    help="A DigitalOcean that fits on this machine: its REST API, and real parts in labelled containers.",
)  # fmt: skip
out = Console(highlight=False)
err = Console(stderr=True, highlight=False)

Home = Annotated[Path, typer.Option("--home", envvar="ANCLA_SANDBOX_HOME", help="folder of the sandbox's state")]
Name = Annotated[str | None, typer.Option("--name", envvar="ANCLA_SANDBOX_NAME", help="instance name, in every label")]
Port = Annotated[
    int | None,
    typer.Option(
        "--port-base",
        envvar="ANCLA_SANDBOX_PORT",
        min=1024,
        max=65533,
        help="API port; proxy and page are the next two [8470]",
    ),
]
Json = Annotated[bool, typer.Option("--json", help="print JSON")]
DEFAULT_HOME = Path(".sandbox")


def _open(home: Path, name: str | None, port: int | None = None) -> Supervisor:
    began = time.monotonic()

    def say(line: str) -> None:
        err.print(f"[dim]{time.monotonic() - began:5.1f} s[/dim]  {escape(line)}", soft_wrap=True)

    return Supervisor(open_instance(home, name, port), say)


@app.command()
def start(home: Home = DEFAULT_HOME, name: Name = None, port_base: Port = None) -> None:
    """Start the containers and the API; what runs already stays as it is."""
    began = time.monotonic()
    supervisor = _open(home, name, port_base)
    supervisor.start()
    instance = supervisor.instance
    err.print(
        f"sandbox [bold]{instance.name}[/bold] is ready in {time.monotonic() - began:.1f} s: API {instance.base_url}, "
        f"proxy http://127.0.0.1:{instance.proxy_port}, page http://127.0.0.1:{instance.page_port}",
        soft_wrap=True,
    )


@app.command()
def stop(home: Home = DEFAULT_HOME, name: Name = None) -> None:
    """End the API and the containers; data stays for the next start."""
    supervisor = _open(home, name)
    supervisor.stop()
    err.print(f"sandbox {supervisor.instance.name} is stopped; its data stays")


@app.command()
def reset(
    home: Home = DEFAULT_HOME,
    name: Name = None,
    yes: Annotated[bool, typer.Option("--yes", help="do not ask")] = False,
) -> None:
    """Remove everything of this instance: containers, networks, volumes, state."""
    supervisor = _open(home, name)
    if not yes:
        typer.confirm(f"Remove all data of the sandbox {supervisor.instance.name}?", abort=True, err=True)
    supervisor.reset()
    err.print(f"sandbox {supervisor.instance.name} is gone")


@app.command()
def status(home: Home = DEFAULT_HOME, name: Name = None, json_: Json = False) -> None:
    """Show what lives, with addresses."""
    supervisor = _open(home, name)
    try:
        world: dict[str, Any] = supervisor.ask("world").body
    except NotRunningError:
        world = {}
    containers = supervisor.parts.containers()
    if json_:
        out.print_json(
            json.dumps(
                {"name": supervisor.instance.name, "running": bool(world), "world": world, "containers": containers}
            )
        )
        return
    if not world:
        err.print(f"sandbox {supervisor.instance.name} is not running")
    if world:
        out.print(_world_table(supervisor, world))
    if containers:
        table = Table("container", "state", "address", title="containers", title_justify="left")
        for row in containers:
            table.add_row(row["name"], row["state"], row["addresses"])
        out.print(table)


def _world_table(supervisor: Supervisor, world: dict[str, Any]) -> Table:
    table = Table("what", "name", "state", "address", title=f"sandbox {supervisor.instance.name}", title_justify="left")
    table.add_row("API", "", "ready", supervisor.instance.base_url)
    table.add_row("proxy", "", "ready", f"http://127.0.0.1:{supervisor.instance.proxy_port}")
    table.add_row("page", "", "", f"http://127.0.0.1:{supervisor.instance.page_port}")
    for droplet in world.get("droplets", ()):
        addresses = [
            droplet["public_ip"],
            droplet["private_ip"],
            *(f"{ip} (reserved)" for ip in droplet["reserved_ips"]),
        ]
        table.add_row("droplet", droplet["name"], droplet["status"], "\n".join(addresses))
    for database in world.get("databases", ()):
        addresses = f"{database['host']}:25060\n{database['public_ip']}, {database['private_ip']}"
        table.add_row("database", f"{database['name']} ({database['engine']})", database["status"], addresses)
    for service in world.get("services", ()):
        addresses = f"{service['public_ip']}, {service['private_ip']}"
        table.add_row(service["kind"], service["name"], service["status"], addresses)
    for vpc in world.get("vpcs", ()):
        table.add_row("vpc", vpc["name"], "default" if vpc["default"] else "", vpc["ip_range"])
    for region, bucket in supervisor.parts.spaces.buckets():
        table.add_row("bucket", bucket, "", f"https://{bucket}.{region}.digitaloceanspaces.com")
    for cdn in world.get("cdn_endpoints", ()):
        table.add_row("cdn", cdn["endpoint"], "", cdn["custom_domain"] or "")
    for registry in world.get("registries", ()):
        table.add_row("registry", registry, "", f"registry.digitalocean.com/{registry}")
    for domain in world.get("domains", ()):
        table.add_row(
            "domain", domain, "", f"ns1.digitalocean.com ({supervisor.instance.plan.infrastructure('nameserver')})"
        )
    for what, problem in world.get("problems", {}).items():
        table.add_row("problem", what, f"[red]{escape(str(problem))}[/red]", "")
    return table


@app.command()
def journal(
    home: Home = DEFAULT_HOME,
    name: Name = None,
    since: Annotated[int, typer.Option(help="only calls after this number")] = 0,
    json_: Json = False,
) -> None:
    """Print the REST calls that were made, without secrets."""
    calls: list[dict[str, Any]] = _open(home, name).ask(f"journal?since={since}").body["calls"]
    if json_:
        out.print_json(json.dumps(calls))
        return
    for call in calls:
        mark = "*" if call.get("committed") else " "
        typer.echo(
            f"{call.get('seq', ''):>6} {mark} {call.get('status', '')} {call.get('method', '')} {call.get('path', '')}"
        )


@app.command()
def leaks(
    kept: Annotated[
        list[str] | None, typer.Option("--except", help="an object that may stay, as it is named here")
    ] = None,
    home: Home = DEFAULT_HOME,
    name: Name = None,
    json_: Json = False,
) -> None:
    """Name what is left: objects of the account, and parts that no object explains. Exit code 1 when there is any."""
    found = _open(home, name).ask("leaks").body
    found["objects"] = [item for item in found["objects"] if item not in (kept or ())]
    if json_:
        out.print_json(json.dumps(found))
    else:
        for line in (*found["objects"], *found["parts"]):
            typer.echo(line)
        if not any(found.values()):
            err.print("no leaks")
    if any(found.values()):
        raise typer.Exit(1)


@app.command()
def env(home: Home = DEFAULT_HOME, name: Name = None, json_: Json = False) -> None:
    """Print the variables for clients: `eval "$(python -m sandbox env)"`."""
    variables = _open(home, name).environment()
    if json_:
        typer.echo(json.dumps(variables, indent=2))
    else:
        for key, value in variables.items():
            typer.echo(f"export {key}={shlex.quote(value)}")


@app.command()
def images(
    home: Home = DEFAULT_HOME,
    name: Name = None,
    rebuild: Annotated[bool, typer.Option("--rebuild", help="build them even if they are there")] = False,
    json_: Json = False,
) -> None:
    """Build the local images that are missing, and print their names."""
    supervisor = _open(home, name)
    supervisor.parts.docker.ping()
    built = supervisor.parts.images.ensure(rebuild=rebuild)
    if json_:
        typer.echo(json.dumps(built))
    else:
        for kind, image in built.items():
            typer.echo(f"{kind}\t{image}")


@app.command()
def push(
    image: Annotated[str, typer.Argument(help="an image of this machine's Docker")],
    target: Annotated[str, typer.Argument(help="REPOSITORY:TAG in the sandbox's registry")],
    registry: Annotated[
        str | None, typer.Option("--registry", help="the registry's name [the account's only one]")
    ] = None,
    home: Home = DEFAULT_HOME,
    name: Name = None,
) -> None:
    """Push a local image into the sandbox's registry; nothing is done when it has the very same image."""
    supervisor = _open(home, name)
    known: list[str] = supervisor.ask("world").body["registries"]
    chosen = registry or (known[0] if known else None)
    if chosen is None:
        raise SandboxError("the account has no container registry; create one, or name it with --registry")
    place = f"{chosen}/{target}"
    pushed = supervisor.parts.registry.push(image, place)
    digest = supervisor.parts.registry.digest(place)
    err.print(f"registry.digitalocean.com/{place} {'pushed' if pushed else 'is there already'}", soft_wrap=True)
    typer.echo(f"registry.digitalocean.com/{place.rpartition(':')[0]}@{digest}")


@app.command()
def serve(home: Home = DEFAULT_HOME, name: Name = None, port_base: Port = None) -> None:
    """Run the API in the foreground (`start` does this in the background)."""
    _open(home, name, port_base).serve()


def main() -> None:
    """Run the command; what goes wrong is one line on stderr and exit code 1."""
    command: Callable[[], Any] = app
    try:
        command()
    except (SandboxError, PartError) as error:
        err.print(f"[red]sandbox:[/red] {escape(str(error))}", soft_wrap=True)
        sys.exit(1)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
