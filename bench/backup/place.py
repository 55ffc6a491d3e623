"""Where a run takes place: its folders, its servers and its keys."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from pathlib import Path

from bench.backup.rows import Row
from bench.backup.servers import S3, Postgres


@dataclass(frozen=True, kw_only=True)
class Keys:
    """The keys of a run: age recipient and identity file, the key that signs manifests (public line and file)."""

    recipient: str
    identity: Path
    signer: str
    signing_key: Path


def make_keys(folder: Path) -> Keys:
    """Make an age identity and a signing key with the stock tools."""
    identity, signing = folder / "identity.txt", folder / "signing_key"

    def output(*command: str) -> str:
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout

    output("age-keygen", "-o", str(identity))
    output("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "bench", "-f", str(signing))
    return Keys(
        recipient=output("age-keygen", "-y", str(identity)).strip(),
        identity=identity,
        signer=" ".join(signing.with_suffix(".pub").read_text().split()[:2]),
        signing_key=signing,
    )


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where a run takes place. `work` is a folder on the disk, `memory` one in a tmpfs where there is one.

    `proxy` is (port, process) of the one that holds database connections.
    """

    work: Path
    memory: Path
    server: Postgres
    store: S3
    tls_store: S3
    proxy: tuple[int, int]
    keys: Keys
    level: int

    def store_of(self, row: Row) -> S3:
        """Return the S3 server that a row talks to."""
        return self.tls_store if "pgbackrest" in row.tools else self.store
