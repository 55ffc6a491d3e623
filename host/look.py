"""Read the state of a droplet: every file, unit and answer that a plan asks for, in one round trip."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

_ENABLED = frozenset({"enabled", "static", "alias", "generated", "indirect"})
_ACTIVE = frozenset({"active", "reloading", "activating"})
_UNIT_PROPERTIES = ("LoadState", "UnitFileState", "ActiveState")


@dataclass(frozen=True)
class Questions:
    """Paths of files, names of units, and shell scripts by name. A script must not change anything."""

    paths: frozenset[str] = frozenset()
    units: frozenset[str] = frozenset()
    scripts: Mapping[str, str] = field(default_factory=dict[str, str])

    def __or__(self, other: Questions) -> Questions:
        return Questions(self.paths | other.paths, self.units | other.units, {**self.scripts, **other.scripts})

    def script(self) -> str:
        """Return the one POSIX shell script that answers all of them; `parse_seen` reads what it prints."""
        parts: list[str] = []
        if self.paths:
            parts.append(_FILES.replace("PATHS", " ".join(map(shlex.quote, sorted(self.paths)))))
        if self.units:
            names = " ".join(map(shlex.quote, sorted(self.units)))
            properties = ",".join(_UNIT_PROPERTIES)
            parts.append(f"echo units; systemctl show --property={properties} {names} </dev/null | sed 's/^/=/'")
        for name, script in sorted(self.scripts.items()):
            parts.append(f"echo {shlex.quote(f'lines {name}')}; {{ {script}\n}} </dev/null 2>/dev/null | sed 's/^/=/'")
        return "\n".join([*parts, "true"])


_FILES = """\
for path in PATHS; do
    printf 'file %s\\n' "$path"
    if [ -L "$path" ]; then printf '=-> %s\\n' "$(readlink "$path")"
    elif [ -f "$path" ]; then printf '=%s %s\\n' "$(stat -c '%a %U:%G' "$path")" "$(sha256sum <"$path" | cut -c 1-64)"
    elif [ -e "$path" ]; then echo '=neither a file nor a link'
    fi
done"""


@dataclass(frozen=True)
class UnitState:
    """State of a systemd unit, in systemctl's own words; `load` is `not-found` when there is none of that name."""

    load: str = "not-found"
    file: str = ""
    run: str = "inactive"

    @property
    def present(self) -> bool:
        """Return True if systemd knows the unit."""
        return self.load != "not-found"

    @property
    def enabled(self) -> bool:
        """Return True if it starts by itself, or nothing has to be enabled for that."""
        return self.file in _ENABLED

    @property
    def active(self) -> bool:
        """Return True if it runs."""
        return self.run in _ACTIVE

    @property
    def on(self) -> bool:
        """Return True if it runs, or starts at the next boot."""
        return self.present and (self.active or self.file in ("enabled", "enabled-runtime"))


@dataclass(frozen=True)
class Seen:
    """The answers.

    `files` has `mode owner:group sha256` or `-> target` by path, and nothing for a path where there is nothing.
    """

    files: Mapping[str, str] = field(default_factory=dict[str, str])
    units: Mapping[str, UnitState] = field(default_factory=dict[str, UnitState])
    lines: Mapping[str, tuple[str, ...]] = field(default_factory=dict[str, tuple[str, ...]])

    def unit(self, name: str) -> UnitState:
        """Return the state of a unit that was asked for."""
        return self.units.get(name, UnitState())


def parse_seen(questions: Questions, output: Iterable[str]) -> Seen:
    """Read what the script of these questions printed."""
    files: dict[str, str] = {}
    lines: dict[str, list[str]] = {}
    units: list[dict[str, str]] = []
    kind = name = ""
    for line in output:
        if not line.startswith("="):
            kind, _, name = line.partition(" ")
            if kind == "lines":
                lines[name] = []
            elif kind == "units":
                units.append({})
        elif kind == "file":
            files[name] = line[1:]
        elif kind == "lines":
            lines[name].append(line[1:])
        elif line == "=":
            units.append({})
        else:
            key, _, value = line[1:].partition("=")
            units[-1][key] = value
    return Seen(
        files=files,
        units={
            unit: UnitState(
                load=found.get("LoadState", "not-found"),
                file=found.get("UnitFileState", ""),
                run=found.get("ActiveState", "inactive"),
            )
            for unit, found in zip(sorted(questions.units), units, strict=False)
        },
        lines={name: tuple(found) for name, found in lines.items()},
    )
