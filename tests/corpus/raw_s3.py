"""Raw HTTP to an S3 server, signed by hand (Signature Version 4): what is on the wire, with no client in between."""

from __future__ import annotations

import hashlib
import hmac
import http.client
import re
import socket
from datetime import UTC, datetime
from urllib.parse import quote, urlsplit


class Answer:
    """Status, header lines as bytes (names in lower case, in the order of their coming) and body."""

    def __init__(self, status, headers, body):
        self.status, self.headers, self.body = status, headers, body

    def header(self, name):
        return dict(self.headers).get(name.encode())


class RawS3:
    """Requests to one bucket. Keys and header values are bytes."""

    def __init__(self, endpoint, bucket, key, region="us-east-1"):
        self._host, self._bucket, self._region = urlsplit(endpoint).netloc, bucket, region
        self._access, self._secret = key.access_key, key.secret_key.get_secret_value()

    def put(self, name, body=b"", headers=(), query=""):
        return self.ask("PUT", name, body, headers, query)

    def get(self, name, query=""):
        return self.ask("GET", name, query=query)

    def head(self, name):
        return self.ask("HEAD", name)

    def ask(self, method, name, body=b"", headers=(), query=""):
        path = f"/{self._bucket}/{quote(name, safe='/-_.~')}"
        lines = [*headers, *self._signed(method, path, query, body, headers)]
        if method == "PUT":
            lines.append((b"Content-Length", str(len(body)).encode()))
        target = path + (f"?{query}" if query else "")
        raw = f"{method} {target} HTTP/1.1\r\n".encode() + b"".join(k + b": " + v + b"\r\n" for k, v in lines) + b"\r\n"
        host, _, port = self._host.partition(":")
        with socket.create_connection((host, int(port)), timeout=60) as line:
            line.sendall(raw + body)
            return _answer(line, method)

    def _signed(self, method, path, query, body, headers):
        now = datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")
        digest = hashlib.sha256(body).hexdigest()
        own = [
            (b"Host", self._host.encode()),
            (b"X-Amz-Date", now.encode()),
            (b"X-Amz-Content-Sha256", digest.encode()),
        ]
        lower = sorted((k.lower(), re.sub(b" +", b" ", v.strip(b" \t"))) for k, v in [*headers, *own])
        names = b";".join(k for k, _ in lower)
        canonical_query = "&".join(sorted(part if "=" in part else part + "=" for part in query.split("&") if part))
        canonical = b"\n".join(
            [
                method.encode(),
                path.encode(),
                canonical_query.encode(),
                b"".join(k + b":" + v + b"\n" for k, v in lower),
                names,
                digest.encode(),
            ]
        )
        scope = f"{now[:8]}/{self._region}/s3/aws4_request"
        text = f"AWS4-HMAC-SHA256\n{now}\n{scope}\n{hashlib.sha256(canonical).hexdigest()}"
        secret = b"AWS4" + self._secret.encode()
        for part in (now[:8], self._region, "s3", "aws4_request"):
            secret = hmac.digest(secret, part.encode(), "sha256")
        signature = hmac.digest(secret, text.encode(), "sha256").hex()
        by = (
            f"AWS4-HMAC-SHA256 Credential={self._access}/{scope}, SignedHeaders={names.decode()}, Signature={signature}"
        )
        return [*own, (b"Authorization", by.encode())]


def _answer(line, method):
    """Read the header lines as bytes, and the body by the standard library."""
    seen = bytearray()
    real = line.makefile("rb")

    class Noting:
        def readline(self, limit=-1):
            got = real.readline(limit)
            seen.extend(got)
            return got

        def __getattr__(self, name):
            return getattr(real, name)

    answer = http.client.HTTPResponse(line, method=method)
    answer.fp = Noting()
    answer.begin()
    head = bytes(seen).partition(b"\r\n\r\n")[0].split(b"\r\n")[1:]
    answer.fp = real if answer.fp is not None else None
    body = answer.read() if answer.fp is not None else b""
    headers = [(k.lower(), v.strip(b" \t")) for k, _, v in (each.partition(b":") for each in head)]
    return Answer(answer.status, headers, body)
