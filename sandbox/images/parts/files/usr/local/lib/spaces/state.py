"""What the front keeps under /data: the keys, ACLs and lifecycle rules; and the gateway processes."""

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


class Keys:
    """The keys and their grants; read again when the file changes."""

    path = DATA / "keys.json"

    def __init__(self) -> None:
        self._seen, self._lock = 0, threading.Lock()
        self._keys: dict[str, Any] = {}

    def get(self, access_key: str) -> dict[str, Any] | None:
        """The key's secret and grants, or None when there is no such key."""
        with self._lock:
            try:
                seen = self.path.stat().st_mtime_ns
            except FileNotFoundError:
                return None
            if seen != self._seen:
                self._keys = json.loads(self.path.read_text(encoding="utf-8"))
                self._seen = seen
            return self._keys.get(access_key)


def write_keys(text: str) -> None:
    """Take the whole list of keys, {access key: {secret, grants}}; the gateways' users are written from it."""
    keys: dict[str, Any] = json.loads(text)
    users = {
        name: {"access": name, "secret": key["secret"], "role": "admin", "userID": 0, "groupID": 0, "projectID": 0}
        for name, key in keys.items()
    }
    (DATA / "iam").mkdir(mode=0o700, exist_ok=True)
    for path, value in ((DATA / "iam" / "users.json", {"accessAccounts": users}), (Keys.path, keys)):
        draft = path.with_suffix(".new")
        with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="utf-8") as file:
            json.dump(value, file)
        draft.replace(path)


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

    def _run(self, statement: str, *values: str) -> Any:
        with self._lock:
            return self._db.execute(statement, values).fetchone()

    def public(self, bucket: str, key: str = "") -> bool:
        """Whether strangers may read the object, or list the bucket."""
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
