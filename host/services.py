"""A service and the files it is configured by, as one step: the service never runs with others than these.

pyinfra's `systemd.service(reloaded=…, _if=changed)` does not start a service again when the run is killed between the
file and the reload, and does not know which files belong to it. Here a stamp on the droplet holds the digest of the
files that the service was last started with. It is removed before any of them is replaced, and written after the
service has taken them: a file edited by hand is put back *and* the service reads it again.
"""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass

from typing_extensions import override

from host.look import Questions, Seen
from host.steps import FORMER, STAMPS, Change, Command, Gone, Item, Step, difference, differing, text_digest

UNIT_FOLDER = "/etc/systemd/system/"


def save_former(key: str, paths: Sequence[str]) -> str:
    """Return the script that keeps copies of these files, and removes the stamp of the service `key`.

    A run that was killed has removed the stamp: the copies are then those of before that run, and stay.
    """
    folder, stamp = shlex.quote(f"{FORMER}/{key}"), shlex.quote(f"{STAMPS}/{key}")
    return (
        f"set -e; if [ -e {stamp} ] || [ ! -d {folder} ]; then rm -rf {folder}; install -d -m 700 {FORMER} {folder}; "
        f'for path in {shlex.join(paths)}; do if [ -e "$path" ] || [ -L "$path" ]; then '
        f'cp -a "$path" "{FORMER}/{key}/$(echo "$path" | tr / _)"; fi; done; fi; rm -f {stamp}'
    )


def restore_former(key: str, paths: Sequence[str]) -> str:
    """Return the script that puts the copies back, and removes files that were not there before."""
    folder, stamp = shlex.quote(f"{FORMER}/{key}"), shlex.quote(f"{STAMPS}/{key}")
    return (
        f"rm -f {stamp}; if [ -d {folder} ]; then for path in {shlex.join(paths)}; do "
        f'former="{FORMER}/{key}/$(echo "$path" | tr / _)"; if [ -e "$former" ] || [ -L "$former" ]; then '
        f'cp -a --remove-destination "$former" "$path"; else rm -f "$path"; fi; done; fi'
    )


@dataclass(frozen=True, kw_only=True)
class Service(Step):
    """Units that are enabled, active, and run with these files.

    Args:
        key: name of the stamp.
        units: systemd units.
        items: the files they are configured by. Unit files among them are loaded before the units start.
        action: the verb of systemctl for a changed file; a unit that does not run is always started.
        before: a command that must succeed before anything is changed.
        check: a command that must succeed with the new files; if it fails, the former ones are put back.
        instead_of: units that must be off, such as a socket that listens in the place of the service.
        guards_login: True if a mistake in the files may end every login.
    """

    key: str
    units: tuple[str, ...]
    items: tuple[Item, ...] = ()
    action: str = "restart"
    before: str = ""
    check: str = ""
    instead_of: tuple[str, ...] = ()
    guards_login: bool = False

    @property
    def digest(self) -> str:
        """Return the digest of all files."""
        return text_digest(*(item.describe() for item in self.items))

    @property
    def paths(self) -> tuple[str, ...]:
        """Return the paths of all files."""
        return tuple(item.path for item in self.items)

    @override
    def files(self) -> Sequence[Item]:
        return self.items

    @override
    def questions(self) -> Questions:
        return Questions(
            paths=frozenset(self.paths),
            units=frozenset((*self.units, *self.instead_of)),
            scripts={f"stamp {self.key}": f"cat {shlex.quote(f'{STAMPS}/{self.key}')} || true"},
        )

    @override
    def change(self, seen: Seen) -> Change:
        stale = differing(self.items, seen)
        disabled = [unit for unit in self.units if not seen.unit(unit).enabled]
        idle = [unit for unit in self.units if not seen.unit(unit).active]
        rivals = [unit for unit in self.instead_of if seen.unit(unit).on]
        applied = seen.lines.get(f"stamp {self.key}", ()) == (self.digest,)
        if applied and not (stale or disabled or idle or rivals):
            return Change()
        differences = [difference(item, seen) for item in stale]
        differences += [f"{unit} is not enabled" for unit in disabled]
        differences += [f"{unit} does not run" for unit in idle]
        differences += [f"{unit} listens in the place of {self.units[0]}" for unit in rivals]
        if not differences:
            differences.append(f"{self.units[0]} may run with other files than these")
        return Change.of(differences, *self._commands(stale, disabled, idle, rivals))

    def _commands(
        self, stale: Sequence[Item], disabled: Sequence[str], idle: Sequence[str], rivals: Sequence[str]
    ) -> list[str | Command]:
        commands: list[str | Command] = [self.before] if self.before else []
        if stale:
            commands.append(save_former(self.key, self.paths))
            commands += [item.command() for item in stale]
        if any(path.startswith(UNIT_FOLDER) for path in self.paths):
            commands.append("systemctl daemon-reload")
        if self.check:
            undo = restore_former(self.key, self.paths)
            commands.append(f"{{ {self.check}; }} || {{ {undo}; exit 1; }}")
        taken_over = bool(rivals or (disabled and self.guards_login))
        if taken_over:
            commands.append(self._take_over(rivals))
        elif disabled:
            commands.append(f"systemctl enable --quiet {shlex.join(disabled)}")
        action = "restart" if idle or taken_over else self.action
        commands.append(f"systemctl {action} {shlex.join(self.units)}")
        commands.append(
            f"install -d -m 755 {STAMPS} && printf '%s\\n' {self.digest} >{shlex.quote(f'{STAMPS}/{self.key}')}"
        )
        return commands

    def _take_over(self, rivals: Sequence[str]) -> str:
        """Return one script, so that a lost connection does not leave the droplet with neither of them.

        The units are stopped before they are enabled; open sessions of sshd go on. Enabling ssh.service makes its alias
        sshd.service, which cloud-init's unit names too. If systemd had looked for that name before, its reload takes
        the state of "sshd.service: not found, dead" for that of ssh.service: a running sshd is forgotten, keeps the
        port, and no other can start.
        """
        others, units = shlex.join(rivals), shlex.join(self.units)
        links = " ".join(
            shlex.quote(f"{UNIT_FOLDER}{unit}.requires/{rival}") for unit in self.units for rival in rivals
        )
        begin, otherwise = f"systemctl stop {shlex.join((*rivals, *self.units))}; ", "exit 1"
        if rivals:
            begin += f"systemctl disable --quiet {others}; rm -f {links}; systemctl daemon-reload; "
            otherwise = f"{{ systemctl stop {units}; systemctl enable --quiet --now {others}; exit 1; }}"
        return f"{begin}systemctl enable --quiet {units} && systemctl restart {units} || {otherwise}"

    @override
    def describe(self) -> list[str]:
        return [
            f"service {' '.join(self.units)} {self.action} {self.check}".rstrip(),
            *(f"not {unit}" for unit in self.instead_of),
            *(item.describe() for item in self.items),
        ]

    @override
    def way_back(self) -> str | None:
        if not self.guards_login:
            return None
        restore = restore_former(self.key, self.paths)
        return f"{restore}; {{ {self.check or 'true'}; }} && systemctl reload-or-restart {shlex.join(self.units)}"


@dataclass(frozen=True, kw_only=True)
class BeforePackage(Step):
    """The files of a service whose package is not installed yet, so that its first start is with them."""

    service: Service

    @override
    def questions(self) -> Questions:
        return self.service.questions()

    @override
    def change(self, seen: Seen) -> Change:
        if any(seen.unit(unit).present for unit in self.service.units):
            return Change()  # from here on the service itself repairs its files, and starts again with them
        stale = differing(self.service.items, seen)
        return Change.of((difference(item, seen) for item in stale), *(item.command() for item in stale))

    @override
    def describe(self) -> list[str]:
        return []


@dataclass(frozen=True, kw_only=True)
class Off(Step):
    """A service that is switched off: stopped and disabled. Data is never deleted; `keeps` says where it lies.

    `items` are files of ours that must go with it, such as unit files.
    """

    key: str
    units: tuple[str, ...]
    keeps: str
    items: tuple[Gone, ...] = ()

    @override
    def questions(self) -> Questions:
        return Questions(paths=frozenset(item.path for item in self.items), units=frozenset(self.units))

    @override
    def change(self, seen: Seen) -> Change:
        on = [unit for unit in self.units if seen.unit(unit).on]
        left = differing(self.items, seen)
        if not (on or left):
            return Change()
        commands: list[str | Command] = [f"rm -f {shlex.quote(f'{STAMPS}/{self.key}')}"]
        if on:
            commands.append(f"systemctl disable --quiet --now {shlex.join(on)}")
        commands += [item.command() for item in left]
        if left:
            commands.append("systemctl daemon-reload")
        differences = [f"{unit} is on; it is switched off, {self.keeps}" for unit in on]
        return Change.of([*differences, *(difference(item, seen) for item in left)], *commands)

    @override
    def describe(self) -> list[str]:
        return [*(f"off {unit}" for unit in self.units), *(item.describe() for item in self.items)]
