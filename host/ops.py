"""Install ops on the droplet: its sources, a locked venv, a launcher, and its copy of the outputs.

Code and venv lie in folders named after the digest of what they were made from, with a symbolic link changed by
rename: a killed run leaves the former pair working, and an unchanged pair is recognised by its name.
"""

from __future__ import annotations

import base64
import gzip
import hashlib
import io
import json
import tarfile
from collections.abc import Generator
from pathlib import Path
from typing import Any

from pyinfra.api.operation import operation
from pyinfra.context import host

from host.operations import ShellLines, place, shell, text_digest
from host.templates import render

ROOT = Path(__file__).resolve().parent.parent
HOME = "/opt/ancla"
_NOT_SOURCES = ("__pycache__", ".pyc", ".in")


def build_archive(root: Path = ROOT) -> bytes:
    """Return a gzip tar of `blueprint/` and `ops/`, the same bytes for the same files."""
    tar = io.BytesIO()
    with tarfile.open(fileobj=tar, mode="w") as archive:
        for package in ("blueprint", "ops"):
            for path in sorted((root / package).rglob("*")):
                if not path.is_file() or any(part.endswith(_NOT_SOURCES) for part in path.parts):
                    continue
                entry = tarfile.TarInfo(str(path.relative_to(root)))
                entry.size, entry.mode = path.stat().st_size, 0o644
                with path.open("rb") as file:
                    archive.addfile(entry, file)
    return gzip.compress(tar.getvalue(), mtime=0)


@operation()
def _linked(link: str, digest: str, script: str, stdin: str | None = None) -> Generator[Any, Any, None]:
    """Have `link` point at a folder `<link>-<digest>` that `script` fills (it runs inside a new, empty one)."""
    target = f"{HOME}/{link}-{digest[:16]}"
    if host.get_fact(ShellLines, script=f"readlink {HOME}/{link} || true") == [target]:
        host.noop(f"{link} is {digest[:16]}")
        return
    yield shell(
        # A command outlives the connection that started it: one of a killed run ends before this one begins.
        f"set -e; umask 022; exec 9>{HOME}/.lock; flock 9; rm -rf {target}; mkdir -p {target}; cd {target}; {script}; "
        f"ln -sfn {target} {HOME}/{link}.new; mv -fT {HOME}/{link}.new {HOME}/{link}; "
        # the pair before this one is not needed any more
        f"find {HOME} -maxdepth 1 -name '{link}-*' ! -path {target} -exec rm -rf {{}} +",
        stdin=stdin,
    )


def ops(*, python: str, outputs: dict[str, Any], secrets: dict[str, Any]) -> None:
    """Place ops. `python` is the interpreter of the droplet (3.11 or later)."""
    lock = (ROOT / "host" / "ops-requirements.txt").read_text()
    place(name="ops: locked requirements", dest=f"{HOME}/requirements.txt", content=lock)
    _linked(
        name="ops: venv",
        link="venv",
        digest=text_digest(python, lock),
        script=(
            f"{python} -m venv . && bin/pip install --quiet --disable-pip-version-check --no-input --no-compile "
            f"--no-deps --only-binary :all: --require-hashes -r {HOME}/requirements.txt"
        ),
    )
    archive = build_archive()
    _linked(
        name="ops: sources",
        link="lib",
        digest=hashlib.sha256(archive).hexdigest(),
        script="base64 -d | tar -xz",
        stdin=base64.b64encode(archive).decode(),
    )
    place(name="ops: launcher", dest="/usr/local/bin/ops", content=render("ops.sh"), mode="755")
    for name, document in (("outputs", outputs), ("secrets", secrets)):
        text = json.dumps(document, indent=2, sort_keys=True) + "\n"
        place(name=f"ops: {name}", dest=f"/etc/ancla/{name}.json", content=text, mode="600")
