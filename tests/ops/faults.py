"""What goes wrong between us and a store: a proxy that breaks requests, and a store that fails at a chosen call."""

from __future__ import annotations

import collections
import http.client
import itertools
import random
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

from ops.core.errors import OpsError


class FaultyLine:
    """An HTTP proxy before an S3 server. `fault(number, method, path)` says what happens to a request, counted from 0:

    None: it passes. "503", "429": so it is answered, with Retry-After: 0. "reset": the connection breaks before the
    answer; "lost": the server did it, and the answer is lost. "hang": no answer. "cut": half of the answer.
    """

    def __init__(self, address, fault):
        self.target, self.fault = urlsplit(address), fault
        self.requests, self.lock, self.over = [], threading.Lock(), threading.Event()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _Request)
        self._server.daemon_threads, self._server.line = True, self
        self.address = f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self):
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *error):
        self.over.set()
        self._server.shutdown()
        self._server.server_close()


KINDS = ("503", "429", "reset", "lost", "cut", "hang")
LASTING = ("503", "429", "reset", "hang")


def each_once(kinds, seed):
    """A `fault` that fails each request in turn, and lets it pass when it is made again. `failed`: what was broken."""
    chance, asked, lock = random.Random(seed), collections.Counter(), threading.Lock()

    def fault(number, method, path):
        with lock:
            asked[method, path] += 1
            if asked[method, path] % 2 == 0:
                return None
            kind = chance.choice(kinds)
            if kind == "cut" and method != "GET":  # there is nothing in the answer to be cut
                kind = "lost"
            fault.failed.append((kind, method, path))
            return kind

    fault.failed = []
    return fault


def from_call(at, kind):
    """A `fault` that lasts from request `at` on, whoever asks how often. `met` says whether it came to that."""
    numbers, lock = itertools.count(), threading.Lock()

    def fault(number, method, path):
        with lock:
            if next(numbers) < at:
                return None
            fault.met = True
            return kind

    fault.met = False
    return fault


def red_of(line, at, kind, work):
    """Do `work` with a line that fails for good from request `at` on; return the one line that it ends with.

    None where it had ended before: how many requests there are is not always the same.
    """
    line.fault = from_call(at, kind)
    red = None
    try:
        work()
    except OpsError as error:
        red = error
    finally:
        met, line.fault = line.fault.met, lambda number, method, path: None
    assert met == (red is not None), f"{kind} from call {at} on, and it ended with {red or 'nothing'}"
    assert "\n" not in str(red)
    return red


class _Request(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *args):
        pass

    def handle_one(self):
        line = self.server.line
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        with line.lock:
            number = len(line.requests)
            line.requests.append((self.command, self.path))
        what = line.fault(number, self.command, self.path)
        if self.headers.get("If-Match", "").startswith('"'):  # Spaces takes an ETag without quotes only
            what = "412"
        if what in {"412", "503", "429"}:
            self.answer(int(what), {"Retry-After": "0", "Content-Length": "0"}, b"")
            return
        if what == "hang":
            line.over.wait(60)
        self.close_connection = what is not None
        if what in {"hang", "reset"}:
            return
        status, headers, content = self.ask(line.target, body)
        if what != "lost":
            self.answer(status, headers, content[: len(content) // 2] if what == "cut" else content)

    do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = handle_one  # noqa: N815 - names of the library

    def ask(self, target, body):
        there = http.client.HTTPConnection(target.hostname, target.port, timeout=60)
        there.putrequest(self.command, self.path, skip_host=True, skip_accept_encoding=True)
        for name, value in self.headers.items():
            if name.lower() not in {"expect", "connection"}:
                there.putheader(name, value)
        there.endheaders(body or None)
        answer = there.getresponse()
        content = answer.read()
        there.close()
        headers = {k: v for k, v in answer.getheaders() if k.lower() not in {"transfer-encoding", "connection"}}
        if self.command != "HEAD":
            headers = {k: v for k, v in headers.items() if k.lower() != "content-length"}
            headers["Content-Length"] = str(len(content))
        return answer.status, headers, content

    def answer(self, status, headers, content):
        self.send_response_only(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content)
