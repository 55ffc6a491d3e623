"""What the front keeps under /data: keys, switches, ACLs, lifecycle rules, times of buckets; and the gateways."""

# ruff: noqa: INP001 - run as a program inside its container, beside its neighbours

from __future__ import annotations

import json
import os
import socket
import sqlite3
import subprocess
import threading
import time
from pathlib import Path
from typing import Any

from request import BUCKET_NAME, DOMAIN, REGIONS, Refused

DATA = Path("/data")
FIRST_GATEWAY_PORT = 7100
MOST_GATEWAYS = 40
START_SECONDS = 10


def region_of(bucket: str) -> str | None:
    """Where the bucket is; names are unique over all regions."""
    if not BUCKET_NAME.fullmatch(bucket):
        return None
    return next((region for region in REGIONS if (DATA / "buckets" / region / bucket).is_dir()), None)


def with_policy() -> list[str]:
    """The buckets that have a policy: the gateway keeps it in an attribute of the bucket's folder."""
    folders = (folder for region in REGIONS for folder in (DATA / "buckets" / region).glob("*") if folder.is_dir())
    return sorted(folder.name for folder in folders if "user.policy" in os.listxattr(folder))


class Document:
    """A JSON object in a file, read again when the file changes; empty when there is no file."""

    def __init__(self, path: Path) -> None:
        self._path, self._seen, self._lock = path, 0, threading.Lock()
        self._value: dict[str, Any] = {}

    def read(self) -> dict[str, Any]:
        """The whole object."""
        with self._lock:
            try:
                seen = self._path.stat().st_mtime_ns
            except FileNotFoundError:
                return {}
            if seen != self._seen:
                self._value = json.loads(self._path.read_text(encoding="utf-8"))
                self._seen = seen
            return self._value


class Keys(Document):
    """The keys and their grants."""

    def __init__(self) -> None:
        super().__init__(DATA / "keys.json")

    def get(self, access_key: str) -> dict[str, Any] | None:
        """The key's secret and grants, or None when there is no such key."""
        return self.read().get(access_key)

    def limited(self, bucket: str) -> bool:
        """Return True if a key that is not for the whole account has this bucket."""
        return any(bucket in dict(key["grants"]) for key in self.read().values())


class Switches(Document):
    """How much of the real service's trouble there is; see `sandbox.api.switches`."""

    def __init__(self) -> None:
        super().__init__(DATA / "switches.json")

    def seconds(self, name: str) -> float:
        """How long something lasts."""
        return float(self.read().get(name, 0))

    def has(self, name: str) -> bool:
        """Return True if it is on."""
        return bool(self.read().get(name))

    def foreign(self, bucket: str) -> bool:
        """Return True if another account has a bucket of this name."""
        return bucket in self.read().get("foreign_buckets", ())


def write_document(path: Path, value: dict[str, Any]) -> None:
    """Replace a document, readable by nobody else."""
    draft = path.with_suffix(".new")
    with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="utf-8") as file:
        json.dump(value, file)
    draft.replace(path)


def write_keys(text: str) -> None:
    """Take the whole list of keys, {access key: {secret, grants}}; the gateways' users are written from it."""
    keys: dict[str, Any] = json.loads(text)
    users = {
        name: {"access": name, "secret": key["secret"], "role": "admin", "userID": 0, "groupID": 0, "projectID": 0}
        for name, key in keys.items()
    }
    (DATA / "iam").mkdir(mode=0o700, exist_ok=True)
    write_document(DATA / "iam" / "users.json", {"accessAccounts": users})
    write_document(DATA / "keys.json", keys)


class Rules:
    """ACLs and lifecycle rules. What is private is not in the table; an empty key is the bucket itself."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._db = sqlite3.connect(DATA / "front.db", check_same_thread=False, isolation_level=None)
        self._db.execute("PRAGMA journal_mode=WAL")
        self._db.execute(
            "CREATE TABLE IF NOT EXISTS public (bucket TEXT, key TEXT, PRIMARY KEY (bucket, key)) WITHOUT ROWID"
        )
        self._db.execute("CREATE TABLE IF NOT EXISTS lifecycle (bucket TEXT PRIMARY KEY, rules TEXT)")
        self._db.execute("CREATE TABLE IF NOT EXISTS moments (bucket TEXT PRIMARY KEY, at REAL)")

    def _run(self, statement: str, *values: str | float) -> Any:
        with self._lock:
            return self._db.execute(statement, values).fetchone()

    def public(self, bucket: str, key: str = "") -> bool:
        """Return True if strangers may read the object, or list the bucket."""
        return self._run("SELECT 1 FROM public WHERE bucket = ? AND key = ?", bucket, key) is not None

    def set_acl(self, bucket: str, key: str, acl: str) -> None:
        """Set a canned ACL; all but the public ones are private here."""
        if acl in {"public-read", "public-read-write"}:
            self._run("INSERT OR IGNORE INTO public VALUES (?, ?)", bucket, key)
        else:
            self._run("DELETE FROM public WHERE bucket = ? AND key = ?", bucket, key)

    def forget(self, bucket: str) -> None:
        """Forget all of a bucket that is made anew."""
        self._run("DELETE FROM public WHERE bucket = ?", bucket)
        self._run("DELETE FROM lifecycle WHERE bucket = ?", bucket)

    def note(self, bucket: str) -> None:
        """Note that the bucket was made, or deleted, just now."""
        self._run("INSERT OR REPLACE INTO moments VALUES (?, ?)", bucket, time.time())

    def age(self, bucket: str) -> float:
        """The seconds since the bucket was made or deleted."""
        row = self._run("SELECT at FROM moments WHERE bucket = ?", bucket)
        return time.time() - row[0] if row else float("inf")

    def lifecycle(self, bucket: str) -> str | None:
        """The lifecycle configuration as it was put, XML."""
        row = self._run("SELECT rules FROM lifecycle WHERE bucket = ?", bucket)
        return row[0] if row else None

    def set_lifecycle(self, bucket: str, rules: str | None) -> None:
        """Keep a lifecycle configuration; None removes it."""
        if rules is None:
            self._run("DELETE FROM lifecycle WHERE bucket = ?", bucket)
        else:
            self._run("INSERT OR REPLACE INTO lifecycle VALUES (?, ?)", bucket, rules)


class Gateways:
    """The versitygw processes, by (region, signature scope), each started when first asked for."""

    def __init__(self, access_key: str, secret_key: str) -> None:
        self.access_key, self.secret_key = access_key, secret_key
        self._lock = threading.Lock()
        self._running: dict[tuple[str, str], tuple[int, subprocess.Popen[bytes]]] = {}

    def port(self, region: str, scope: str) -> int:
        """Where the gateway listens.

        Raises:
            Refused: it does not start, or there are too many.
        """
        with self._lock:
            port, process = self._running.get((region, scope), (FIRST_GATEWAY_PORT + len(self._running), None))
            if process is not None and process.poll() is None:
                return port
            if process is None and len(self._running) >= MOST_GATEWAYS:
                raise Refused(503, "SlowDown", "too many different regions in signatures")
            self._running[region, scope] = (port, self._start(region, scope, port))
            return port

    def _start(self, region: str, scope: str, port: int) -> subprocess.Popen[bytes]:
        buckets, versions = DATA / "buckets" / region, DATA / "versions" / region
        for folder in (buckets, versions):
            folder.mkdir(parents=True, exist_ok=True)
        (DATA / "iam").mkdir(mode=0o700, exist_ok=True)
        command = ["versitygw", "--port", f":{port}", "--region", scope, "--virtual-domain", f"{region}.{DOMAIN}"]
        command += ["--quiet", "--keep-alive", "--iam-dir", str(DATA / "iam"), "--iam-cache-disable"]
        command += ["posix", "--versioning-dir", str(versions), str(buckets)]
        secrets = {"ROOT_ACCESS_KEY_ID": self.access_key, "ROOT_SECRET_ACCESS_KEY": self.secret_key}
        process = subprocess.Popen(
            command, env={**os.environ, "GOMEMLIMIT": "256MiB", **secrets}, stdout=subprocess.DEVNULL
        )
        end = time.monotonic() + START_SECONDS
        while process.poll() is None and time.monotonic() < end:
            try:
                socket.create_connection(("127.0.0.1", port), timeout=1).close()
            except OSError:
                time.sleep(0.02)
            else:
                return process
        raise Refused(503, "ServiceUnavailable", f"the gateway of {region} does not start")

    def stop(self) -> None:
        """End them."""
        for _, process in self._running.values():
            process.terminate()
