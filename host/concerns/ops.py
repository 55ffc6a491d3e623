"""Install ops on the droplet: its sources, a locked venv, a launcher, and its copy of the outputs.

Code and venv lie in folders named after the digest of their contents, with a symbolic link changed by rename: a killed
run leaves the former pair working, and an unchanged pair is recognised by its name.
"""

from __future__ import annotations

import base64
import gzip
import hashlib
import io
import json
import tarfile
from pathlib import Path
from typing import Any

from host.bases import Base
from host.steps import Command, Ensure, File, Place, Step, text_digest
from host.templates import render

ROOT = Path(__file__).resolve().parent.parent.parent
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


def _linked(name: str, link: str, digest: str, script: str, stdin: str | None = None) -> Step:
    """Have `link` point at a folder `<link>-<digest>` that `script` fills (it runs inside a new, empty one)."""
    target = f"{HOME}/{link}-{digest[:16]}"
    return Ensure(
        name=name,
        question=f"readlink {HOME}/{link}",
        answer=(target,),
        difference=f"{HOME}/{link} is not {digest[:16]}",
        commands=(
            Command(
                # A command outlives the connection that started it: one of a killed run ends before this one begins.
                f"set -e; umask 022; exec 9>{HOME}/.lock; flock 9; rm -rf {target}; mkdir -p {target}; cd {target}; "
                f"{script}; ln -sfn {target} {HOME}/{link}.new; mv -fT {HOME}/{link}.new {HOME}/{link}; "
                # the pair before this one is not needed any more
                f"find {HOME} -maxdepth 1 -name '{link}-*' ! -path {target} -exec rm -rf {{}} +",
                stdin=stdin,
            ),
        ),
    )


def ensure(base: Base) -> list[Step]:
    """Place ops, and the programs that it needs."""
    lock = (ROOT / "host" / "ops-requirements.txt").read_text()
    archive = build_archive()
    return [
        Place(name="ops: locked requirements", items=(File(path=f"{HOME}/requirements.txt", content=lock),)),
        _linked(
            "ops: venv",
            "venv",
            text_digest(base.python, lock),
            f"{base.python} -m venv . && bin/pip install --quiet --disable-pip-version-check --no-input --no-compile "
            f"--no-deps --only-binary :all: --require-hashes -r {HOME}/requirements.txt",
        ),
        _linked(
            "ops: sources",
            "lib",
            hashlib.sha256(archive).hexdigest(),
            "base64 -d | tar -xz",
            stdin=base64.b64encode(archive).decode(),
        ),
        Place(name="ops: launcher", items=(File(path="/usr/local/bin/ops", content=render("ops.sh"), mode="755"),)),
    ]


def ensure_documents(outputs: dict[str, Any], secrets: dict[str, Any]) -> list[Step]:
    """Place the droplet's copy of the outputs and its secrets, both JSON values, readable by root alone."""
    return [
        Place(
            name=f"ops: {name}",
            items=(
                File(
                    path=f"/etc/ancla/{name}.json",
                    content=json.dumps(document, indent=2, sort_keys=True) + "\n",
                    mode="600",
                    secret=True,
                ),
            ),
        )
        for name, document in (("outputs", outputs), ("secrets", secrets))
    ]
