"""Prepare this computer for the tests: `python -m tests.prepare`, before every run.

Installs the programs that only tests use, removes the sandboxes of test runs that were killed (their containers start
again with Docker, and their networks keep ranges that the next run may want), and builds the images, so that the time
limit of no test covers that.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys

from tests.leftovers import remove_leftovers

PROGRAMS = ("age", "jq", "zstd", "pgbackrest")
"""Programs, and Debian packages, that tests alone use; without them those tests are skipped and name the program."""


def install_programs() -> None:
    """Install what is missing of them, as root where there is apt; what fails is reported by the skipped tests."""
    packages = [program for program in PROGRAMS if not shutil.which(program)]
    if not packages or os.geteuid() != 0 or not shutil.which("apt-get"):
        return
    for arguments in (["update"], ["install", "-y", "--no-install-recommends", *packages]):
        subprocess.run(
            ["apt-get", "-qq", *arguments],
            check=False,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env={**os.environ, "DEBIAN_FRONTEND": "noninteractive"},
        )


def main() -> None:
    """Do all of it."""
    install_programs()
    remove_leftovers()
    # Without Docker the tests that need it name it.
    subprocess.run([sys.executable, "-m", "sandbox", "images"], check=False)


if __name__ == "__main__":
    main()
