"""A droplet in a folder: steps are taken with the machine's own shell, below another root, with a small `systemctl`.

Paths in scripts are turned into paths below the folder. `systemctl` keeps its units in files: whether they are enabled
and run, and a copy of each file a unit was last started with, which is "the running configuration".
"""

from __future__ import annotations

import os
import re
import subprocess
from dataclasses import dataclass
from pathlib import Path

from host.look import Seen, parse_seen
from host.plan import Plan
from host.services import Service
from host.steps import Command, Step

SYSTEMCTL = r"""#!/bin/sh
# a few verbs of systemctl, over files: <unit>.enabled, <unit>.active, and log, which has a line for each verb
# <unit>.alias: enabling it makes a name that systemd had not found before, so that it forgets the running process
cd "$UNITS" || exit 1
verb=$1; shift
units=; now=
for word in "$@"; do case $word in --now) now=yes ;; --quiet) ;; --property=*) ;; *) units="$units $word" ;; esac; done
[ "$verb" = show ] || echo "$verb$units" >>log
started() { touch "$1.active"; for file in $(cat "$1.reads" 2>/dev/null); do cp "$file" "$1.running"; done; }
for unit in $units; do
    case $verb in
    show)
        if [ -e "$unit" ]; then echo LoadState=loaded; else echo LoadState=not-found; fi
        if [ -e "$unit.active" ]; then echo ActiveState=active; else echo ActiveState=inactive; fi
        if [ -e "$unit.enabled" ]; then echo UnitFileState=enabled; else echo UnitFileState=disabled; fi
        echo ;;
    enable)
        if [ -e "$unit.alias" ] && [ -e "$unit.active" ]; then mv "$unit.active" "$unit.forgotten"; fi
        touch "$unit.enabled"; [ -z "$now" ] || started "$unit" ;;
    disable) rm -f "$unit.enabled"; [ -z "$now" ] || rm -f "$unit.active" ;;
    stop) rm -f "$unit.active" ;;
    reload) [ -e "$unit.active" ] || exit 1; started "$unit" ;;
    restart|reload-or-restart) [ ! -e "$unit.broken" ] && [ ! -e "$unit.forgotten" ] || exit 1; started "$unit" ;;
    esac
done
"""


@dataclass
class Machine:
    """The droplet. `killed_after` commands a run ends, as if its connection had broken."""

    root: Path
    killed_after: int | None = None

    def __post_init__(self) -> None:
        for folder in ("bin", "units", "etc", "var/lib", "home/deploy/.ssh", "run", "usr"):
            (self.root / folder).mkdir(parents=True, exist_ok=True)
        for name, text in (("systemctl", SYSTEMCTL), ("chown", "#!/bin/sh\n")):
            (self.root / "bin" / name).write_text(text)
            (self.root / "bin" / name).chmod(0o755)

    def path(self, path: str) -> Path:
        return self.root / path.lstrip("/")

    def here(self, script: str) -> str:
        return re.sub(r"(?<![\w./])/(etc|var|home|run|usr)/", rf"{self.root}/\1/", script)

    def unit(self, name: str, reads: str = "", *, on: bool = True) -> None:
        """Install a unit that reads a file whenever it starts."""
        self.path(f"units/{name}").touch()
        self.path(f"units/{name}.reads").write_text(f"{self.path(reads)}\n" if reads else "")
        if on:
            self.path(f"units/{name}.enabled").touch()
            self.run(f"systemctl restart {name}")

    def running(self, unit: str) -> str:
        """Return the text that the unit was last started with."""
        return self.path(f"units/{unit}.running").read_text()

    def is_on(self, unit: str) -> tuple[bool, bool]:
        return self.path(f"units/{unit}.enabled").exists(), self.path(f"units/{unit}.active").exists()

    def log(self) -> list[str]:
        """Return the verbs given to systemctl since the last time."""
        path = self.path("units/log")
        lines = path.read_text().splitlines() if path.exists() else []
        path.write_text("")
        return lines

    def run(self, script: str, stdin: str | None = None) -> subprocess.CompletedProcess[str]:
        environment = {
            "PATH": f"{self.root}/bin:{os.environ['PATH']}",
            "UNITS": str(self.root / "units"),
            "LC_ALL": "C",
        }
        return subprocess.run(
            ["sh", "-c", self.here(script)],
            input=stdin or "",
            text=True,
            capture_output=True,
            check=False,
            env=environment,
        )

    def look(self, step: Step | Plan) -> Seen:
        questions = step.questions()
        done = self.run(questions.script())
        output = done.stdout.replace(f"{self.root}/", "/")
        assert done.returncode == 0, done.stderr
        return parse_seen(questions, output.splitlines())

    def take(self, step: Step) -> list[str]:
        """Take one step as `converge` does; return its differences.

        Raises:
            AssertionError: a command failed; its text is the error.
        """
        change = step.change(self.look(step))
        for number, command in enumerate(change.commands):
            if number == self.killed_after:
                return list(change.differences)
            self._execute(command)
        return list(change.differences)

    def _execute(self, command: Command) -> None:
        done = self.run(command.script, command.stdin)
        assert done.returncode == 0, done.stderr or command.script


OWNER = "root:root"


def reload_by_hand(machine: Machine, service: Service, path: str, text: str) -> None:
    """Edit a file of the service, and let it run with that."""
    machine.path(path).write_text(text)
    machine.run(f"systemctl {service.action} {' '.join(service.units)}")
    assert machine.running(service.units[0]) == text
    machine.log()
