"""Write an append-only audit log: one JSON line per command, each with the digest of the line before.

On a droplet it is `/var/log/ancla/audit.jsonl`, on a workstation below `~/.local/state/ancla`. A changed, removed or
inserted line breaks the chain, and a missing end differs from the head that is kept beside it. It reveals mistakes and
intruders; root can rewrite all of it, and only a copy kept elsewhere reveals that.
"""

from __future__ import annotations

import functools
import getpass
import gzip
import hashlib
import json
import os
import socket
import zlib
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

import typer

from ops.core.environment import environment
from ops.core.errors import OpsError
from ops.core.files import atomic_write, locked
from ops.monitoring.state import state_folder, warn
from ops.stack.outputs import MACHINE_OUTPUTS

FIRST = "0" * 64
"""`previous` of the first line."""
ROTATED = 100
"""Number of rotated files that the droplet's logrotate keeps; with fewer it has not removed a line yet."""

P = ParamSpec("P")
R = TypeVar("R")


def log_path() -> Path:
    """Return the path of this computer's log; $ANCLA_AUDIT replaces it."""
    if chosen := environment().audit:
        return chosen
    on_machine = MACHINE_OUTPUTS.exists()
    return (Path("/var/log/ancla") if on_machine else state_folder(on_machine=False)) / "audit.jsonl"


_noted: ContextVar[dict[str, Any] | None] = ContextVar("noted", default=None)


def note(**facts: Any) -> None:
    """Add facts to the audit line of the running command, such as `name`, `backup`, `stack`."""
    line = _noted.get()
    if line is not None:
        line.update(facts)


def audited(verb: str) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Write one line when the command ends, whether it succeeds or fails. A dry run is not logged."""

    def wrap(command: Callable[P, R]) -> Callable[P, R]:
        @functools.wraps(command)
        def run(*args: P.args, **kwargs: P.kwargs) -> R:
            if kwargs.get("dry_run"):
                return command(*args, **kwargs)
            facts = {
                key: str(kwargs[key]) for key in ("stack", "name", "backup", "store", "copy", "into") if kwargs.get(key)
            }
            token = _noted.set(facts)
            result = "interrupted"
            try:
                answer = command(*args, **kwargs)
                result = "done"
            except (OpsError, typer.Exit) as error:
                code = error.exit_code
                result = {0: "done", 3: "red"}.get(code, "failed")
                raise
            except Exception:
                result = "failed"
                raise
            else:
                return answer
            finally:
                _noted.reset(token)
                record(verb, result=result, **facts)

        return run

    return wrap


def record(verb: str, *, result: str, **facts: Any) -> None:
    """Append one line. A failure to write is only a warning: it does not fail the command."""
    path = log_path()
    entry = {
        "at": datetime.now(UTC).isoformat(timespec="milliseconds"),
        "user": os.environ.get("SUDO_USER") or _user(),
        "host": socket.gethostname(),
        "verb": verb,
        "result": result,
        **facts,
    }
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _append(path, entry)
    except OSError as error:
        warn(f"{path}: {verb} is not in the audit log: {error.strerror}")


@dataclass(kw_only=True)
class Audit:
    """The log's lines, oldest first, and the problems of the chain. `torn` is the number of unreadable lines."""

    entries: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])
    problems: list[str] = field(default_factory=list[str])
    torn: int = 0


def read(path: Path) -> Audit:
    """Read the log and its rotated files (`audit.jsonl.1`, `.2.gz`), and check each line against the one before.

    Raises:
        OSError: it cannot be read.
    """
    found = Audit()
    lines: list[tuple[dict[str, Any], str]] = []
    files = _files(path)
    for file in files:
        own = [(f"{file.name}:{number}", _parsed(raw)) for number, raw in enumerate(_lines(file), 1)]
        whole = [(entry, where) for where, entry in own if entry is not None]
        found.torn += len(own) - len(whole)
        if own and not whole:
            found.problems.append(f"{file.name}: contains no line of an audit log")
        lines += whole
    first = min((entry["number"] for entry, _ in lines), default=1)
    if first != 1 and len(files) <= ROTATED:
        found.problems.append(f"{path.name}: begins at line {first}; earlier lines were removed, or are elsewhere")
    previous: dict[str, Any] | None = None
    for entry, where in sorted(lines, key=lambda line: line[0]["number"]):
        problem = _broken(entry, previous)
        if problem:
            found.problems.append(f"{where}: {problem}")
        previous = entry
        found.entries.append(entry)
    last = (previous["number"], previous["digest"]) if previous else (0, FIRST)
    head = _head_of(path) or (0, FIRST)
    if head[0] > last[0]:
        found.problems.append(f"{path.name}: ends at line {last[0]}, but {head[0]} lines were written")
    elif head[0] == last[0] and head != last:
        found.problems.append(f"{path.name}: line {last[0]} is not the one that was written")
    return found


def _broken(entry: dict[str, Any], previous: dict[str, Any] | None) -> str | None:
    """Return how a line fails to follow the one before; the oldest line kept may follow a removed one."""
    number = entry["number"]
    if entry["digest"] != _digest(entry):
        return f"line {number} was changed"
    if previous is None:
        return "the first line follows another one" if number == 1 and entry["previous"] != FIRST else None
    if number != previous["number"] + 1:
        return f"line {number} comes after {previous['number']}"
    if entry["previous"] != previous["digest"]:
        return f"line {number} follows another line than {previous['number']}"
    return None


def _append(path: Path, entry: dict[str, Any]) -> None:
    head_path = _head(path)
    with locked(head_path.with_suffix(".lock")):
        number, digest = _head_of(path) or (0, FIRST)
        # the run was killed between its line and the head, or the head is lost
        last, torn = _last(path)
        if last is not None and last["number"] > number:
            number, digest = last["number"], last["digest"]
        line = {"number": number + 1, "previous": digest, **entry}
        line["digest"] = _digest(line)
        text = ("\n" if torn else "") + json.dumps(line, ensure_ascii=False, default=str) + "\n"
        descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o640)
        with os.fdopen(descriptor, "wb") as file:
            file.write(text.encode())
            file.flush()
            os.fsync(descriptor)
        atomic_write(head_path, f"{line['number']} {line['digest']}\n".encode(), mode=0o600)


def _head(path: Path) -> Path:
    return path.with_name(f".{path.name}.head")


def _head_of(path: Path) -> tuple[int, str] | None:
    try:
        return _parse_head(_head(path).read_text())
    except OSError:
        return None


def _parse_head(text: str) -> tuple[int, str] | None:
    number, _, digest = text.strip().partition(" ")
    return (int(number), digest) if number.isdigit() and len(digest) == 64 else None


def _last(path: Path) -> tuple[dict[str, Any] | None, bool]:
    """Return the last line of the file, and True if the file ends in the middle of one."""
    try:
        with path.open("rb") as file:
            file.seek(max(0, path.stat().st_size - (64 << 10)))
            tail = file.read()
    except FileNotFoundError:
        return None, False
    entries = [entry for raw in tail.split(b"\n") if (entry := _parsed(raw)) is not None]
    return (entries[-1] if entries else None), bool(tail) and not tail.endswith(b"\n")


def _files(path: Path) -> list[Path]:
    """Return the log and its rotated files. An unreadable folder is an error, not an empty list."""
    try:
        names = os.listdir(path.parent)  # noqa: PTH208  # Path.glob passes over what it may not read
    except FileNotFoundError:
        return []
    return [path.parent / name for name in sorted(names) if name.startswith(path.name)]


def _lines(file: Path) -> Iterator[bytes]:
    raw = file.read_bytes()
    if file.suffix == ".gz":
        try:
            raw = gzip.decompress(raw)
        except (EOFError, gzip.BadGzipFile, zlib.error):
            raw = b"?"
    yield from (line for line in raw.split(b"\n") if line)


def _parsed(raw: bytes) -> dict[str, Any] | None:
    try:
        entry: Any = json.loads(raw)
    except ValueError:
        return None
    whole = isinstance(entry, dict) and isinstance(entry.get("number"), int) and {"previous", "digest"} <= entry.keys()
    return {str(key): value for key, value in entry.items()} if whole else None


def _digest(entry: dict[str, Any]) -> str:
    content = {key: value for key, value in entry.items() if key != "digest"}
    text = json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=False, default=str)
    return hashlib.sha256(text.encode()).hexdigest()


def _user() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError):  # a container's user without a name
        return str(os.getuid())
