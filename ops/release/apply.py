"""Apply a release on the machine: pull → start → probe → switch Nginx → probe → record; or put the former one back.

What is on the machine, and what each file promises:

- `release.json` is there only while the release it names is whole and proven. It goes first and comes last.
- `former/` is the last proven release, file by file. It is renewed only while `release.json` is there, so a release
  that was killed half-way never becomes the one to go back to.

Killed at any point, the next `ops deploy` goes the same way again and ends in a whole release. The lock is the
kernel's.
"""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass

from pydantic import BaseModel, ConfigDict, RootModel

from ops.core import console
from ops.core.errors import OpsError, ReleaseError
from ops.release.machine import Machine, write_file
from ops.release.plan import PlannedService, ReleasePlan

PROBE_SECONDS = 60.0
"""How long a service may take until its health path answers."""
LINE_OF_SECRET = 8
"""Lines of a secret of several lines (a PEM key) are hidden one by one when they are this long: a log may cut it."""
RESTARTS = 3
"""How often a container may end while its service is waited for; it may need another one that is still starting."""
SWITCH_SECONDS = 15.0
"""How long Nginx may take to answer by the new routes: its old workers end after the reload."""


class ReleasedService(BaseModel):
    """A service as released."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    version: str
    image: str


class ReleaseReport(BaseModel):
    """What came of it: `released` or `unchanged`; `release` names the plan, `seconds` is on the machine."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    result: str
    release: str
    environment: str
    services: tuple[ReleasedService, ...]
    seconds: float


class ReleaseFailure(BaseModel):
    """Why there is no report: the error, and the app's last lines of log."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    error: str
    log: tuple[str, ...] = ()


class ApplyAnswer(RootModel[ReleaseReport | ReleaseFailure]):
    """What `ops release apply` prints on stdout."""


def say(line: str) -> None:
    """Write a line of progress. The workstation may be gone: the release goes on."""
    with suppress(OSError):
        console.step(line)


@dataclass(frozen=True, kw_only=True)
class Release:
    """One plan on one machine."""

    plan: ReleasePlan
    machine: Machine
    progress: Callable[[str], None] = say

    def apply(self) -> ReleaseReport:
        """Do it.

        Raises:
            ReleaseError: it failed, and the former release is back (or it could not be put back, and that is said).
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
        # Bytes, as they are on the disk: reading text would take the carriage returns out of a secret.
        texts = {
            "compose.yaml": self.plan.compose,
            ".env": self.plan.dotenv.get_secret_value(),
            "ca.crt": self.plan.ca_certificate,
            "upstreams.conf": self.plan.upstreams,
            "routes.conf": self.plan.routes,
        }
        return {name: None if text is None else text.encode() for name, text in texts.items()}

    def _is_released(self) -> bool:
        """Whether this very release was recorded, its files are untouched, and it still works."""
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
        for service in self.plan.services:
            if states.get(service.name) != "running":
                self.progress(f"{service.name}: is {states.get(service.name, 'not there')}")
                return False
        return all(problem is None for problem in map(self._probe_once, self.plan.services)) and all(
            problem is None for problem in map(self._probe_public_once, self.plan.services)
        )

    def _release(self) -> None:
        self._pull()
        self._keep_former()
        try:
            self._write("compose.yaml", ".env", "ca.crt")
            self.progress("starting the containers")
            self.machine.up()
            for service in self.plan.services:
                self._wait(service, self._probe_once, PROBE_SECONDS, f"port {service.port}{service.health_path}")
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
                f"{error}; the new release runs, and is not recorded: make room, and run `ops deploy` again"
            ) from None
        self._drop_old_images()

    def _pull(self) -> None:
        """Pull what is not here. Before anything is touched: a registry that is down costs nothing."""
        here = self.machine.images()
        for service in self.plan.services:
            if service.image not in here:
                self.progress(f"{service.name} {service.version}: pulling {service.image}")
                self.machine.pull(service.image, self.plan.registry_login)

    def _keep_former(self) -> None:
        """Keep the proven release; from here on until the end nothing is proven."""
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
            # The first release: what is there is the page of the base, which is what to go back to.
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
        """Put the former release back; return the half-sentence that says what runs now."""
        layout = self.machine.layout
        self.progress("failed; putting the former release back")
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
                self.machine.up()
            self.machine.reload_nginx()
            if record.exists():
                write_file(layout.record, record.read_bytes(), 0o600)
        except (OpsError, OSError) as error:
            return (
                f"and the former release could not be put back ({self._redacted(str(error))}): run `ops deploy` again"
            )
        return "the former release is back" if record.exists() else "no release runs, as before"

    def _probe_once(self, service: PlannedService) -> str | None:
        """Return what is wrong with the service on its own port, or None."""
        answer = self.machine.get(f"http://127.0.0.1:{service.port}{service.health_path}")
        return None if isinstance(answer, int) and 200 <= answer < 300 else _said(answer)

    def _probe_public_once(self, service: PlannedService) -> str | None:
        """Return what is wrong with the service behind Nginx, or None.

        Where the health path is not among the service's own routes, its route is asked for, and any answer but a server
        error is the service's own.
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
            if self.machine.restarts(service.name) >= RESTARTS:
                raise ReleaseError(f"{service.name} {service.version}: its container ends again and again")
            self.machine.sleep(0.5)
        self.progress(f"{service.name} {service.version}: {where} answers")

    def _last_words(self) -> tuple[str, ...]:
        """Return what the services that are not well wrote last, or all of them when none stands out."""
        try:
            states = self.machine.running()
            unwell = [s.name for s in self.plan.services if states.get(s.name) != "running" or self._probe_once(s)]
            names = unwell or [s.name for s in self.plan.services]
            logs = {name: self._redacted("\n".join(self.machine.logs(name))) for name in names}
            return tuple(f"{name} | {line}" for name, log in logs.items() for line in log.splitlines())
        except OpsError:
            return ()

    def _redacted(self, text: str) -> str:
        for value in self._secret_values():
            text = text.replace(value, "[secret]")
        return text

    def _secret_values(self) -> Iterator[str]:
        """Yield every secret value of the release, the longest first; then the lines of those that have several."""
        values = {value.get_secret_value() for value in self.plan.secret_values}
        values |= {line for value in values for line in value.splitlines() if len(line) >= LINE_OF_SECRET}
        yield from sorted(values, key=len, reverse=True)

    def _drop_old_images(self) -> None:
        """Remove the registry's images that neither this release nor the former one uses: they fill the disk."""
        kept = {service.image for service in self.plan.services}
        former = self.machine.layout.former / "release.json"
        if former.exists():
            kept |= {str(service["image"]) for service in json.loads(former.read_text())["services"]}
        ours = f"{self.plan.registry}/"
        self.machine.remove_images(sorted(i for i in self.machine.images() if i.startswith(ours) and i not in kept))


def _refused(error: OSError) -> str:
    """Say what the system refused, of which file."""
    return f"{error.filename}: {error.strerror}" if error.filename else str(error)


def _said(answer: int | str) -> str:
    return f"HTTP {answer}" if isinstance(answer, int) else answer
