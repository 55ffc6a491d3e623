"""The staging environment that the tests here share: brought up once, by the Makefile's verb, in its own sandbox."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Self

import httpx

from blueprint.outputs import EnvironmentOutputs
from tests.kits.ports import free_ports
from tests.kits.process import run_to_end
from tests.leftovers import owned
from tools.environment import ROOT, Workspace, workspace

CANARY_PASSWORD = 'AVNS_canary+/="&%7'
CANARY_VARIABLE = 'canary "of" the app\'s \\ environment/+é'


class CommandLines(threading.Thread):
    """Collects every command line that runs on this machine, the sandbox's containers included, while it is open."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.seen: set[bytes] = set()
        self._over = threading.Event()

    def run(self) -> None:
        while not self._over.wait(0.05):
            for path in Path("/proc").glob("[0-9]*/cmdline"):
                with contextlib.suppress(OSError):
                    self.seen.add(path.read_bytes().replace(b"\0", b" "))

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self.join()


@dataclass
class Staging:
    """A running stack. `transcript` is all that was printed on the way; `command_lines` all that ran meanwhile."""

    home: Path
    transcript: str = ""
    command_lines: set[bytes] = field(default_factory=set)

    @cached_property
    def work(self) -> Workspace:
        return workspace("staging", start=False)

    @cached_property
    def outputs(self) -> EnvironmentOutputs:
        return self.work.outputs()

    def verb(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run one of the Makefile's verbs, its whole output in `stdout`."""
        with CommandLines() as lines:
            done = subprocess.run(
                [sys.executable, "-m", "tools.environment", *arguments],
                cwd=ROOT,
                text=True,
                check=False,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
            )
        self.transcript += done.stdout
        self.command_lines |= lines.seen
        return done

    def run(self, *command: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run a program as `make shell` would."""
        work = self.work
        with CommandLines() as lines:
            done = subprocess.run(
                command, cwd=work.project, env=dict(work.environment), text=True, check=False, capture_output=True
            )
        self.transcript += done.stdout + done.stderr
        self.command_lines |= lines.seen
        assert not check or done.returncode == 0, f"{command} exits {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done

    def ops(self, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        return self.run(sys.executable, "-m", "ops", *arguments, "--stack", "staging", check=check)

    def pulumi(self, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        return self.run("pulumi", *arguments, "--stack", "staging", "--non-interactive", check=check)

    def api(self, method: str, path: str, body: Any = None) -> Any:
        work = self.work
        answer = httpx.request(
            method,
            work.environment["DIGITALOCEAN_API_URL"] + path,
            json=body,
            timeout=120,
            trust_env=False,
            headers={"Authorization": f"Bearer {work.environment['DIGITALOCEAN_TOKEN']}"},
        )
        answer.raise_for_status()
        return answer.json() if answer.content else None

    def container(self, kind: str) -> str:
        """Return the name of the sandbox's one container of this kind."""
        listed = subprocess.run(
            ["docker", "ps", "--filter", f"name={self.instance}-{kind}", "--format", "{{.Names}}"],
            text=True,
            check=True,
            capture_output=True,
        ).stdout.split()
        assert len(listed) == 1, listed
        return listed[0]

    @cached_property
    def instance(self) -> str:
        # Not by the droplet's id: another sandbox on this machine may have a droplet of the same.
        return f"ancla-{os.environ['ANCLA_SANDBOX_NAME']}"

    def on_droplet(self, script: str, check: bool = True) -> str:
        """Run a script as root on the droplet, past its firewalls and its sshd."""
        container = self.container("droplet")
        return run_to_end("docker", "exec", "-i", container, "bash", "-eu", input=script, check=check).stdout


@contextlib.contextmanager
def staging_environment(home: Path, record: Path) -> Iterator[Staging]:
    """Bring staging up with canaries in place, and take it away to the last container."""
    mine = {
        "ANCLA_SANDBOX_HOME": str(home),
        "ANCLA_SANDBOX_NAME": f"test-{os.getpid()}",
        "ANCLA_SANDBOX_PORT": str(free_ports(4, 18470)),
        "ANCLA_SANDBOX_RECORD": str(record),
        **owned(),
    }
    before = {name: os.environ.get(name) for name in mine}
    os.environ.update(mine)
    try:
        started = time.monotonic()
        work = workspace("staging", start=True)
        stack = Staging(home)
        stack.api("POST", "/_sandbox/next", {"database_password": CANARY_PASSWORD, "user": "app"})
        secrets = home / "secrets-staging.json"
        values = json.loads(secrets.read_text())
        values["app"] = dict.fromkeys(values["app"], CANARY_VARIABLE)
        secrets.write_text(json.dumps(values))
        del stack.work  # it was made with the secrets of before
        done = stack.verb("--stack", "staging", "up")
        assert done.returncode == 0, done.stdout
        print(f"staging is up after {time.monotonic() - started:.0f} s in {work.home}")
        yield stack
    finally:
        subprocess.run([sys.executable, "-m", "sandbox", "reset", "--yes", "--home", str(home)], cwd=ROOT, check=True)
        for name, value in before.items():
            os.environ.pop(name) if value is None else os.environ.update({name: value})
