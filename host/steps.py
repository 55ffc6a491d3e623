"""The steps of a plan: each one knows the state it wants, and the commands that lead to it from the state it sees.

A step is a value. It asks (`questions`), and answers with a `Change` of what was seen (`change`): nothing is executed
here, so that the same code prints a plan, compares a droplet with it (`--check`), and converges.

Two rules hold for all of them. Killed at any point, a step is completed by the next run: what has been done is looked
at, and a service that may not run with its files has no stamp. And a text travels on stdin, into a file of another name
that is renamed at the end: a secret is in no command line and no log, and there is never half a file.
"""

from __future__ import annotations

import hashlib
import shlex
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from typing_extensions import override

from host.errors import ConvergeError
from host.look import Questions, Seen

STATE = "/var/lib/ancla"
STAMPS = f"{STATE}/applied"
"""One file a service, holding the digest of the files that it runs with."""
FORMER = f"{STATE}/former"
"""One folder a service: its files as they were before the last change."""


def text_digest(*texts: str) -> str:
    """Return the SHA-256 of texts, in hex."""
    return hashlib.sha256("\0".join(texts).encode()).hexdigest()


@dataclass(frozen=True)
class Command:
    """A shell script to run as root on the droplet, with `stdin`; or, with `upload`, a file to copy first."""

    script: str
    stdin: str | None = field(default=None, repr=False)
    upload: tuple[Path, str] | None = None


def command_of(program: str, *arguments: str) -> Command:
    """Return the command that runs `program` with these arguments, quoted."""
    return Command(f"{program} {shlex.join(arguments)}")


@dataclass(frozen=True)
class Change:
    """The difference that was seen, one line each, and the commands that end it. Without commands there is none."""

    differences: tuple[str, ...] = ()
    commands: tuple[Command, ...] = ()

    @classmethod
    def of(cls, differences: Iterable[str], *commands: str | Command) -> Change:
        """Return a change; texts become commands."""
        made = tuple(Command(command) if isinstance(command, str) else command for command in commands)
        return cls(tuple(differences), made)


# --- files -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class File:
    """A file with its whole text (which ends in a newline). A missing folder is made, with mode 755.

    Args:
        mode: octal, without a leading zero.
        owner: `user:group`.
        secret: True if the text must not be shown.
    """

    path: str
    content: str = field(repr=False)
    mode: str = "644"
    owner: str = "root:root"
    secret: bool = False

    @property
    def wanted(self) -> str:
        """Return the state as `Seen.files` has it."""
        return f"{self.mode} {self.owner} {text_digest(self.content)}"

    def command(self) -> Command:
        """Return the command that places the file, completely or not at all."""
        if not self.content.endswith("\n"):
            raise ConvergeError(f"{self.path}: the content must end in a newline")
        path, new = shlex.quote(self.path), shlex.quote(f"{self.path}.ancla-new")
        folder = shlex.quote(self.path.rsplit("/", 1)[0] or "/")
        return Command(
            f"set -e; umask 077; test -d {folder} || install -d -m 755 {folder}; cat >{new}; "
            f"chown {shlex.quote(self.owner)} {new}; chmod {self.mode} {new}; mv -fT {new} {path}",
            stdin=self.content,
        )

    def describe(self) -> str:
        """Return a line for the plan."""
        return f"file {self.path} {self.wanted}"


@dataclass(frozen=True)
class Link:
    """A symbolic link."""

    path: str
    target: str

    @property
    def wanted(self) -> str:
        """Return the state as `Seen.files` has it."""
        return f"-> {self.target}"

    def command(self) -> Command:
        """Return the command that makes the link by rename."""
        path, new = shlex.quote(self.path), shlex.quote(f"{self.path}.ancla-new")
        return Command(f"ln -sfn {shlex.quote(self.target)} {new} && mv -fT {new} {path}")

    def describe(self) -> str:
        """Return a line for the plan."""
        return f"link {self.path} {self.wanted}"


@dataclass(frozen=True)
class Gone:
    """A file or link that must not be there."""

    path: str
    wanted: str = field(default="", init=False)

    def command(self) -> Command:
        """Return the command that removes it."""
        return Command(f"rm -f {shlex.quote(self.path)}")

    def describe(self) -> str:
        """Return a line for the plan."""
        return f"no {self.path}"


Item = File | Link | Gone


def differing(items: Iterable[Item], seen: Seen) -> list[Item]:
    """Return the files that are not as they should be."""
    return [item for item in items if seen.files.get(item.path, "") != item.wanted]


def difference(item: Item, seen: Seen) -> str:
    """Return a line about such a file."""
    found = seen.files.get(item.path, "")
    if not found:
        return f"{item.path} is missing"
    if isinstance(item, File) and found.count(" ") == 2 and item.wanted.split()[2] == found.split()[2]:
        return f"{item.path} has mode and owner {' '.join(found.split()[:2])}, not {item.mode} {item.owner}"
    return f"{item.path} must not be there" if isinstance(item, Gone) else f"{item.path} differs"


# --- steps -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Step(ABC):
    """One step. `name` is what progress and errors call it, such as `nginx: the server`."""

    name: str

    @abstractmethod
    def questions(self) -> Questions:
        """Return what must be seen to know whether something is to be done."""

    @abstractmethod
    def change(self, seen: Seen) -> Change:
        """Return the way from what was seen to the wanted state."""

    @abstractmethod
    def describe(self) -> list[str]:
        """Return the wanted state, a line each: equal lines mean that nothing has to be done again."""

    def files(self) -> Sequence[Item]:
        """Return the files this step owns."""
        return ()

    def edited(self, seen: Seen) -> list[File]:
        """Return the files whose text is another one, and may be shown."""
        stale = differing(self.files(), seen)
        return [item for item in stale if isinstance(item, File) and not item.secret and seen.files.get(item.path)]

    def way_back(self) -> str | None:
        """Return the script that undoes the step's last change, if that may have locked us out; else None."""
        return None


@dataclass(frozen=True, kw_only=True)
class Place(Step):
    """Files that no service reads: nothing is reloaded after a change."""

    items: tuple[Item, ...]

    @override
    def questions(self) -> Questions:
        return Questions(paths=frozenset(item.path for item in self.items))

    @override
    def change(self, seen: Seen) -> Change:
        stale = differing(self.items, seen)
        return Change.of((difference(item, seen) for item in stale), *(item.command() for item in stale))

    @override
    def describe(self) -> list[str]:
        return [item.describe() for item in self.items]

    @override
    def files(self) -> Sequence[Item]:
        return self.items


@dataclass(frozen=True, kw_only=True)
class Ensure(Step):
    """Commands that run unless `question` prints exactly `answer`."""

    question: str
    answer: tuple[str, ...]
    difference: str
    commands: tuple[Command, ...]

    @override
    def questions(self) -> Questions:
        return Questions(scripts={self.name: self.question})

    @override
    def change(self, seen: Seen) -> Change:
        if seen.lines.get(self.name, ()) == self.answer:
            return Change()
        return Change((self.difference,), self.commands)

    @override
    def describe(self) -> list[str]:
        return [f"{self.question} -> {' | '.join(self.answer)}"]


_APT = "DEBIAN_FRONTEND=noninteractive NEEDRESTART_SUSPEND=1 apt-get -q -o DPkg::Lock::Timeout=300"
_KEEP = "--force-confdef --force-confold"


@dataclass(frozen=True, kw_only=True)
class Packages(Step):
    """Debian packages, in one transaction and without what they merely recommend.

    pyinfra's `apt.packages` updates the lists by the age of a stamp; this starts apt only when something is missing.
    """

    packages: tuple[str, ...]

    @override
    def questions(self) -> Questions:
        names = " ".join(map(shlex.quote, self.packages))
        return Questions(scripts={self.name: f"dpkg-query -W -f '${{db:Status-Abbrev}} ${{Package}}\\n' {names}"})

    @override
    def change(self, seen: Seen) -> Change:
        installed = {words[1] for line in seen.lines.get(self.name, ()) if (words := line.split())[0] == "ii"}
        missing = sorted(set(self.packages) - installed)
        if not missing:
            return Change()
        options = " ".join(f"-o Dpkg::Options::={option}" for option in _KEEP.split())
        return Change.of(
            (f"{name} is not installed" for name in missing),
            # A run that was killed may have left packages unpacked; apt refuses to continue by itself.
            f"DEBIAN_FRONTEND=noninteractive dpkg --configure -a {_KEEP}",
            # A new droplet updates its own lists at the same time, and apt has no timeout for that lock.
            f"for try in $(seq 60); do {_APT} update && exit 0; sleep 5; done; exit 1",
            f"{_APT} -y --no-install-recommends {options} -o Dpkg::Use-Pty=0 install {shlex.join(missing)}",
        )

    @override
    def describe(self) -> list[str]:
        return [f"package {name}" for name in self.packages]


@dataclass(frozen=True, kw_only=True)
class Upload(Step):
    """A binary of this workstation, copied to `path` with mode 755."""

    source: Path
    path: str

    @override
    def questions(self) -> Questions:
        return Questions(paths=frozenset({self.path}))

    @override
    def change(self, seen: Seen) -> Change:
        with self.source.open("rb") as file:
            wanted = f"755 root:root {hashlib.file_digest(file, 'sha256').hexdigest()}"
        if seen.files.get(self.path) == wanted:
            return Change()
        path, new = shlex.quote(self.path), shlex.quote(f"{self.path}.ancla-new")
        folder = shlex.quote(self.path.rsplit("/", 1)[0])
        return Change.of(
            [f"{self.path} is not {self.source.name} of this workstation"],
            f"install -d -m 755 {folder}",
            Command(
                f"chown root:root {new} && chmod 755 {new} && mv -fT {new} {path}",
                upload=(self.source, f"{self.path}.ancla-new"),
            ),
        )

    @override
    def describe(self) -> list[str]:
        return [f"file {self.path} from this workstation"]
