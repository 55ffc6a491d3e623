"""Run the tests in lanes that go on at once: `python -m tools.lanes [--second-try N] [PYTEST OPTION…]`.

The environment of `tests/hosts` is brought up once, so all of its tests are in one lane, which mostly waits;
`tests/ops` has another one, and the processors when the others leave them. What these two print follows when the third
has ended.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated

import typer

ROOT = Path(__file__).resolve().parent.parent
LANES: Mapping[str, Sequence[str]] = {
    "hosts": ["tests/hosts"],
    "ops": ["tests/ops"],
    "rest": ["--ignore", "tests/hosts", "--ignore", "tests/ops"],
}
NICE = {"ops": 4}
"""What a lane leaves to the others (`nice`)."""
SOME_RED = 1
"""pytest's exit code where tests were red; any other but 0 says that it could not run them, or was ended."""
TRIED = ("age", "jq", "zstd", "pgbackrest")
"""Programs, and Debian packages, that tests alone use; without them those are skipped, and say so."""


def prepare() -> None:
    """Install what the tests use beside the product's own tools, remove what a killed run left, build the images.

    Images are built before the time of any test runs; without Docker the tests that need them say so.
    """
    packages = [program for program in TRIED if not shutil.which(program)]
    if packages and os.geteuid() == 0 and shutil.which("apt-get"):
        for arguments in (["update"], ["install", "-y", "--no-install-recommends", *packages]):
            # What could not be installed is told by the tests that are skipped for it.
            subprocess.run(
                ["apt-get", "-qq", *arguments],
                check=False,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                env={**os.environ, "DEBIAN_FRONTEND": "noninteractive"},
            )
    for module in (["tests.leftovers"], ["sandbox", "images"]):
        subprocess.run([sys.executable, "-m", *module], check=False)


class Lane:
    """One run of pytest, with a memory of its reds."""

    def __init__(self, name: str, tests: Sequence[str], options: Sequence[str], home: Path) -> None:
        self.name = name
        self.cache = home / f"{name}.cache"
        self.log = home / f"{name}.log"
        self.command = [sys.executable, "-m", "pytest", *options, "-o", f"cache_dir={self.cache}", *tests]

    def start(self, *, shown: bool) -> subprocess.Popen[bytes]:
        """Begin the run, `shown` as it goes or written to the lane's log."""
        command = ["nice", "-n", str(NICE[self.name]), *self.command] if self.name in NICE else self.command
        if shown:
            return subprocess.Popen(command)
        with self.log.open("wb") as log:
            return subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT)

    def again(self) -> int:
        """Run what was red once more, by itself, and return pytest's exit code."""
        again = [*self.command, "--last-failed", "--last-failed-no-failures", "none"]
        return subprocess.run(again, check=False).returncode

    def reds(self) -> list[str]:
        """Name the tests that were red the last time they ran."""
        try:
            return sorted(json.loads((self.cache / "v/cache/lastfailed").read_text()))
        except FileNotFoundError:
            return []


def run(lanes: Mapping[str, Sequence[str]], options: Sequence[str], second_try: int) -> int:
    """Run the lanes, the last one shown as it goes, and return 0 where all is green.

    Where at most `second_try` tests of a lane were red, those run once more when all lanes have ended. One that is
    green then is named at the end as FLAKY: it needs mending, but says nothing against the code that is tried.
    """
    code = 0
    verdict: list[str] = []
    with tempfile.TemporaryDirectory(prefix="lanes-") as home:
        each = [Lane(name, tests, options, Path(home)) for name, tests in lanes.items()]
        running = [lane.start(shown=lane is each[-1]) for lane in each]
        try:
            codes = [process.wait() for process in reversed(running)][::-1]
        except KeyboardInterrupt:
            for process in running:
                process.send_signal(signal.SIGINT)
            for process in running:
                process.wait()
            return 128 + signal.SIGINT
        for lane in each[:-1]:
            typer.echo(lane.log.read_text(errors="replace"), nl=False)
        for lane, ended in zip(each, codes, strict=True):
            if not ended:
                continue
            first = lane.reds()
            if ended == SOME_RED and 0 < len(first) <= second_try:
                typer.echo(f"\n{lane.name}: {len(first)} red, once more by themselves")
                ended = lane.again()  # noqa: PLW2901 - what counts is how the lane ended in the end
            red = lane.reds() if ended else []
            verdict += [f"FLAKY {name}" for name in first if ended in {0, SOME_RED} and name not in red]
            verdict += [f"RED {name}" for name in red]
            if ended:
                code = code or ended
                verdict.append(f"lane {lane.name}: pytest ended with {ended}")
    typer.echo("\n" + ("\n".join(verdict) if verdict else "every lane is green"))
    return code


def main(
    context: typer.Context,
    *,
    second_try: Annotated[int, typer.Option(help="Most red tests of a lane that run once more, by themselves.")] = 0,
) -> None:
    """Run the tests in three lanes; every other option is pytest's."""
    os.chdir(ROOT)
    os.environ.setdefault("ANCLA_SEED", str(random.randrange(10000)))  # noqa: S311 - it chooses tests, it keeps no secret
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    prepare()
    sys.exit(run(LANES, context.args, second_try))


if __name__ == "__main__":
    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    app.command(context_settings={"allow_extra_args": True, "ignore_unknown_options": True})(main)
    app()
