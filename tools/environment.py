"""The verbs of the Makefile: one stack of this checkout, in the sandbox, from nothing to a running app and back.

Every step is another program, as a person would type it: `python -m sandbox`, `pulumi`, `python -m policy`,
`python -m ops`, `docker build`. Nothing here decides anything about the environment; that is in the stack file.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Annotated, Any

import boto3
import typer
from botocore.config import Config as BotoConfig
from rich.markup import escape

from blueprint.outputs import PUBLIC_READ, EnvironmentOutputs, OutputSecrets
from blueprint.pulumi_config import SettingsError, load_stack_file
from blueprint.settings.services import ServiceSettings, parse_image
from tools.judged import is_remembered, remember
from tools.workspace import (
    ROOT,
    StepError,
    Workspace,
    checkpoint_of,
    console,
    sandbox,
    sandbox_home,
    workspace,
)

app = typer.Typer(add_completion=False, no_args_is_help=True, help=__doc__, pretty_exceptions_enable=False)


def _build_app(work: Workspace) -> None:
    """Build the sample app's images, under the tags that the stack file names."""
    settings = load_stack_file(ROOT / f"Pulumi.{work.stack}.yaml")
    base = json.loads(sandbox("images", "--json", quiet=True))["app"]
    for image in _own_images(settings.services):
        folder = ROOT / "examples" / parse_image(image).repository
        command = ("docker", "build", "-q", "--build-arg", f"BASE={base}", "-t", f"ancla-example/{image}", str(folder))
        work.run(f"building {image}", *command, quiet=True)


def _own_images(services: Mapping[str, ServiceSettings]) -> list[str]:
    """Return the images of the environment's own registry; several services may run one."""
    images = dict.fromkeys(service.image for service in services.values() if service.image is not None)
    return [image for image in images if parse_image(image).host is None]


def _push_app(outputs: EnvironmentOutputs) -> None:
    """Push them to the environment's registry, side by side; those that are there already are left alone."""
    registry = outputs.registry
    if registry is None:
        return

    def push(image: str) -> None:
        sandbox("push", f"ancla-example/{image}", image, "--registry", registry.name, quiet=True)

    with ThreadPoolExecutor() as pool:
        for done in [pool.submit(push, image) for image in _own_images(outputs.services)]:
            done.result()


def _upload_assets(work: Workspace, outputs: EnvironmentOutputs) -> None:
    """Put the sample's public files into the bucket `assets`."""
    assets = outputs.buckets.get("assets")
    if assets is None or not isinstance(outputs.secrets, OutputSecrets):
        return
    key = outputs.secrets.bucket_keys["assets"]
    client: Any = boto3.client(
        "s3",
        endpoint_url=assets.bucket.endpoint,
        region_name="us-east-1",
        aws_access_key_id=key.access_key,
        aws_secret_access_key=key.secret_key.get_secret_value(),
        verify=work.environment["AWS_CA_BUNDLE"],
        config=BotoConfig(
            proxies={"https": work.environment["HTTPS_PROXY"]},
            request_checksum_calculation="when_required",
            response_checksum_validation="when_required",
        ),
    )
    types = {".svg": "image/svg+xml", ".png": "image/png", ".css": "text/css"}
    for path in sorted((ROOT / "examples" / "assets").iterdir()):
        client.put_object(
            Bucket=assets.bucket.name,
            Key=path.name,
            Body=path.read_bytes(),
            ACL=PUBLIC_READ,
            ContentType=types.get(path.suffix, "application/octet-stream"),
        )


def _step(title: str, started: float) -> None:
    console.print(f"[bold green]✓[/] {title} [dim]({time.monotonic() - started:.0f} s)[/]")


Stack = Annotated[str, typer.Option("--stack", help="the stack, as in Pulumi.<stack>.yaml")]


@app.callback()
def main(context: typer.Context, stack: Stack = "staging") -> None:
    """Choose the stack that the verb is about."""
    context.obj = stack


def _workspace(context: typer.Context, *, start: bool) -> Workspace:
    return workspace(context.obj, start=start)


@app.command()
def up(context: typer.Context) -> None:
    """Bring the stack up, ending with the address of the running app."""
    began = time.monotonic()
    work = _workspace(context, start=True)
    _step("sandbox is running", began)
    with ThreadPoolExecutor(1) as pool:
        images = pool.submit(_build_app, work)
        started = time.monotonic()
        work.select()
        if not is_remembered(work):
            work.judged()
        _step("policy holds", started)
        started = time.monotonic()
        try:
            work.pulumi("pulumi up", "up", "--yes", "--skip-preview", "--suppress-outputs")
        except StepError:
            if any((work.home / "state" / ".pulumi" / "locks").rglob("*.json")):
                console.print("An earlier run was interrupted and holds the stack: `make recover` mends that.")
            raise
        _step("environment is built", started)
        remember(work)
        images.result()
    started = time.monotonic()
    outputs = work.outputs()
    _push_app(outputs)
    _upload_assets(work, outputs)
    _step("images and assets are in place", started)
    started = time.monotonic()
    work.ops("deploy", "deploy", "--stack", work.stack)
    _step("app is deployed", started)
    # The loopback page shows the first droplet of the sandbox, whichever stack it belongs to.
    stacks = (work.home / "state" / ".pulumi" / "stacks").rglob("*.json")
    alone = sum("digitalocean:index/droplet:Droplet" in state.read_text() for state in stacks) == 1
    page = work.environment.get("ANCLA_SANDBOX_PAGE", "") if alone else ""
    console.print(f"\n[bold]{work.stack}[/] is up after {time.monotonic() - began:.0f} s. The app answers at:")
    for address in filter(None, [f"http://{outputs.droplets[0].address}/", page]):
        print(address)  # noqa: T201 - the address is the result, for people and for scripts


@app.command()
def preview(context: typer.Context) -> None:
    """List what `up` would do, with the monthly cost, and hold it against the policy."""
    work = _workspace(context, start=True)
    work.select()
    work.judged("--cost")


@app.command()
def status(context: typer.Context) -> None:
    """Show the sandbox's parts, and the stack where it is up."""
    if not _docker_runs():
        return
    sandbox("status")
    # Only an engine can read the stack; a sandbox without one has none.
    if not checkpoint_of(sandbox_home(), context.obj).exists() or not shutil.which("pulumi"):
        console.print(f"{context.obj} is not up; `make up STACK={context.obj}` brings it up")
        return
    try:
        work = _workspace(context, start=False)
    except StepError:
        console.print("stopped; `make up` continues from its data")
        return
    work.ops("status", "status", "--stack", work.stack)


@app.command()
def shell(context: typer.Context) -> None:
    """Open a shell in the engine's folder, with the sandbox's endpoints, names and authority in the environment."""
    work = _workspace(context, start=True)
    os.chdir(work.project)
    shell_program = shutil.which(os.environ.get("SHELL", "bash")) or "/bin/sh"
    console.print(f"In {work.project}: pulumi, python -m ops, curl and S3 clients talk to the sandbox. `exit` leaves.")
    arguments = [shell_program, "-i"] if sys.stdin.isatty() else [shell_program]
    os.execve(shell_program, arguments, dict(work.environment))  # noqa: S606 - the shell is the person's own


@app.command()
def recover(context: typer.Context) -> None:
    """After an interrupted `up`: clear the lock, and adopt what the engine made but did not record."""
    work = _workspace(context, start=True)
    work.ops("recover", "stack", "recover", "--stack", work.stack, "--yes")


@app.command()
def destroy(context: typer.Context) -> None:
    """Destroy the stack's resources, and check that nothing is left."""
    work = _workspace(context, start=True)
    settings = load_stack_file(ROOT / f"Pulumi.{work.stack}.yaml")
    if settings.is_disposable:
        # Its backups are protected from an `up` that renames their bucket, and not from this.
        work.pulumi("pulumi state unprotect", "state", "unprotect", "--all", "--yes")
    # With its preview: a destroy that protection will refuse is then refused whole, before anything is gone.
    work.pulumi("pulumi destroy", "destroy", "--yes")
    # The account's own registry stays, and `pulumi destroy` has said so.
    registry = settings.registry
    sandbox("leaks", *(("--except", f"registry {registry.name}") if registry is not None and registry.shared else ()))


@app.command()
def down() -> None:
    """Stop what `up` started; data stays."""
    if _docker_runs():
        sandbox("stop")
    _shell_function("stop_docker_daemon")


@app.command()
def wipe(*, yes: Annotated[bool, typer.Option("--yes", help="do not ask")] = False) -> None:
    """Stop everything, and delete this checkout's sandbox: databases, buckets, backups and their identity."""
    home = sandbox_home()
    if not home.exists():
        console.print(f"{home} is not there: nothing to delete")
        return
    if not yes:
        if not sys.stdin.isatty():
            console.print("nobody can be asked here; `make wipe YES=1` deletes without asking")
            raise typer.Exit(2)
        typer.confirm(f"Delete {home}: every stack, its databases, buckets and backups?", abort=True, err=True)
    _shell_function("docker_daemon")  # the data is in volumes, which only Docker can delete
    sandbox("reset", "--yes")
    _shell_function("stop_docker_daemon")
    shutil.rmtree(home, ignore_errors=True)


def _docker_runs() -> bool:
    runs = (
        shutil.which("docker") is not None
        and not subprocess.run(["docker", "info"], capture_output=True, check=False).returncode
    )
    if not runs:
        console.print("Docker does not run, and so nothing of the sandbox does; `make up` starts both")
    return runs


def _shell_function(name: str) -> None:
    """Run a function of `tools/setup.sh`."""
    done = subprocess.run(["bash", "-c", f". tools/setup.sh; {name}"], cwd=ROOT, check=False)
    if done.returncode:
        raise StepError(name, done.returncode)


def _problems() -> dict[str, str]:
    """Return what the sandbox fails at and tries again, by job; nothing where no sandbox answers."""
    command = [sys.executable, "-m", "sandbox", "status", "--json", "--home", str(sandbox_home())]
    done = subprocess.run(command, cwd=ROOT, text=True, check=False, capture_output=True)
    return json.loads(done.stdout)["world"].get("problems", {}) if done.returncode == 0 else {}


def run() -> None:
    """Run a verb; a step that failed has said why, and the sandbox may know more."""
    try:
        app()
    except StepError as error:
        console.print(f"[bold red]✗[/] {error}")
        for job, reason in _problems().items():
            console.print(f"The sandbox could not do this: {job}: {reason}", markup=False)
        raise SystemExit(error.code) from None
    except SettingsError as error:
        for problem in error.problems:
            console.print(f"[bold red]error:[/] {escape(problem)}")
        raise SystemExit(1) from None


if __name__ == "__main__":
    run()
