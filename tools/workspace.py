"""Where one checkout's sandbox keeps its things, and the environment that its programs run in.

The engine writes salts into stack files, so it works in `.sandbox/project`: copies of the stack files, each with its
salt above the text that ships, and a `Pulumi.yaml` whose `main` points back at the checkout. State, passphrase and the
secrets made up for the sandbox are in `.sandbox` too (mode 0700).
"""

from __future__ import annotations

import json
import os
import re
import secrets
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import typer
import yaml
from rich.console import Console

from blueprint.outputs import EnvironmentOutputs, parse_outputs
from blueprint.pulumi_config import RECIPIENT_VARIABLE, load_stack_file
from blueprint.settings.environment import EnvironmentSettings
from blueprint.settings.required_secrets import missing_secrets

ROOT = Path(__file__).resolve().parent.parent
EVERY = 15.0
"""Seconds between two lines that say how long a step has been running."""

console = Console(stderr=True, highlight=False, soft_wrap=True)


class StepError(Exception):
    """A step failed and has said why; carries its exit code."""

    def __init__(self, step: str, code: int) -> None:
        super().__init__(f"{step} failed (exit {code})")
        self.code = code or 1


@contextmanager
def elapsed(step: str, every: float = EVERY) -> Generator[None]:
    """Print how long the step has been running, again and again while it runs."""
    began, over = time.monotonic(), threading.Event()

    def tell() -> None:
        while not over.wait(every):
            console.print(f"  … {step}: {time.monotonic() - began:.0f} s", style="dim")

    teller = threading.Thread(target=tell, daemon=True)
    teller.start()
    try:
        yield
    finally:
        over.set()
        teller.join()


@dataclass(frozen=True, kw_only=True)
class Workspace:
    """One stack of this checkout in its sandbox, and the environment that programs run in."""

    stack: str
    home: Path
    environment: Mapping[str, str]

    @property
    def project(self) -> Path:
        """The folder the engine works in."""
        return self.home / "project"

    @property
    def stack_file(self) -> Path:
        """The stack file of the checkout."""
        return ROOT / f"Pulumi.{self.stack}.yaml"

    @property
    def checkpoint(self) -> Path:
        """The engine's record of the stack's resources; absent before the first `up`."""
        return checkpoint_of(self.home, self.stack)

    def run(self, step: str, *command: str, cwd: Path = ROOT, quiet: bool = False, stdin: str | None = None) -> str:
        """Run one program; its output goes to the screen, or is returned when `quiet` and shown only when it fails.

        Raises:
            StepError: it ended with an exit code other than 0.
        """
        shows_time = command[0] == "pulumi" and not quiet  # the engine shows by itself that it is at work
        with nullcontext() if shows_time else elapsed(step):
            done = self._ran(*command, cwd=cwd, capture_output=quiet, input=stdin)
        if done.returncode:
            sys.stderr.write(f"{done.stdout or ''}{done.stderr or ''}")
            raise StepError(step, done.returncode)
        return done.stdout or ""

    def _ran(self, *command: str, **options: Any) -> subprocess.CompletedProcess[str]:
        return subprocess.run(command, env=dict(self.environment), text=True, check=False, **options)

    def ops(self, step: str, *arguments: str) -> None:
        """Run `python -m ops` in the engine's folder, where the stack is found."""
        self.run(step, sys.executable, "-m", "ops", *arguments, cwd=self.project)

    def pulumi(self, step: str, *arguments: str, quiet: bool = False) -> str:
        """Run the engine on the stack."""
        plain = () if sys.stdout.isatty() and not quiet else ("--non-interactive",)
        return self.run(step, "pulumi", *arguments, "--stack", self.stack, *plain, cwd=self.project, quiet=quiet)

    def select(self) -> None:
        """Select the stack, and make it where it is new."""
        command = ("pulumi", "stack", "select", "--create", self.stack, "--non-interactive")
        self.run("stack select", *command, cwd=self.project, quiet=True)

    def judged(self, *options: str) -> None:
        """Preview the stack, and hold what would be done against the policy.

        Raises:
            StepError: a rule is broken, or there is no preview; why was printed.
        """
        preview = ("pulumi", "preview", "--json", "--show-sames", "--stack", self.stack, "--non-interactive")
        with elapsed("pulumi preview"):
            done = self._ran(*preview, cwd=self.project, capture_output=True)
        plan = done.stdout
        if done.returncode and not plan.lstrip().startswith("{"):
            sys.stderr.write(plan + done.stderr)
            raise StepError("pulumi preview", done.returncode)
        # Of a preview that failed, the document has the reason, and the policy prints it.
        command = (sys.executable, "-m", "policy", "--stack-file", str(self.stack_file), *options)
        self.run("policy", *command, stdin=plan)

    def outputs(self) -> EnvironmentOutputs:
        """Read what the stack gave back.

        Raises:
            OutputsError: there is nothing to read yet.
        """
        text = self.pulumi("reading the outputs", "stack", "output", "--json", "--show-secrets", quiet=True)
        return parse_outputs(json.loads(text))


def sandbox_home() -> Path:
    """Return the folder with this checkout's sandbox."""
    return Path(os.environ.get("ANCLA_SANDBOX_HOME") or ROOT / ".sandbox").resolve()


def checkpoint_of(home: Path, stack: str) -> Path:
    """Return the file in which the engine keeps a stack's resources."""
    return home / "state" / ".pulumi" / "stacks" / "ancla" / f"{stack}.json"


def sandbox(*arguments: str, quiet: bool = False) -> str:
    """Run `python -m sandbox`; when `quiet`, its output is returned.

    Raises:
        StepError: it ended with an exit code other than 0.
    """
    with elapsed(f"sandbox {arguments[0]}"):
        done = subprocess.run(
            [sys.executable, "-m", "sandbox", *arguments, "--home", str(sandbox_home())],
            cwd=ROOT,
            text=True,
            check=False,
            stdout=subprocess.PIPE if quiet else None,
        )
    if done.returncode:
        raise StepError(f"sandbox {arguments[0]}", done.returncode)
    return done.stdout or ""


def workspace(stack: str, *, start: bool) -> Workspace:
    """Prepare the folders, start the sandbox when asked, and gather the environment that programs run in."""
    if not (ROOT / f"Pulumi.{stack}.yaml").exists():
        stacks = ", ".join(sorted(path.name.split(".")[1] for path in ROOT.glob("Pulumi.*.yaml")))
        raise typer.BadParameter(f"no stack {stack!r} here; there are: {stacks}", param_hint="--stack")
    home = sandbox_home()
    home.mkdir(mode=0o700, exist_ok=True)
    if start:
        sandbox("start")
    _project(home)
    variables: dict[str, str] = json.loads(sandbox("env", "--json", quiet=True))
    if start:
        _prepare_account(variables, load_stack_file(ROOT / f"Pulumi.{stack}.yaml"))
    state = home / "state"
    state.mkdir(exist_ok=True)
    identity = _identity(home)
    environment = {
        **os.environ,
        **variables,
        "ANCLA_IDENTITY": str(identity),
        "ANCLA_ROOT": str(ROOT),
        "ANCLA_SANDBOX_HOME": str(home),
        RECIPIENT_VARIABLE: _recipient(identity),
        "ANCLA_SECRETS": _secrets(home, stack),
        "PULUMI_BACKEND_URL": f"file://{state}",
        "PULUMI_CONFIG_PASSPHRASE_FILE": str(_private_file(home / "passphrase", lambda: secrets.token_urlsafe(32))),
        "PULUMI_STACK": stack,
        "PYTHONPATH": os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")])),
    }
    return Workspace(stack=stack, home=home, environment=environment)


def _prepare_account(variables: Mapping[str, str], settings: EnvironmentSettings) -> None:
    """Do in the sandbox's account what people do once in a real one: a default VPC, and members who get alerts.

    The first VPC of a region becomes its default, which nobody can delete: it must not be the environment's.
    """
    token, region = variables["DIGITALOCEAN_TOKEN"], settings.region.value
    with httpx.Client(
        base_url=variables["DIGITALOCEAN_API_URL"], headers={"Authorization": f"Bearer {token}"}, trust_env=False
    ) as api:
        vpcs: list[dict[str, Any]] = api.get("/v2/vpcs?per_page=200").raise_for_status().json()["vpcs"]
        if all(vpc["region"] != region for vpc in vpcs):
            api.post("/v2/vpcs", json={"name": f"default-{region}", "region": region}).raise_for_status()
        known: set[str] = set(api.get("/_sandbox/switches").raise_for_status().json()["addresses"])
        if not known.issuperset(settings.alerts.emails):
            addresses = sorted(known.union(settings.alerts.emails))
            api.patch("/_sandbox/switches", json={"addresses": addresses}).raise_for_status()


def _private_file(path: Path, make: Callable[[], str]) -> Path:
    """Write a file that only its owner reads, once."""
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w") as file:
            file.write(make())
    return path


def _project(home: Path) -> None:
    """Lay out the engine's folder: the project, and the stack files as they ship; salts stay in the copies."""
    folder = home / "project"
    folder.mkdir(parents=True, exist_ok=True)
    project: dict[str, Any] = yaml.safe_load((ROOT / "Pulumi.yaml").read_text())
    project["main"] = os.path.relpath(ROOT, folder)
    (folder / "Pulumi.yaml").write_text(yaml.safe_dump(project, sort_keys=False))
    for source in ROOT.glob("Pulumi.*.yaml"):
        copy = folder / source.name
        salt = re.search(r"^encryptionsalt:.*\n", copy.read_text(), re.MULTILINE) if copy.exists() else None
        copy.write_text((salt[0] if salt else "") + source.read_text())


def _identity(home: Path) -> Path:
    """Return the file with the age identity that reads this sandbox's backups; made once."""
    path = home / "identity.txt"
    if not path.exists():
        _ops("backup", "keygen", "--out", str(path))
    return path


def _recipient(identity: Path) -> str:
    """Return who the sandbox's backups are encrypted for, beside those of the stack file."""
    found = re.search(r"^# public key: (age1\w+)$", identity.read_text(), re.MULTILINE)
    if found is None:
        raise typer.BadParameter(f"{identity}: names no public key; move it away, and a new one is made")
    return found[1]


def _secrets(home: Path, stack: str) -> str:
    """Make up what a real stack keeps encrypted in its stack file; the same values at every run. Returns JSON."""
    path = home / f"secrets-{stack}.json"
    stack_file = ROOT / f"Pulumi.{stack}.yaml"

    def missing() -> list[str]:
        text = path.read_text() if path.exists() else ""
        return missing_secrets(load_stack_file(stack_file, environ={"ANCLA_SECRETS": text}))

    groups = {"app": "", "channels": "https://hooks.slack.com/services/"}  # the sandbox sends nothing there
    if not path.exists() or any(name.split(".")[1] not in groups for name in missing()):
        _ops("stack", "init", "--stack", stack, "--emit-secrets", str(path))  # what is there stays
    values: dict[str, Any] = json.loads(path.read_text())
    for key in missing():
        group, _, name = key.removeprefix("secrets.").partition(".")
        if group in groups:
            values.setdefault(group, {})[name] = groups[group] + secrets.token_urlsafe(24)
    text = json.dumps(values)
    if text != path.read_text():
        path.write_text(text)
    return text


def _ops(*arguments: str) -> None:
    """Run `python -m ops` on this checkout, outside of any stack."""
    done = subprocess.run(
        [sys.executable, "-m", "ops", *arguments], cwd=ROOT, text=True, check=False, capture_output=True
    )
    if done.returncode:
        sys.stderr.write(done.stdout + done.stderr)
        raise StepError(f"ops {' '.join(arguments[:2])}", done.returncode)
