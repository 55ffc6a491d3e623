"""The real engine and the real program against a cloud without machines (`bare_cloud.py`), as a test drives them."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import yaml

from tests.kits.process import run_to_end

HERE = Path(__file__).parent
ROOT = HERE.parent.parent
TOKEN = "sandbox_v1_" + "0" * 32
MUTATING = ("POST", "PUT", "PATCH", "DELETE")


@dataclass(frozen=True)
class Point:
    """One mutating call: the nth with this method and path, stopped before it is done or after it is committed."""

    method: str
    template: str
    nth: int
    when: str

    def __str__(self) -> str:
        return f"{self.method} {self.template} #{self.nth} {self.when}"

    @property
    def path(self) -> str:
        return "^" + re.sub(r"\\\{.*?\\\}", "[^/]+", re.escape(self.template)) + "$"


def points(journal: list[dict[str, Any]]) -> list[Point]:
    """List every point at which the journalled calls could be cut."""
    seen: Counter[tuple[str, str]] = Counter()
    found: list[Point] = []
    for call in journal:
        if call["method"] in MUTATING and call["template"]:
            key = (call["method"], call["template"])
            seen[key] += 1
            found += [Point(*key, seen[key], when) for when in ("before", "after_commit")]
    return found


def open_account(api: str) -> None:
    """Wait for a bare cloud, and make the default VPC: the first one of a region can never be deleted."""
    with httpx.Client(base_url=api, headers={"Authorization": f"Bearer {TOKEN}"}, trust_env=False) as client:
        while client.get("/_sandbox/health").status_code != httpx.codes.OK:
            time.sleep(0.05)
        client.post("/v2/vpcs", json={"name": "default-nyc3", "region": "nyc3"}).raise_for_status()


class BareCloud:
    """A cloud of its own, and an engine folder with one stack of the checkout's program."""

    def __init__(self, home: Path, stack: str, plugins: tuple[str, ...] = (), program: Path | None = None) -> None:
        """`plugins` are folders searched for plugins before PATH; `program` is copied in place of the checkout's."""
        self.home, self.stack, self._plugins = home, stack, plugins
        self.project = home / "project"
        self.project.mkdir(parents=True)
        (home / "state").mkdir()
        (home / "cloud").mkdir()
        self._log = (home / "cloud.log").open("w")
        self._server = subprocess.Popen(
            [sys.executable, str(HERE / "bare_cloud.py"), str(home / "cloud"), TOKEN],
            stdout=subprocess.PIPE,
            stderr=self._log,
            text=True,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )
        assert self._server.stdout is not None
        addresses = json.loads(self._server.stdout.readline())
        self.api, self.spaces = addresses["api"], addresses["spaces"]
        self._client = httpx.Client(
            base_url=self.api, headers={"Authorization": f"Bearer {TOKEN}"}, timeout=60, trust_env=False
        )
        if program is None:
            self._set_environment({"ANCLA_SECRETS": self._lay_out()})
        else:
            shutil.copytree(program, self.project, dirs_exist_ok=True)
            self._set_environment({})
        self.pulumi("stack", "init", self.stack, stack=False)
        open_account(self.api)
        self._before = self.get("/_sandbox/journal")["calls"][-1]["seq"]

    def _lay_out(self) -> str:
        """Lay out the checkout's program and its stack file; return the stack's secrets."""
        project = yaml.safe_load((ROOT / "Pulumi.yaml").read_text())
        project["main"] = os.path.relpath(ROOT, self.project)
        (self.project / "Pulumi.yaml").write_text(yaml.safe_dump(project))
        name = f"Pulumi.{self.stack}.yaml"
        (self.project / name).write_text((ROOT / name).read_text())
        secrets = self.home / "secrets.json"
        ops = [sys.executable, "-m", "ops", "stack", "init", "--stack", self.stack, "--emit-secrets", str(secrets)]
        subprocess.run(ops, cwd=ROOT, check=True, capture_output=True)
        values = json.loads(secrets.read_text())
        services = yaml.safe_load((ROOT / name).read_text())["config"]["ancla:services"]
        values["app"] = {key: f"made-up-{key}" for service in services.values() for key in service.get("secrets", [])}
        return json.dumps(values)

    def _set_environment(self, more: dict[str, str]) -> None:
        self.environment = {
            **{key: value for key, value in os.environ.items() if key.lower() not in ("https_proxy", "all_proxy")},
            "PATH": os.pathsep.join([*self._plugins, os.environ["PATH"]]),
            "ANCLA_ROOT": str(HERE / "simulated_root"),
            "PULUMI_BACKEND_URL": f"file://{self.home / 'state'}",
            "PULUMI_CONFIG_PASSPHRASE": "a passphrase of the tests",
            "PULUMI_SKIP_UPDATE_CHECK": "true",
            "PULUMI_STACK": self.stack,
            "DIGITALOCEAN_TOKEN": TOKEN,
            "DIGITALOCEAN_API_URL": self.api,
            "SPACES_ENDPOINT_URL": "http://{{.Region}}.digitaloceanspaces.com",
            "SPACES_ACCESS_KEY_ID": "made-up",
            "SPACES_SECRET_ACCESS_KEY": "made-up",
            "HTTP_PROXY": self.spaces,
            "http_proxy": self.spaces,
            "NO_PROXY": "127.0.0.1,localhost",
            "no_proxy": "127.0.0.1,localhost",
            "PYTHONPATH": str(ROOT),
            **more,
        }

    def pulumi(self, *arguments: str, stack: bool = True, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run the engine to its end; its output is in the error when it fails."""
        chosen = ("--stack", self.stack) if stack else ()
        command = ("pulumi", *arguments, *chosen, "--non-interactive")
        return run_to_end(*command, check=check, cwd=self.project, env=self.environment, timeout=300)

    def up(self) -> None:
        self.pulumi("up", "--yes", "--skip-preview")

    def destroy(self) -> None:
        """Destroy everything; backups are protected in every stack, and their protection is taken off first."""
        self.pulumi("state", "unprotect", "--all", "--yes")
        self.pulumi("destroy", "--yes", "--skip-preview")

    def ops(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        command = (sys.executable, "-m", "ops", *arguments)
        return run_to_end(*command, cwd=self.project, env=self.environment, timeout=300)

    def get(self, path: str) -> Any:
        return self._client.get(path).raise_for_status().json()

    def post(self, path: str, body: dict[str, Any]) -> Any:
        return self._client.post(path, json=body).raise_for_status().json()

    def switch(self, **changes: Any) -> None:
        """Make the cloud as troublesome as these say (`sandbox.api.switches`)."""
        self._client.patch("/_sandbox/switches", json=changes).raise_for_status()

    def journal(self) -> list[dict[str, Any]]:
        """The calls since the account was opened."""
        return self.get(f"/_sandbox/journal?since={self._before}")["calls"]

    def leaks(self) -> list[str]:
        found = self.get("/_sandbox/leaks")
        return found["parts"] + found["objects"]

    def up_killed_at(self, point: Point) -> bool:
        """Run `pulumi up` and kill -9 the engine while `point` hangs; False when it ended without coming there."""
        match = {"method": point.method, "path": point.path, "nth": point.nth}
        rule = {"match": match, "when": point.when, "do": "hang"}
        self._client.post("/_sandbox/faults", json=rule).raise_for_status()
        engine = subprocess.Popen(
            ["pulumi", "up", "--yes", "--skip-preview", "--stack", self.stack, "--non-interactive"],
            cwd=self.project,
            env=self.environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        try:
            while engine.poll() is None:
                if self.get("/_sandbox/faults")["faults"][0]["applied"]:
                    engine.kill()
                    engine.wait()
                    self._end_plugins(engine)
                    # Lifted before the cloud has seen that nobody is there any more, the call would go on.
                    end = time.monotonic() + 60
                    while point.when == "before" and time.monotonic() < end and not self._given_up():
                        time.sleep(0.1)
                    return True
                time.sleep(0.1)
            return False
        finally:
            self._end_plugins(engine)
            self._client.delete("/_sandbox/faults")

    def _given_up(self) -> bool:
        return any(call.get("fault") == "hang" for call in self.journal())

    @staticmethod
    def _end_plugins(engine: subprocess.Popen[bytes]) -> None:
        """Plugins that outlive their engine would go on; a machine that lost power has none of them either."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(engine.pid, signal.SIGKILL)

    def close(self) -> None:
        self._server.terminate()
        self._server.wait(60)
        self._log.close()
