"""A small site: one page with its version, the rows that the API reads from PostgreSQL, and an asset from the CDN.

GET  /                  the page
POST /visit             one more visit, and back to the page
GET  /health            200 while the process serves
GET  /health/detailed   the API's own report: database, disk, version
"""

from __future__ import annotations

import json
import logging
import os
import signal
import socket
import threading
import urllib.error
import urllib.parse
import urllib.request
from contextlib import suppress
from html import escape
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from string import Template
from typing import Any

VERSION = os.environ.get("VERSION", "0.0.0")
API_URL = os.environ.get("API_URL", "http://api:3001")
ASSETS_URL = os.environ.get("ASSETS_URL", "")
PAGE = Template(Path(__file__).with_name("page.html").read_text(encoding="utf-8"))
LONGEST_BODY = 4096

log = logging.getLogger("web")


def ask_api(path: str, document: dict[str, Any] | None = None) -> dict[str, Any]:
    """Ask the API on the app's own network."""
    body = None if document is None else json.dumps(document).encode()
    request = urllib.request.Request(API_URL + path, body, {"Content-Type": "application/json"})  # noqa: S310 -- ours
    with urllib.request.urlopen(request, timeout=5) as response:  # noqa: S310 -- ours, see above
        return json.load(response)


def detailed_health() -> tuple[HTTPStatus, str]:
    try:
        status, report = HTTPStatus.OK, ask_api("/health/detailed")
    except urllib.error.HTTPError as error:
        with error:
            status, report = HTTPStatus.SERVICE_UNAVAILABLE, json.load(error)
    except (OSError, ValueError):
        status, report = HTTPStatus.SERVICE_UNAVAILABLE, {"status": "down", "error": "the API does not answer"}
    return status, json.dumps({"status": report.get("status"), "version": VERSION, "api": report})


def page() -> tuple[HTTPStatus, str]:
    try:
        found = ask_api("/api/visits")
        status, total = HTTPStatus.OK, f"{found['total']} visits"
        rows = "".join(
            f"<tr><td>{row['id']}</td><td>{escape(row['visitor'])}</td>"
            f'<td><time datetime="{escape(row["at"])}">{escape(row["at"].replace("T", " ")[:16])}</time></td></tr>'
            for row in found["visits"]
        )
    except (OSError, ValueError, KeyError) as error:
        log.warning("api: %s", error)
        status, total = HTTPStatus.SERVICE_UNAVAILABLE, "the database does not answer"
        rows = '<tr><td colspan="3">Nothing to show until it does.</td></tr>'
    # An image that is out of reach is said in words: a broken picture would look like a broken page.
    missing = "unreached.hidden=false;this.remove()"
    logo = f'<img src="{escape(ASSETS_URL)}/logo.svg" alt="" width="64" height="64" onerror="{missing}">'
    logo = logo if ASSETS_URL else ""
    environment = escape(os.environ.get("ENVIRONMENT", "local"))
    return status, PAGE.substitute(
        version=escape(VERSION), environment=environment, total=total, rows=rows, logo=logo, assets=escape(ASSETS_URL)
    )


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server_version = "web"
    sys_version = ""
    timeout = 30

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        if path == "/health":
            self.answer(HTTPStatus.OK, json.dumps({"status": "ok", "version": VERSION}), "application/json")
        elif path == "/health/detailed":
            self.answer(*detailed_health(), "application/json")
        elif path == "/":
            self.answer(*page())
        else:
            self.answer(HTTPStatus.NOT_FOUND, "There is no such page.\n", "text/plain; charset=utf-8")

    def do_POST(self) -> None:
        length = self.headers.get("Content-Length", "")
        if self.path != "/visit" or not length.isdecimal() or int(length) > LONGEST_BODY:
            self.close_connection = True
            self.answer(HTTPStatus.BAD_REQUEST, "Not understood.\n", "text/plain; charset=utf-8")
            return
        fields = urllib.parse.parse_qs(self.rfile.read(int(length)).decode(errors="replace"))
        try:
            ask_api("/api/visits", {"visitor": fields.get("visitor", [""])[0].strip()})
        except urllib.error.HTTPError as error:
            log.info("api: %s", error)
        except (OSError, ValueError) as error:
            log.warning("api: %s", error)
        self.send_response(HTTPStatus.SEE_OTHER)
        self.send_header("Location", "/")
        self.send_header("Content-Length", "0")
        self.end_headers()

    def answer(self, status: HTTPStatus, text: str, kind: str = "text/html; charset=utf-8") -> None:
        body = text.encode()
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Cache-Control", "no-store")
        self.send_header("X-App-Version", VERSION)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 -- the library's own name
        if self.path != "/health":
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
    # every address of the container: the host publishes it on loopback alone
    server = Server(("0.0.0.0", int(os.environ.get("PORT", "3000"))), Handler)  # noqa: S104 -- see above
    signal.signal(signal.SIGTERM, lambda *_: threading.Thread(target=server.shutdown).start())
    log.info("web %s listens on %d", VERSION, server.server_port)
    server.serve_forever(poll_interval=0.1)
    server.server_close()
    log.info("ended")


if __name__ == "__main__":
    main()
