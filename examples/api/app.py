"""A small API: visits kept in PostgreSQL. Its table is made, and seeded, when it starts.

GET  /health            200 while the process serves
GET  /health/detailed   database, disk and version; 503 when the database does not answer
GET  /api               what there is
GET  /api/visits        the last visits, as JSON
POST /api/visits        {"visitor": "…"}: one more
"""

from __future__ import annotations

import json
import logging
import os
import shutil
import signal
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import psycopg2
from psycopg2.extensions import connection as PgConnection  # noqa: N812 -- it is a class, whatever its name
from psycopg2.pool import PoolError, ThreadedConnectionPool

VERSION = os.environ.get("VERSION", "0.0.0")
DATABASE_URL = os.environ.get("DATABASE_URL", "")
DIRECT_URL = os.environ.get("DATABASE_DIRECT_URL") or DATABASE_URL
SEEDS = ("Ada Lovelace", "Grace Hopper", "Margarita Salas", "Guillermo González Camarena")
LONGEST_BODY = 4096

log = logging.getLogger("api")


class Database:
    """A pool of connections; one that has died is thrown away and the next one tried."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._pool: ThreadedConnectionPool | None = None
        self._lock = threading.Lock()

    @contextmanager
    def transaction(self) -> Iterator[PgConnection]:
        with self._lock:
            if self._pool is None:
                self._pool = ThreadedConnectionPool(0, 8, self._url, connect_timeout=3, application_name="api")
        connection = self._pool.getconn()
        try:
            with connection:
                yield connection
        finally:
            self._pool.putconn(connection, close=connection.closed != 0)

    def close(self) -> None:
        if self._pool is not None:
            self._pool.closeall()


def create_table(url: str) -> None:
    """Make the table and its first rows, once, whoever else starts at the same time. Past the pool: it takes a lock."""
    with psycopg2.connect(url, connect_timeout=3) as connection, connection.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_xact_lock(3001)")
        cursor.execute(
            "CREATE TABLE IF NOT EXISTS visits ("
            " id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,"
            " visitor text NOT NULL CHECK (length(visitor) BETWEEN 1 AND 100),"
            " at timestamptz NOT NULL DEFAULT now())"
        )
        cursor.execute("SELECT EXISTS (SELECT FROM visits)")
        if not cursor.fetchone()[0]:
            cursor.executemany("INSERT INTO visits (visitor) VALUES (%s)", [(name,) for name in SEEDS])
            log.info("seeded %d visits", len(SEEDS))
    connection.close()


def visits(database: Database) -> dict[str, Any]:
    with database.transaction() as connection, connection.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM visits")
        total = cursor.fetchone()[0]
        cursor.execute("SELECT id, visitor, at FROM visits ORDER BY id DESC LIMIT 10")
        rows = [{"id": key, "visitor": visitor, "at": at.isoformat(timespec="seconds")} for key, visitor, at in cursor]
    return {"total": total, "visits": rows, "version": VERSION}


def health(database: Database) -> dict[str, Any]:
    disk = shutil.disk_usage("/")
    report: dict[str, Any] = {
        "status": "ok",
        "version": VERSION,
        "environment": os.environ.get("ENVIRONMENT"),
        "disk": {"free_bytes": disk.free, "used_percent": round(100 * (disk.total - disk.free) / disk.total, 1)},
    }
    started = time.monotonic()
    try:
        with database.transaction() as connection, connection.cursor() as cursor:
            cursor.execute("SHOW server_version")
            version = cursor.fetchone()[0]
        report["database"] = {
            "reachable": True,
            "latency_ms": round(1000 * (time.monotonic() - started), 1),
            "version": version,
        }
    except (psycopg2.Error, PoolError) as error:
        report["status"] = "degraded"
        report["database"] = {"reachable": False, "error": type(error).__name__}
    return report


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server_version = "api"
    sys_version = ""
    timeout = 30
    database: Database

    def do_GET(self) -> None:
        path = self.path.partition("?")[0].rstrip("/")
        if path == "/health":
            self.answer(HTTPStatus.OK, {"status": "ok", "version": VERSION})
        elif path == "/health/detailed":
            report = health(self.database)
            self.answer(HTTPStatus.OK if report["status"] == "ok" else HTTPStatus.SERVICE_UNAVAILABLE, report)
        elif path == "/api":
            self.answer(HTTPStatus.OK, {"version": VERSION, "visits": "/api/visits"})
        elif path == "/api/visits":
            self.from_database(lambda: (HTTPStatus.OK, visits(self.database)))
        else:
            self.answer(HTTPStatus.NOT_FOUND, {"error": "there is no such path"})

    def do_POST(self) -> None:
        if self.path.rstrip("/") != "/api/visits":
            self.answer(HTTPStatus.NOT_FOUND, {"error": "there is no such path"})
            return
        visitor = self.visitor()
        if visitor is None:
            self.close_connection = True
            self.answer(HTTPStatus.BAD_REQUEST, {"error": 'send {"visitor": "a name of 1 to 100 characters"}'})
            return
        self.from_database(lambda: (HTTPStatus.CREATED, self.add(visitor)))

    def visitor(self) -> str | None:
        """Return the visitor of the body, or None when it does not fit."""
        length = self.headers.get("Content-Length", "")
        if not length.isdecimal() or int(length) > LONGEST_BODY:
            return None
        try:
            found = json.loads(self.rfile.read(int(length)))["visitor"]
        except (ValueError, KeyError, TypeError):
            return None
        return found if isinstance(found, str) and 1 <= len(found) <= 100 and "\0" not in found else None

    def add(self, visitor: str) -> dict[str, Any]:
        with self.database.transaction() as connection, connection.cursor() as cursor:
            cursor.execute("INSERT INTO visits (visitor) VALUES (%s) RETURNING id", (visitor,))
            return {"id": cursor.fetchone()[0], "visitor": visitor}

    def from_database(self, work: Any) -> None:
        try:
            status, document = work()
        except (psycopg2.Error, PoolError) as error:
            log.warning("database: %s", type(error).__name__)
            status, document = HTTPStatus.SERVICE_UNAVAILABLE, {"error": "the database does not answer"}
        self.answer(status, document)

    def answer(self, status: HTTPStatus, document: dict[str, Any]) -> None:
        body = json.dumps(document, ensure_ascii=False).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json; charset=utf-8")
        self.send_header("Content-Length", str(len(body)))
        self.send_header("X-App-Version", VERSION)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 -- the library's own name
        if not self.path.startswith("/health"):
            log.info(format, *args)


class Server(ThreadingHTTPServer):
    """A server that ends well: what is under way is answered, and connections kept open for later are let go."""

    daemon_threads = False

    def __init__(self, *arguments: Any) -> None:
        self.open: set[socket.socket] = set()
        super().__init__(*arguments)

    def process_request(self, request: Any, client_address: Any) -> None:
        self.open.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        self.open.discard(request)
        super().shutdown_request(request)

    def server_close(self) -> None:
        for connection in tuple(self.open):
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RD)
        super().server_close()


def main() -> None:
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    if not DATABASE_URL:
        raise SystemExit("DATABASE_URL is not set")
    for attempt in range(30):
        try:
            create_table(DIRECT_URL)
            break
        except psycopg2.OperationalError as error:
            log.warning("the database does not answer yet: %s", str(error).strip().splitlines()[-1])
            if attempt == 29:
                raise SystemExit("the database did not answer in time") from None
            time.sleep(1)
    Handler.database = Database(DATABASE_URL)
    # every address of the container: the host publishes it on loopback alone
    server = Server(("0.0.0.0", int(os.environ.get("PORT", "3001"))), Handler)  # noqa: S104 -- see above
    signal.signal(signal.SIGTERM, lambda *_: threading.Thread(target=server.shutdown).start())
    log.info("api %s listens on %d", VERSION, server.server_port)
    server.serve_forever(poll_interval=0.1)
    server.server_close()
    Handler.database.close()
    log.info("ended")


if __name__ == "__main__":
    main()
