"""Run `pgbackrest` as the server's own account with its own configuration; turn its exit codes into our errors.

Keys and passphrases of its repository are in its configuration file (or its own environment) and nowhere else: none is
ever an argument. pgBackRest's messages name options, and hide the values of secret ones.
"""

from __future__ import annotations

import os
import pwd
import re
import shutil
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from ops.core.errors import (
    OpsError,
    RestoreRefusedError,
    SourceError,
    SpoolError,
    StoreError,
    StoreUnreachableError,
    ToolError,
)

ACCOUNT = "postgres"
"""The account that owns the server's files and may read the repository's, by the packages' convention."""

STOP_SECONDS = 60
Report = Callable[[str], None]

_ERROR = re.compile(r"ERROR: \[(\d{3})\]: (.*)")
_WARNING = re.compile(r"WARN: (.*)")

_CONFIGURATION = "see to its configuration file, /etc/pgbackrest.conf where --config names none"
_DAMAGED = "a file of the repository is damaged: `ops backrest verify` names it; make a full backup"
_DISK = "see to the disk's room and rights"

EXIT_CODES: dict[int, tuple[type[OpsError], str]] = {
    26: (StoreError, _DAMAGED),
    27: (ToolError, _CONFIGURATION),
    28: (
        StoreError,
        "the stanza is of another server, or its files are damaged: `pgbackrest stanza-upgrade` after a major upgrade",
    ),
    29: (StoreError, _DAMAGED),
    31: (ToolError, _CONFIGURATION),
    32: (ToolError, _CONFIGURATION),
    37: (ToolError, f"an option it needs is not set; {_CONFIGURATION}"),
    38: (RestoreRefusedError, "a server runs there; nothing was touched"),
    39: (StoreError, "one of its processes stopped; its log says why"),
    40: (RestoreRefusedError, "the target is not empty; nothing was touched"),
    41: (StoreError, "a file cannot be opened: is it the server's account that runs this?"),
    42: (StoreError, _DAMAGED),
    44: (SourceError, "the archive is of another server: `pgbackrest stanza-upgrade` after a major upgrade"),
    45: (StoreError, "another WAL segment of that name is in the archive: do two servers write to one stanza?"),
    46: (ToolError, "this pgbackrest does not know that PostgreSQL; install a newer one"),
    47: (SpoolError, _DISK),
    49: (StoreUnreachableError, "see to the network, and to repo1-s3-endpoint or repo1-host"),
    50: (OpsError, "another pgbackrest works on this stanza: wait until it is done, then run this again"),
    51: (SourceError, "the stanza is of another server: `pgbackrest stanza-upgrade` after a major upgrade"),
    55: (StoreError, "no such stanza in the repository, or a file is missing: `pgbackrest --stanza=… stanza-create`"),
    56: (SourceError, "see to pg1-path, pg1-socket-path, pg1-port and pg1-user, and that the server runs"),
    57: (SourceError, "the server refused a query: pg1-user has to be a superuser or pg_read_all_settings and more"),
    58: (SourceError, "the files of pg1-path are not those of the server that answers"),
    62: (OpsError, "somebody has run `pgbackrest stop`; `pgbackrest start` undoes it"),
    63: (OpsError, "it was told to stop; run it again: a backup resumes"),
    64: (SpoolError, _DISK),
    68: (SourceError, "archive_command has to be `pgbackrest --stanza=… archive-push %p`"),
    73: (StoreError, "a folder is missing: see to pg1-path and repo1-path"),
    75: (StoreError, "that backup is not there any more; `ops backrest info` lists them"),
    80: (SourceError, "see to pg1-path: the server of this stanza is not there"),
    82: (SourceError, "WAL does not reach the archive: the server's log says why archive_command fails"),
    87: (SourceError, "archive_mode is off: set it on, and archive_command, and restart the server"),
    89: (ToolError, "the account is not there: run this on the machine of the server"),
    95: (StoreError, "see to repo1-cipher-pass: it is not the repository's"),
    99: (StoreError, _DAMAGED),
    101: (StoreUnreachableError, "the store of the repository answers with an error"),
    103: (StoreUnreachableError, "see to the repo1-… options: no usable repository"),
    105: (StoreUnreachableError, "see to the key pair of the repository"),
}
"""pgBackRest's exit codes (its `error.yaml`): our error, and what to do. 122 to 125 are internal to it."""

NOT_OF_THE_BACKUP = {27, 30, 31, 32, 37, 38, 40, 43, 46, 47, 48, 49, 50, 62, 63, 64, 89, 101, 103, 105}
"""Codes that prove nothing about a backup: a restore that ends with one was not tried. All others make a drill red."""


@dataclass(frozen=True, kw_only=True)
class Done:
    """The result of a run. `problem` is pgBackRest's own message in one line, empty on success."""

    returncode: int
    stdout: str
    problem: str
    warnings: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Pgbackrest:
    """The program on this computer. `config` is its configuration file; None means its default."""

    program: Path
    account: pwd.struct_passwd | None
    config: Path | None = None

    def run(
        self, command: str, *options: str, stanza: str | None = None, report: Report | None = None, check: bool = True
    ) -> Done:
        """Run one command to its end; `report` is called with its warnings as they come.

        Raises:
            OpsError: with `check`, if it failed; class and advice are those of `EXIT_CODES`.
        """
        chosen = [f"--config={self.config}"] if self.config else []
        chosen += [f"--stanza={stanza}"] if stanza else []
        logging = ["--log-level-console=off", "--log-level-stderr=info", "--no-log-timestamp"]
        process = subprocess.Popen(
            [*self.become(), self.program, *chosen, *logging, *options, command],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
            cwd="/",
            env=self.environment(),
        )
        try:
            stdout, stderr = process.communicate()
        except BaseException:
            process.terminate()  # this ends a backup of the server properly; a kill would not
            try:
                process.wait(timeout=STOP_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            raise
        warnings = tuple(match[1] for match in map(_WARNING.search, stderr.splitlines()) if match)
        for warning in warnings:
            (report or _quiet)(f"pgbackrest: {warning}")
        done = Done(
            returncode=process.returncode,
            stdout=stdout,
            problem=_problem(stderr) if process.returncode else "",
            warnings=warnings,
        )
        if check and done.returncode:
            raise as_error(done, command, stanza)
        return done

    def become(self) -> list[str]:
        """Return the prefix of a command that runs it as the server's account, and ends it with this process."""
        identity = (
            [f"--reuid={self.account.pw_uid}", f"--regid={self.account.pw_gid}", "--init-groups"]
            if self.account
            else []
        )
        return ["setpriv", *identity, "--pdeathsig=TERM", "--"]

    def environment(self) -> dict[str, str]:
        """Return the environment: no PG* of the caller, and WAL fetched one segment at a time.

        Prefetching would take the lock that the live server's own archiving needs.
        """
        home = {"HOME": self.account.pw_dir} if self.account else {}
        kept = {key: value for key, value in os.environ.items() if not key.startswith("PG") or "BACKREST" in key}
        return kept | home | {"LC_ALL": "C", "PGBACKREST_ARCHIVE_ASYNC": "n"}

    def version(self) -> str:
        """Return its version, such as 2.45."""
        return self.run("version").stdout.strip().removeprefix("pgBackRest ")


def find(config: Path | None = None) -> Pgbackrest:
    """Find the program and the account to run it as: root becomes the server's account, other users stay.

    Raises:
        ToolError: it is not installed here, there is no such account, or `config` does not exist.
    """
    program = shutil.which("pgbackrest")
    if program is None:
        raise ToolError(
            "pgbackrest: not found on PATH; run this on the machine of the server (apt-get install pgbackrest)"
        )
    if config is not None and not config.is_file():
        raise ToolError(f"{config}: no such file; give pgBackRest's configuration with --config")
    account = None
    if os.geteuid() == 0:
        try:
            account = pwd.getpwnam(ACCOUNT)
        except KeyError:
            raise ToolError(f"no user {ACCOUNT} on this machine: run this on the machine of the server") from None
    if shutil.which("setpriv") is None:
        raise ToolError("setpriv: not found; install util-linux")
    return Pgbackrest(program=Path(program), account=account, config=config and config.resolve())


def as_error(done: Done, command: str, stanza: str | None) -> OpsError:
    """Return the error for an exit code."""
    kind, fix = EXIT_CODES.get(done.returncode, (OpsError, "its log file says more"))
    where = f" of {stanza}" if stanza else ""
    return kind(f"pgbackrest {command}{where}: {done.problem} (exit {done.returncode}); {fix}")


def verify(pgbackrest: Pgbackrest, stanza: str, options: Sequence[str] = ()) -> list[str]:
    """Let pgBackRest read a stanza's complete repository; return what is damaged or missing.

    Its report is parsed, as 2.45 exits 0 whatever it finds.

    Raises:
        OpsError: the check could not run.
    """
    done = pgbackrest.run("verify", "--output=text", *options, stanza=stanza, check=False)
    said = [" ".join(line.split()) for line in done.stdout.splitlines() if line.strip()]
    if "status: error" in said:
        return [line for line in said if not line.startswith(("stanza:", "status:"))] or ["status: error"]
    if done.returncode:
        raise as_error(done, "verify", stanza)
    if "status: ok" not in said and any(line.startswith("status:") for line in said):
        return said
    return []


def as_account(command: Sequence[str | Path], pgbackrest: Pgbackrest) -> subprocess.CompletedProcess[str]:
    """Run another program of the server as its account; the caller reads the result."""
    return subprocess.run(
        [*pgbackrest.become(), *command],
        capture_output=True,
        text=True,
        errors="replace",
        cwd="/",
        env=pgbackrest.environment(),
        check=False,
    )


def _problem(stderr: str) -> str:
    lines = stderr.splitlines()
    for number, line in enumerate(lines):
        if match := _ERROR.search(line):
            told = match[2].strip()
            # "raised from local-1 protocol: …:" goes on in the next line
            return f"{told} {lines[number + 1].strip()}" if told.endswith(":") and number + 1 < len(lines) else told
    return next((line.strip() for line in reversed(lines) if line.strip()), "no message")


def _quiet(text: str) -> None:
    del text
