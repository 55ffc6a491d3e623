"""Apply a release on the droplet: pull → start → probe → switch Nginx → probe → record; roll back on failure.

Files on the droplet and their invariants:

- `release.json` exists only while the release it names is complete and proven. It is removed first and written last.
- `former/` is the last proven release, file by file. It is renewed only while `release.json` is there, so a release
  that was killed midway is never rolled back to.

After a kill at any point, the next `ops deploy` repeats the same steps and ends in a complete release. The lock is the
kernel's.
"""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from pydantic import BaseModel, ConfigDict, RootModel

from ops.core import console
from ops.core.errors import OpsError, ReleaseError
from ops.release.machine import Machine, write_file
from ops.release.plan import PlannedService, ReleasePlan, StaticFiles

PROBE_SECONDS = 60.0
"""Seconds that a service may take until its health path answers."""
LINE_OF_SECRET = 8
"""Lines of a multi-line secret (a PEM key) are redacted one by one from this length on: a log may split it."""
RESTARTS = 3
"""How often a container may exit before its service is ready; it may need another one that is still starting."""
STEADY_SECONDS = 5.0
"""Seconds that a service without a port must keep running before the release counts as good."""
SWITCH_SECONDS = 15.0
"""Seconds that Nginx may take to use the new routes: its old workers end after the reload."""


class ReleasedService(BaseModel):
    """A released service."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    version: str
    image: str


class ReleaseReport(BaseModel):
    """The result: `released` or `unchanged`; `release` names the plan, `seconds` is the time on the droplet."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    result: str
    release: str
    environment: str
    services: tuple[ReleasedService, ...]
    seconds: float


class ReleaseFailure(BaseModel):
    """The failure: the error, and the app's last lines of log."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    error: str
    log: tuple[str, ...] = ()


class ApplyAnswer(RootModel[ReleaseReport | ReleaseFailure]):
    """The output of `ops release apply` on stdout."""


def say(line: str) -> None:
    """Print a line of progress. The workstation may have disconnected: the release continues."""
    with suppress(OSError):
        console.step(line)


@dataclass(frozen=True, kw_only=True)
class Release:
    """One plan on one droplet."""

    plan: ReleasePlan
    machine: Machine
    progress: Callable[[str], None] = say

    def apply(self) -> ReleaseReport:
        """Apply the plan.

        Raises:
            ReleaseError: it failed; the former release runs again, or the message says that it could not be restored.
        """
        started = time.monotonic()
        try:
            with self.machine.locked(f"release {self.plan.digest[:12]} of {self.plan.environment}"):
                if self._is_released():
                    result = "unchanged"
                else:
                    self._release()
                    result = "released"
        except OSError as error:
            raise ReleaseError(_refused(error)) from None
        services = tuple(ReleasedService(name=s.name, version=s.version, image=s.image) for s in self.plan.services)
        return ReleaseReport(
            result=result,
            release=self.plan.digest[:12],
            environment=self.plan.environment,
            services=services,
            seconds=round(time.monotonic() - started, 1),
        )

    def _contents(self) -> dict[str, bytes | None]:
        # Bytes, as stored on disk: reading text would remove carriage returns from a secret.
        texts = {
            "compose.yaml": self.plan.compose,
            ".env": self.plan.dotenv.get_secret_value(),
            "ca.crt": self.plan.ca_certificate,
            "upstreams.conf": self.plan.upstreams,
            "routes.conf": self.plan.routes,
        }
        return {name: None if text is None else text.encode() for name, text in texts.items()}

    def _is_released(self) -> bool:
        """Return True if this same release was recorded, its files are unchanged, and it still works."""
        layout = self.machine.layout
        try:
            if json.loads(layout.record.read_text())["digest"] != self.plan.digest:
                return False
        except (OSError, ValueError, KeyError):
            return False
        for name, content in self._contents().items():
            path, _ = layout.files[name]
            if (path.read_bytes() if path.exists() else None) != content:
                self.progress(f"{path}: was changed by hand")
                return False
        states = self.machine.running()
        for name in (name for service in self.plan.services for name, _ in service.containers):
            if states.get(name) != "running":
                self.progress(f"{name}: is {states.get(name, 'missing')}")
                return False
        if missing := [one.name for one in self.plan.services if one.static and not self._root(one.static).is_dir()]:
            self.progress(f"{missing[0]}: its files are missing")
            return False
        return all(problem is None for problem in map(self._probe_once, self.plan.services)) and all(
            problem is None for problem in map(self._probe_public_once, self.plan.services)
        )

    def _release(self) -> None:
        self._pull()
        self._refuse_root()
        self._copy_files()
        self._keep_former()
        try:
            self._write("compose.yaml", ".env", "ca.crt")
            self._start(sum(service.instances for service in self.plan.services))
            for service in self.plan.services:
                if service.port is not None:
                    where = f"port {service.port}{service.health_path or ''}"
                    self._wait(service, self._probe_once, PROBE_SECONDS, where)
            self._keep_running([service for service in self.plan.services if service.port is None])
            self._write("upstreams.conf", "routes.conf")
            self.progress("switching Nginx")
            self.machine.reload_nginx()
            for service in self.plan.services:
                self._wait(service, self._probe_public_once, SWITCH_SECONDS, f"Nginx {service.public_path}")
        except BaseException as error:
            log = self._last_words()
            outcome = self._put_back()
            if isinstance(error, OpsError | OSError):
                text = _refused(error) if isinstance(error, OSError) else str(error)
                raise ReleaseError(f"{self._redacted(text)}; {outcome}", log) from None
            self.progress(outcome)
            raise
        record = {
            "digest": self.plan.digest,
            "released": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
            "services": [service.model_dump() for service in self.plan.services],
        }
        try:
            write_file(self.machine.layout.record, f"{json.dumps(record, indent=2)}\n".encode(), 0o600)
        except ReleaseError as error:
            raise ReleaseError(
                f"{error}; the new release runs but is not recorded: free some disk space, and run `ops deploy` again"
            ) from None
        self._drop_old_images()

    def _pull(self) -> None:
        """Pull missing images. This comes before any change: an unreachable registry does no harm."""
        here = self.machine.images()
        for service in self.plan.services:
            if service.image not in here:
                self.progress(f"{service.name} {service.version}: pulling {service.image}")
                self.machine.pull(service.image, self.plan.registry_login)

    def _refuse_root(self) -> None:
        """Refuse images that run as root without the stack file saying so. Nothing has been changed yet."""
        for service in (service for service in self.plan.services if service.static is None):
            user = self.machine.user(service.image) if service.user is None else "as written"
            if user.partition(":")[0] in ("", "0", "root"):
                raise ReleaseError(
                    f"{service.name} {service.version}: its image runs as root; give the image a USER, or name one in "
                    f"services.{service.name}.user (root itself, if it must be)"
                )

    def _copy_files(self) -> None:
        """Copy the files of static services out of their images, each to a folder of its own: nothing is replaced."""
        for service in self.plan.services:
            if service.static is None or self._root(service.static).is_dir():
                continue
            self.progress(f"{service.name} {service.version}: copying its files")
            root = self._root(service.static)
            new = root.with_suffix(".new")
            shutil.rmtree(new, ignore_errors=True)
            new.mkdir(parents=True)
            targets = [new / path.lstrip("/") for path in service.static.paths]
            self.machine.extract(service.image, service.static.folder, targets)
            new.rename(root)

    def _root(self, static: StaticFiles) -> Path:
        return self.machine.layout.static / static.root

    def _start(self, containers: int) -> None:
        if containers:
            self.progress("starting the containers")
            self.machine.up()
        else:
            self.machine.down()  # compose starts no project without a service

    def _keep_former(self) -> None:
        """Save the proven release; until the end no release counts as proven."""
        layout = self.machine.layout
        if layout.record.exists():
            new = layout.former.with_name("former.new")
            shutil.rmtree(new, ignore_errors=True)
            new.mkdir(mode=0o700, parents=True)
            for name, (path, mode) in layout.files.items():
                if path.exists():
                    write_file(new / name, path.read_bytes(), mode)
            write_file(new / "release.json", layout.record.read_bytes(), 0o600)
            shutil.rmtree(layout.former, ignore_errors=True)
            new.rename(layout.former)
            layout.record.unlink()
        elif not layout.former.exists() and not (layout.nginx / "app.upstreams.conf").exists():
            # The first release: the current state is the base's page, which a failure restores.
            path, mode = layout.files["routes.conf"]
            layout.former.mkdir(mode=0o700, parents=True)
            if path.exists():
                write_file(layout.former / "routes.conf", path.read_bytes(), mode)

    def _write(self, *names: str) -> None:
        contents = self._contents()
        for name in names:
            path, mode = self.machine.layout.files[name]
            content = contents[name]
            if content is None:
                path.unlink(missing_ok=True)
            else:
                write_file(path, content, mode)

    def _put_back(self) -> str:
        """Restore the former release; return the half-sentence that says what runs now."""
        layout = self.machine.layout
        self.progress("failed; restoring the former release")
        record = layout.former / "release.json"
        try:
            if not record.exists():
                self.machine.down()
            for name, (path, mode) in layout.files.items():
                kept = layout.former / name
                if kept.exists():
                    write_file(path, kept.read_bytes(), mode)
                else:
                    path.unlink(missing_ok=True)
            if record.exists():
                self._start(sum(service["instances"] for service in json.loads(record.read_text())["services"]))
            self.machine.reload_nginx()
            if record.exists():
                write_file(layout.record, record.read_bytes(), 0o600)
        except (OpsError, OSError) as error:
            return (
                f"and the former release could not be restored ({self._redacted(str(error))}): run `ops deploy` again"
            )
        return "the former release runs again" if record.exists() else "no release runs, as before"

    def _probe_once(self, service: PlannedService) -> str | None:
        """Check the service's containers on their own port; return the first problem, or None."""
        if service.port is None:
            return None
        for name, address in service.containers:
            if service.health_path is None:
                problem = self.machine.connect(name, service.port)
            else:
                answer = self.machine.get(f"http://{address}:{service.port}{service.health_path}")
                problem = None if isinstance(answer, int) and 200 <= answer < 300 else _said(answer)
            if problem is not None:
                return problem if service.instances == 1 else f"{name}: {problem}"
        return None

    def _keep_running(self, services: Sequence[PlannedService]) -> None:
        """Check that services without a port stay up: Docker has found them running, and healthy where it asks."""
        names = [(service, name) for service in services for name, _ in service.containers]
        before = {name: self.machine.restarts(name) for _, name in names}
        if not names:
            return
        self.machine.sleep(STEADY_SECONDS)
        states = self.machine.running()
        for service, name in names:
            state = states.get(name, "missing")
            if state != "running" or self.machine.restarts(name) > before[name]:
                what = "its container exits repeatedly" if state in ("running", "restarting") else f"is {state}"
                raise ReleaseError(f"{service.name} {service.version}: {what}")
            self.progress(f"{name} {service.version}: keeps running")

    def _probe_public_once(self, service: PlannedService) -> str | None:
        """Check the service behind Nginx; return the problem, or None.

        If the health path is not among the service's own routes, its route is requested, and any answer except a
        server error counts as the service's own.
        """
        if service.public_path is None:
            return None
        answer = self.machine.get(f"{self.machine.layout.http}{service.public_path}", host=self.plan.domain)
        good = range(200, 300) if service.public_is_health else range(200, 500)
        return None if isinstance(answer, int) and answer in good else _said(answer)

    def _wait(
        self, service: PlannedService, probe: Callable[[PlannedService], str | None], seconds: float, where: str
    ) -> None:
        deadline = time.monotonic() + seconds
        while (problem := probe(service)) is not None:
            if time.monotonic() > deadline:
                raise ReleaseError(f"{service.name} {service.version}: {where}: {problem} after {seconds:g} s")
            if any(self.machine.restarts(name) >= RESTARTS for name, _ in service.containers):
                raise ReleaseError(f"{service.name} {service.version}: its container exits repeatedly")
            self.machine.sleep(0.5)
        self.progress(f"{service.name} {service.version}: {where} answers")

    def _last_words(self) -> tuple[str, ...]:
        """Return the last log lines of the unhealthy services, or of all if none is."""
        try:
            states = self.machine.running()
            names = [(service, name) for service in self.plan.services for name, _ in service.containers]
            unwell = [name for service, name in names if states.get(name) != "running" or self._probe_once(service)]
            names = unwell or [name for _, name in names]
            logs = {name: self._redacted("\n".join(self.machine.logs(name))) for name in names}
            return tuple(f"{name} | {line}" for name, log in logs.items() for line in log.splitlines())
        except OpsError:
            return ()

    def _redacted(self, text: str) -> str:
        for value in self._secret_values():
            text = text.replace(value, "[secret]")
        return text

    def _secret_values(self) -> Iterator[str]:
        """Yield every secret value of the release, the longest first; then the lines of multi-line ones."""
        values = {value.get_secret_value() for value in self.plan.secret_values}
        values |= {line for value in values for line in value.splitlines() if len(line) >= LINE_OF_SECRET}
        yield from sorted(values, key=len, reverse=True)

    def _drop_old_images(self) -> None:
        """Remove the registry's images, and files, that neither this release nor the former one uses: disks fill."""
        former = self.machine.layout.former / "release.json"
        services = [service.model_dump() for service in self.plan.services]
        services += json.loads(former.read_text())["services"] if former.exists() else []
        kept = {str(service["image"]) for service in services}
        roots = {service["static"]["root"] for service in services if service["static"]}
        for folder in self.machine.layout.static.glob("*"):
            if folder.name not in roots:
                shutil.rmtree(folder, ignore_errors=True)
        ours = f"{self.plan.registry}/"
        self.machine.remove_images(sorted(i for i in self.machine.images() if i.startswith(ours) and i not in kept))


def _refused(error: OSError) -> str:
    """Describe a system error and the file it is about."""
    return f"{error.filename}: {error.strerror}" if error.filename else str(error)


def _said(answer: int | str) -> str:
    return f"HTTP {answer}" if isinstance(answer, int) else answer
