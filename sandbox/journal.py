"""What was asked of the sandbox, one JSON line a call, without secrets. It outlives restarts.

A line is written when the outcome is certain and before the answer leaves. `committed`: the account has changed.
"""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Collection
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

REDACTED = "[redacted]"
LARGEST = 32 * 2**20
"""Bytes. A longer journal is set aside as `journal.jsonl.1`, in the place of the one that was there."""

# Fields of simulated operations whose texts are shown; every other text may be a secret.
HARMLESS = frozenset(
    """
    addresses algorithm allow backup_created_at bucket certificate_chain certificate_id channel compare comparison
    cookie_name custom_domain data database_name day db deny description dns_names email engine entities
    entry_protocol environment files filesystem_label filesystem_type fingerprint hour id image ip_address ip_range
    leaf_certificate load_balancer_uids mode name names network network_stack origin page per_page period permission
    plan ports private private_network_uuid project_id protocol public_key purpose region regions resource_id
    resource_type resources role size slug snapshot_id ssh_keys subscription_tier_slug tag tag_name tags target
    target_protocol tier_slug tls_cipher_policy type user uuid value version volumes vpc_uuid weekday window
    """.split()  # noqa: SIM905 - one a line, they would be a page
)


def redact(value: Any, *, harmless: Collection[str] = HARMLESS, shown: bool = False) -> Any:
    """Return a copy of a JSON value in which `[redacted]` stands for every text, but for those of harmless fields."""
    if isinstance(value, dict):
        return {str(name): redact(inner, harmless=harmless, shown=name in harmless) for name, inner in value.items()}
    if isinstance(value, list):
        return [redact(inner, harmless=harmless, shown=shown) for inner in value]
    return REDACTED if isinstance(value, str) and value and not shown else value


class Journal:
    """An append-only file of calls, numbered from 1."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()
        # Where a number's line begins, for the lines of this process.
        self._places: dict[int, int] = {}
        self._seq = max((entry["seq"] for entry in self.read()), default=0)
        self._open()

    def _open(self) -> None:
        # O_APPEND: a line is one write, so a kill leaves whole lines behind (a torn last one is skipped when read).
        self._file = os.open(self._path, os.O_CREAT | os.O_RDWR | os.O_APPEND, 0o600)
        self._size = os.fstat(self._file).st_size
        self._places.clear()
        if self._size:
            self._size += os.write(self._file, b"" if os.pread(self._file, 1, self._size - 1) == b"\n" else b"\n")

    def close(self) -> None:
        """Close the file."""
        os.close(self._file)

    def write(self, **entry: Any) -> int:
        """Append one call and return its number."""
        with self._lock:
            if self._size > LARGEST:
                os.close(self._file)
                self._path.replace(self._path.with_name(self._path.name + ".1"))
                self._open()
            self._seq += 1
            self._places[self._seq] = self._size
            line = {"seq": self._seq, "time": datetime.now(UTC).isoformat(timespec="milliseconds"), **entry}
            self._size += os.write(self._file, (json.dumps(line) + "\n").encode())
            return self._seq

    def read(self, since: int = 0) -> list[dict[str, Any]]:
        """Return the calls after number `since`, as far back as the journal goes."""
        if not self._path.exists():
            return []
        entries: list[dict[str, Any]] = []
        with self._path.open("rb") as file:
            file.seek(self._places.get(since, 0))
            for line in file:
                try:
                    entry = json.loads(line)
                except ValueError:
                    continue  # the torn last line of a killed sandbox
                if entry["seq"] > since:
                    entries.append(entry)
        return entries
