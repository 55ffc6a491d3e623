"""The verbs of the Makefile: one stack of this checkout, in the sandbox, from nothing to a running app and back.

Every step is another program, as a person would type it: `python -m sandbox`, `pulumi`, `python -m ops`,
`docker build`. Nothing here decides anything about the environment; that is in the stack file and in the rooms.

The engine writes salts into stack files, so it works in `.sandbox/project`: copies of the stack files, and a
`Pulumi.yaml` whose `main` points back at the checkout. State, passphrase and the secrets made up for the sandbox are in
`.sandbox` too (mode 0700).
"""

from __future__ import annotations

import json
import os
import re
import secrets
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import boto3
import typer
import yaml
from botocore.config import Config as BotoConfig
from rich.console import Console

from blueprint.outputs import EnvironmentOutputs, OutputSecrets, parse_outputs
from blueprint.pulumi_config import load_stack_file
from blueprint.settings import DISPOSABLE_ENVIRONMENTS
from ops.release.variables import PUBLIC_READ
from ops.repository.age import make_identity, recipient_of
from ops.stack.cloud import Cloud
from ops.stack.init import KEYS
from ops.stack.preflight import ensure_default_vpc

ROOT = Path(__file__).resolve().parent.parent
app = typer.Typer(add_completion=False, no_args_is_help=True, help=__doc__, pretty_exceptions_enable=False)
console = Console(stderr=True, highlight=False)


class StepError(Exception):
    """A step failed and has said why; carries its exit code."""

    def __init__(self, step: str, code: int) -> None:
        super().__init__(f"{step} failed (exit {code})")
        self.code = code or 1


@dataclass(frozen=True, kw_only=True)
class Workspace:
    """Where one checkout's sandbox keeps its things, and the environment its programs run in."""

    stack: str
    home: Path
    environment: Mapping[str, str]

    @property
    def project(self) -> Path:
        """The folder the engine works in."""
        return self.home / "project"

    def run(self, step: str, *command: str, cwd: Path = ROOT, quiet: bool = False) -> str:
        """Run one program; its output goes to the screen, or is returned when `quiet` and shown only when it fails.

        Raises:
            StepError: it ended with an exit code other than 0.
        """
        done = subprocess.run(
            command, cwd=cwd, env=dict(self.environment), text=True, check=False, capture_output=quiet
        )
        if done.returncode:
            sys.stderr.write(f"{done.stdout or ''}{done.stderr or ''}")
            raise StepError(step, done.returncode)
        return done.stdout or ""

    def ops(self, step: str, *arguments: str) -> None:
        """Run `python -m ops` in the engine's folder, where the stack is found."""
        self.run(step, sys.executable, "-m", "ops", *arguments, cwd=self.project)

    def pulumi(self, step: str, *arguments: str, quiet: bool = False) -> str:
        """Run the engine on the stack."""
        plain = () if sys.stdout.isatty() and not quiet else ("--non-interactive",)
        return self.run(step, "pulumi", *arguments, "--stack", self.stack, *plain, cwd=self.project, quiet=quiet)

    def outputs(self) -> EnvironmentOutputs:
        """Read what the stack gave back.

        Raises:
            OutputsError: there is nothing to read yet.
        """
        text = self.pulumi("reading the outputs", "stack", "output", "--json", "--show-secrets", quiet=True)
        return parse_outputs(json.loads(text))


def _home() -> Path:
    return Path(os.environ.get("ANCLA_SANDBOX_HOME") or ROOT / ".sandbox").resolve()


def _sandbox(*arguments: str, quiet: bool = False) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "sandbox", *arguments, "--home", str(_home())],
        cwd=ROOT,
        text=True,
        check=False,
        stdout=subprocess.PIPE if quiet else None,
    )
    if done.returncode:
        raise StepError(f"sandbox {arguments[0]}", done.returncode)
    return done.stdout or ""


def _private_file(path: Path, make: Callable[[], str]) -> Path:
    """Write a file that only its owner reads, once."""
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w") as file:
            file.write(make())
    return path


def _project(home: Path) -> None:
    """Lay out the engine's folder: project and stack files of the checkout; salts stay in the copies.

    Backups are encrypted for an identity of this sandbox's own, which stands in the copies beside what the team writes.
    """
    recipient = recipient_of(_identity(home).read_text())
    folder = home / "project"
    folder.mkdir(parents=True, exist_ok=True)
    project: dict[str, Any] = yaml.safe_load((ROOT / "Pulumi.yaml").read_text())
    project["main"] = os.path.relpath(ROOT, folder)
    (folder / "Pulumi.yaml").write_text(yaml.safe_dump(project, sort_keys=False))
    for source in ROOT.glob("Pulumi.*.yaml"):
        copy = folder / source.name
        salt = re.search(r"^encryptionsalt:.*$", copy.read_text(), re.MULTILINE) if copy.exists() else None
        document: dict[str, Any] = yaml.safe_load(source.read_text())
        document["config"].setdefault("ancla:backup", {}).setdefault("recipients", []).append(recipient)
        text = yaml.safe_dump(document, sort_keys=False, allow_unicode=True)
        copy.write_text((f"{salt[0]}\n" if salt else "") + text)


def _identity(home: Path) -> Path:
    """Return the file with the age identity that reads this sandbox's backups; made once."""
    return _private_file(home / "identity.txt", make_identity)


def _secrets(home: Path, stack: str) -> str:
    """Make up what a real stack keeps encrypted in its stack file; the same values at every run. Returns JSON."""
    path = home / f"secrets-{stack}.json"
    settings = load_stack_file(ROOT / f"Pulumi.{stack}.yaml")
    if not path.exists() or KEYS.keys() - json.loads(path.read_text()).keys():
        subprocess.run(  # what is there stays
            [sys.executable, "-m", "ops", "stack", "init", "--stack", stack, "--emit-secrets", str(path)],
            cwd=ROOT,
            check=True,
            stdout=subprocess.DEVNULL,
        )
    values: dict[str, Any] = json.loads(path.read_text())
    known: dict[str, str] = values.setdefault("app", {})
    wanted = {name for service in settings.services for name in service.secrets}
    missing = sorted(wanted - known.keys())
    if missing:
        known.update({name: secrets.token_urlsafe(24) for name in missing})
        path.write_text(json.dumps(values))
    return json.dumps(values)


def _open_account(cloud: Cloud, stack: str) -> None:
    """Do in the sandbox's account what people do once in a real one: a default VPC, and members who get alerts."""
    settings = load_stack_file(ROOT / f"Pulumi.{stack}.yaml")
    ensure_default_vpc(cloud, settings.region.value)
    known: list[str] = (cloud.get("/_sandbox/switches") or {}).get("addresses", [])
    if new := set(settings.monitoring.emails) - set(known):
        cloud.send("PATCH", "/_sandbox/switches", {"addresses": sorted({*known, *new})})


def workspace(stack: str, *, start: bool) -> Workspace:
    """Prepare the folders, start the sandbox when asked, and gather the environment that programs run in."""
    if not (ROOT / f"Pulumi.{stack}.yaml").exists():
        stacks = ", ".join(sorted(path.name.split(".")[1] for path in ROOT.glob("Pulumi.*.yaml")))
        raise typer.BadParameter(f"no stack {stack!r} here; there are: {stacks}", param_hint="--stack")
    home = _home()
    home.mkdir(mode=0o700, exist_ok=True)
    if start:
        _sandbox("start")
    _project(home)
    variables: dict[str, str] = json.loads(_sandbox("env", "--json", quiet=True))
    if start:
        _open_account(Cloud(variables["DIGITALOCEAN_TOKEN"], variables["DIGITALOCEAN_API_URL"]), stack)
    state = home / "state"
    state.mkdir(exist_ok=True)
    environment = {
        **os.environ,
        **variables,
        "ANCLA_IDENTITY": str(_identity(home)),
        "ANCLA_ROOT": str(ROOT),
        "ANCLA_SANDBOX_HOME": str(home),
        "ANCLA_SECRETS": _secrets(home, stack),
        "PULUMI_BACKEND_URL": f"file://{state}",
        "PULUMI_CONFIG_PASSPHRASE_FILE": str(_private_file(home / "passphrase", lambda: secrets.token_urlsafe(32))),
        "PULUMI_STACK": stack,
        "PYTHONPATH": os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")])),
    }
    return Workspace(stack=stack, home=home, environment=environment)


def _build_app(work: Workspace) -> None:
    """Build the sample app's images, under the tags that the stack file names."""
    settings = load_stack_file(ROOT / f"Pulumi.{work.stack}.yaml")
    base = json.loads(_sandbox("images", "--json", quiet=True))["app"]
    for service in settings.services:
        folder = ROOT / "examples" / service.name
        image = f"ancla-example/{service.image}"
        work.run(
            f"building {service.image}",
            "docker",
            "build",
            "-q",
            "--build-arg",
            f"BASE={base}",
            "-t",
            image,
            str(folder),
            quiet=True,
        )


def _push_app(outputs: EnvironmentOutputs) -> None:
    """Push them to the environment's registry; those that are there already are left alone."""
    for service in outputs.services:
        _sandbox(
            "push", f"ancla-example/{service.image}", service.image, "--registry", outputs.registry.name, quiet=True
        )


def _upload_assets(work: Workspace, outputs: EnvironmentOutputs) -> None:
    """Put the sample's public files into the assets bucket."""
    if outputs.assets is None or not isinstance(outputs.secrets, OutputSecrets) or outputs.secrets.assets_key is None:
        return
    key = outputs.secrets.assets_key
    client: Any = boto3.client(
        "s3",
        endpoint_url=outputs.assets.bucket.endpoint,
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
            Bucket=outputs.assets.bucket.name,
            Key=path.name,
            Body=path.read_bytes(),
            ACL=PUBLIC_READ,
            ContentType=types.get(path.suffix, "application/octet-stream"),
        )


def _step(title: str, started: float) -> None:
    console.print(f"[bold green]✓[/] {title} [dim]({time.monotonic() - started:.0f} s)[/]")


Stack = Annotated[str, typer.Option("--stack", help="the stack, as in Pulumi.<stack>.yaml")]
_chosen: dict[str, str] = {}


@app.callback()
def main(stack: Stack = "staging") -> None:
    """Choose the stack that the verb is about."""
    _chosen["stack"] = stack


@app.command()
def up() -> None:
    """Bring the stack up, ending with the address of the running app."""
    began = time.monotonic()
    work = workspace(_chosen["stack"], start=True)
    _step("sandbox is running", began)
    with ThreadPoolExecutor(1) as pool:
        images = pool.submit(_build_app, work)
        started = time.monotonic()
        work.run(
            "stack select",
            "pulumi",
            "stack",
            "select",
            "--create",
            work.stack,
            "--non-interactive",
            cwd=work.project,
            quiet=True,
        )
        try:
            work.pulumi("pulumi up", "up", "--yes", "--skip-preview", "--suppress-outputs")
        except StepError:
            if any((work.home / "state" / ".pulumi" / "locks").rglob("*.json")):
                console.print("An earlier run was interrupted and holds the stack: `make recover` mends that.")
            raise
        _step("environment is built", started)
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
def preview() -> None:
    """List what `up` would do, with the monthly cost, and hold it against the policy."""
    work = workspace(_chosen["stack"], start=True)
    work.run(
        "stack select",
        "pulumi",
        "stack",
        "select",
        "--create",
        work.stack,
        "--non-interactive",
        cwd=work.project,
        quiet=True,
    )
    plan = work.pulumi("pulumi preview", "preview", "--json", "--show-sames", quiet=True)
    policy = [sys.executable, "-m", "policy", "--cost", "--stack-file", str(work.project / f"Pulumi.{work.stack}.yaml")]
    done = subprocess.run(policy, cwd=ROOT, input=plan, text=True, check=False, env=dict(work.environment))
    raise typer.Exit(done.returncode)


@app.command()
def status() -> None:
    """Show the sandbox's parts, and the stack where it is up."""
    _sandbox("status")
    work = workspace(_chosen["stack"], start=False)
    work.ops("status", "status", "--stack", work.stack)


@app.command()
def shell() -> None:
    """Open a shell in the engine's folder, with the sandbox's endpoints, names and authority in the environment."""
    work = workspace(_chosen["stack"], start=True)
    os.chdir(work.project)
    shell_program = shutil.which(os.environ.get("SHELL", "bash")) or "/bin/sh"
    console.print(f"In {work.project}: pulumi, python -m ops, curl and S3 clients talk to the sandbox. `exit` leaves.")
    arguments = [shell_program, "-i"] if sys.stdin.isatty() else [shell_program]
    os.execve(shell_program, arguments, dict(work.environment))  # noqa: S606 - the shell is the person's own


@app.command()
def recover() -> None:
    """After an interrupted `up`: clear the lock, and adopt what the engine made but did not record."""
    work = workspace(_chosen["stack"], start=True)
    work.ops("recover", "stack", "recover", "--stack", work.stack, "--yes")


@app.command()
def destroy() -> None:
    """Destroy the stack's resources, and check that nothing is left."""
    work = workspace(_chosen["stack"], start=True)
    if load_stack_file(ROOT / f"Pulumi.{work.stack}.yaml").environment in DISPOSABLE_ENVIRONMENTS:
        # Its backups are protected from an `up` that renames their bucket, and not from this.
        work.pulumi("pulumi state unprotect", "state", "unprotect", "--all", "--yes")
    # With its preview: a destroy that protection will refuse is then refused whole, before anything is gone.
    work.pulumi("pulumi destroy", "destroy", "--yes")
    _sandbox("leaks")


@app.command()
def down() -> None:
    """Stop what `up` started; data stays."""
    _sandbox("stop")
    subprocess.run(["bash", "-c", ". tools/setup.sh; stop_docker_daemon"], cwd=ROOT, check=True)


def run() -> None:
    """Run a verb; a step that failed has said why, so only its exit code is left to give."""
    try:
        app()
    except StepError as error:
        console.print(f"[bold red]✗[/] {error}")
        raise SystemExit(error.code) from None


if __name__ == "__main__":
    run()
