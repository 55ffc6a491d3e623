"""What Spaces does and a versitygw gateway does not; nginx asks here before every request (`auth_request /authorize`).

- One gateway process for each region and signature scope, started when first asked for: DigitalOcean takes both the
  region's slug and `us-east-1` in a signature, a gateway only one. Gateways of a region share its folder.
- Grants of a key (read, readwrite by bucket; full access), canned ACLs of buckets and objects, bucket names unique over
  all regions. A bucket that a limited key has takes no policy.
- `?acl`, `?lifecycle`, `?location`, the creation and the removal of a bucket are answered here, signature checked; all
  else goes to the gateway, which checks the signature and the body's hash itself.
- On request: what was just made is not found yet, a deleted name stays taken, another account has a name.
"""

# ruff: noqa: INP001 - run as a program inside its container, beside its neighbours

from __future__ import annotations

import http.client
import json
import os
import re
import signal
import sys
import xml.etree.ElementTree as ET
from collections.abc import Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import quote
from xml.sax.saxutils import escape

from request import DOMAIN, Refused, Request
from signature import SignatureRefused, sign, verify
from state import DATA, Gateways, Keys, Rules, Switches, region_of, with_policy, write_document, write_keys

PORT = 7000
MOST_BODY = 1 << 20
SCOPE = re.compile(r"[a-z0-9-]{1,24}")
CANNED_ACLS = frozenset({"private", "public-read", "public-read-write", "authenticated-read"})
NAMESPACE = 'xmlns="http://s3.amazonaws.com/doc/2006-03-01/"'
INSTANCE = 'xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance"'
ALL_USERS = "http://acs.amazonaws.com/groups/global/AllUsers"
DENIED = (403, "AccessDenied", "Access Denied")


class Front:
    """The decisions."""

    def __init__(self, address: str, access_key: str, secret_key: str) -> None:
        self.address = address
        self.keys, self.rules, self.gateways = Keys(), Rules(), Gateways(access_key, secret_key)
        self.switches = Switches()

    def authorize(self, request: Request) -> dict[str, str]:
        """Where the request goes and with what signature, as headers for nginx.

        Raises:
            Refused: it goes nowhere.
        """
        if request.credential is None:
            return self._anonymous(request)
        access_key, scope = request.credential
        if not access_key:
            raise Refused(400, "InvalidRequest", "Please use AWS4-HMAC-SHA256: signature version 2 is not built here.")
        key = self.keys.get(access_key)
        if key is None:
            raise Refused(403, "InvalidAccessKeyId", "The access key id you provided does not exist in our records.")
        if not SCOPE.fullmatch(scope):
            raise Refused(400, "AuthorizationHeaderMalformed", "the credential's region is malformed")
        if not self._readable(request) and not request.allowed(dict(key["grants"])):
            raise Refused(*DENIED)
        self._check_service(request, dict(key["grants"]))
        if request.answered_here or self._unseen(request):
            return self._to(PORT, request.headers)
        if request.writes_object:
            # Before the object is there: a failed upload leaves at most the ACL of an object that is not.
            self.rules.set_acl(request.bucket, request.key, self._canned(request.headers.get("x-amz-acl", "private")))
        return self._to(self.gateways.port(request.region, scope), request.headers)

    def _check_service(self, request: Request, grants: Mapping[str, str]) -> None:
        """Refuse what Spaces refuses whoever asks, and what the switches say it refuses to limited keys."""
        if request.method == "PUT" and request.writes_object and request.headers.get("if-match", "").startswith('"'):
            raise Refused(412, "PreconditionFailed", "At least one of the pre-conditions you specified did not hold")
        if self.switches.foreign(request.bucket) and not request.creates_bucket:
            raise Refused(*DENIED)
        if request.subresource == "policy" and request.method == "PUT" and self.keys.limited(request.bucket):
            raise Refused(*DENIED)
        if "fullaccess" not in grants.values() and (
            ("x-amz-acl" in request.headers and self.switches.has("limited_keys_set_no_acl"))
            or (request.subresource == "acl" and request.reads and self.switches.has("limited_keys_read_no_acl"))
        ):
            raise Refused(*DENIED)

    def _unseen(self, request: Request) -> bool:
        """Return True if the bucket is so new that nobody finds it yet."""
        seconds = self.switches.seconds("unseen_seconds")
        return seconds > 0 and not request.creates_bucket and self.rules.age(request.bucket) < seconds

    def _readable(self, request: Request) -> bool:
        """Return True if its ACL lets everybody read the object, or list the bucket."""
        reads = request.method in {"GET", "HEAD"} and not request.subresource and "location" not in request.query
        return reads and bool(request.bucket) and self.rules.public(request.bucket, request.key)

    def _anonymous(self, request: Request) -> dict[str, str]:
        port = self.gateways.port(request.region, request.region)
        if self._readable(request):
            headers = {**request.amz_headers, "host": request.host}
            signed = self._sign(request.method, request.uri, headers, request.region)
            return self._to(port, {name.lower(): value for name, value in signed.items()})
        if request.answered_here:
            raise Refused(*DENIED)
        # The gateway knows the bucket's policy, which may let strangers read.
        return self._to(port, {})

    def _to(self, port: int, headers: Mapping[str, str]) -> dict[str, str]:
        return {
            "X-Spaces-Upstream": f"{self.address}:{port}",
            "X-Spaces-Authorization": headers.get("authorization", ""),
            "X-Spaces-Date": headers.get("x-amz-date", ""),
            "X-Spaces-Sha256": headers.get("x-amz-content-sha256", ""),
        }

    def answer(self, request: Request, body: bytes) -> tuple[int, str]:
        """Answer what no gateway does: (status, XML).

        Raises:
            Refused: with S3's error.
        """
        key = self.keys.get(request.credential[0]) if request.credential else None
        if key is None:
            raise Refused(*DENIED)
        if not request.answered_here or self._unseen(request):
            raise Refused(404, "NoSuchBucket", "The specified bucket does not exist")
        try:
            verify(request.method, request.uri, request.headers, body, key["secret"])
        except SignatureRefused as error:
            raise Refused(403, error.code, str(error)) from None
        if not request.allowed(dict(key["grants"])):
            raise Refused(*DENIED)
        if request.creates_bucket:
            return self._create_bucket(request)
        if region_of(request.bucket) != request.region:
            raise Refused(404, "NoSuchBucket", "The specified bucket does not exist")
        if request.deletes_bucket:
            return self._delete_bucket(request)
        if "location" in request.query:
            return 200, f"<LocationConstraint {NAMESPACE}>{request.region}</LocationConstraint>"
        return self._acl(request, body) if request.subresource == "acl" else self._lifecycle(request, body)

    def _create_bucket(self, request: Request) -> tuple[int, str]:
        there = region_of(request.bucket) is not None  # the account's own as well, whatever the region
        going = not there and self.rules.age(request.bucket) < self.switches.seconds("deleted_name_seconds")
        if there or going or self.switches.foreign(request.bucket):
            raise Refused(409, "BucketAlreadyExists", "The requested bucket name is not available.")
        acl = self._canned(request.headers.get("x-amz-acl", "private"))
        status, text = self._as_root("PUT", request, f"/{quote(request.bucket)}", {"x-amz-acl": "private"})
        if status == http.client.OK:
            self.rules.forget(request.bucket)
            self.rules.set_acl(request.bucket, "", acl)
            self.rules.note(request.bucket)
        return status, text

    def _delete_bucket(self, request: Request) -> tuple[int, str]:
        status, text = self._as_root("DELETE", request, f"/{quote(request.bucket)}", {})
        if status == http.client.NO_CONTENT:
            self.rules.note(request.bucket)
        return status, text

    @staticmethod
    def _canned(acl: str) -> str:
        if acl not in CANNED_ACLS:
            raise Refused(400, "InvalidArgument", f"{acl} is not a canned ACL")
        return acl

    def _acl(self, request: Request, body: bytes) -> tuple[int, str]:
        if request.key:
            status, _ = self._as_root("HEAD", request, f"/{request.bucket}/{quote(request.key)}", {})
            if status != http.client.OK:
                raise Refused(404, "NoSuchKey", "The specified key does not exist.")
        if request.method == "PUT":
            given = request.headers.get("x-amz-acl")
            acl = self._canned(given or ("public-read" if ALL_USERS.encode() in body else "private"))
            self.rules.set_acl(request.bucket, request.key, acl)
            return 200, ""

        def grant(kind: str, grantee: str, permission: str) -> str:
            who = f'<Grantee {INSTANCE} xsi:type="{kind}">{grantee}</Grantee>'
            return f"<Grant>{who}<Permission>{permission}</Permission></Grant>"

        grants = grant("CanonicalUser", "<ID>sandbox</ID>", "FULL_CONTROL")
        if self.rules.public(request.bucket, request.key):
            grants += grant("Group", f"<URI>{ALL_USERS}</URI>", "READ")
        inner = f"<Owner><ID>sandbox</ID></Owner><AccessControlList>{grants}</AccessControlList>"
        return 200, f"<AccessControlPolicy {NAMESPACE}>{inner}</AccessControlPolicy>"

    def _lifecycle(self, request: Request, body: bytes) -> tuple[int, str]:
        if request.method == "DELETE":
            self.rules.set_lifecycle(request.bucket, None)
            return 204, ""
        if request.method == "PUT":
            try:
                root = ET.fromstring(body)  # noqa: S314 - at most 1 MiB, from a holder of a full key of this very sandbox
            except ET.ParseError:
                raise Refused(400, "MalformedXML", "The XML you provided was not well-formed.") from None
            if not root.tag.endswith("LifecycleConfiguration") or not len(root):
                raise Refused(400, "MalformedXML", "A LifecycleConfiguration with at least one Rule is needed.")
            self.rules.set_lifecycle(request.bucket, body.decode())
            return 200, ""
        rules = self.rules.lifecycle(request.bucket)
        if rules is None:
            raise Refused(404, "NoSuchLifecycleConfiguration", "The lifecycle configuration does not exist")
        return 200, rules

    def _sign(self, method: str, uri: str, headers: Mapping[str, str], region: str) -> dict[str, str]:
        return sign(method, uri, headers, region, (self.gateways.access_key, self.gateways.secret_key))

    def _as_root(self, method: str, request: Request, path: str, headers: Mapping[str, str]) -> tuple[int, str]:
        """Ask the region's gateway as the account's owner: (status, body)."""
        host = f"{request.region}.{DOMAIN}"
        signed = self._sign(method, path, {**headers, "host": host}, request.region)
        connection = http.client.HTTPConnection(
            "127.0.0.1", self.gateways.port(request.region, request.region), timeout=30
        )
        try:
            connection.request(method, path, headers={"Host": host, **signed, **headers})
            answer = connection.getresponse()
            return answer.status, answer.read().decode()
        finally:
            connection.close()


class Handler(BaseHTTPRequestHandler):
    """With nginx's own header it is a question for `authorize`; without, an S3 request to answer here."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    front: Front

    def handle_any(self) -> None:
        """Answer, whatever the method."""
        headers = {name.lower(): value for name, value in self.headers.items()}
        asked = "x-spaces-question" in headers
        try:
            if asked:
                request = Request(headers["x-original-method"], headers["x-original-uri"], headers)
                self._reply(204, "", self.front.authorize(request))
            else:
                self._reply(*self.front.answer(Request(self.command, self.path, headers), self._body(headers)))
        except Refused as error:
            resource = escape(headers.get("x-original-uri", self.path))
            inner = f"<Code>{error.code}</Code><Message>{escape(str(error))}</Message><Resource>{resource}</Resource>"
            text = f"<Error>{inner}</Error>"
            if asked:  # nginx takes 401, which stands for 412, and 403: the body travels in a header
                self._reply(401 if error.status == 412 else 403, "", {"X-Spaces-Error": text})
            else:
                self._reply(error.status, text)
        except Exception as error:  # noqa: BLE001 - one request must not end the front
            sys.stderr.write(f"front: {type(error).__name__}: {error}\n")
            sys.stderr.flush()
            self._reply(500, "<Error><Code>InternalError</Code><Message>the sandbox's front failed</Message></Error>")

    do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = do_OPTIONS = handle_any  # noqa: N815 - the names http.server calls

    def _body(self, headers: Mapping[str, str]) -> bytes:
        length = int(headers.get("content-length") or 0)
        if length > MOST_BODY:
            raise Refused(400, "EntityTooLarge", "Your proposed upload is too large.")
        return self.rfile.read(length)

    def _reply(self, status: int, text: str, headers: Mapping[str, str] | None = None) -> None:
        data = text.encode()
        if data and not data.startswith(b"<?xml"):
            data = b'<?xml version="1.0" encoding="UTF-8"?>\n' + data
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        if data:
            self.send_header("Content-Type", "application/xml")
        if status != http.client.NO_CONTENT:
            self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the name http.server gives it
        """Say nothing for each request."""


def main() -> None:
    """`front.py` serves; `keys` and `switches` take those on stdin, `policies` prints the buckets that have one."""
    match sys.argv[1:]:
        case ["keys"]:
            write_keys(sys.stdin.read())
        case ["switches"]:
            write_document(DATA / "switches.json", json.loads(sys.stdin.read()))
        case ["policies"]:
            print("\n".join(with_policy()))  # noqa: T201 - its answer
        case _:
            serve()


def serve() -> None:
    """Serve until the process is ended."""
    root = json.loads((DATA / "root.json").read_text(encoding="utf-8"))
    Handler.front = front = Front(os.environ["SPACES_ADDRESS"], root["access_key"], root["secret_key"])
    # On the backbone alone: only the edge is there with it.
    server = ThreadingHTTPServer((os.environ["SPACES_ADDRESS"], PORT), Handler)
    server.daemon_threads = True

    def stop(*_: object) -> None:
        front.gateways.stop()
        os._exit(0)

    signal.signal(signal.SIGTERM, stop)
    server.serve_forever()


if __name__ == "__main__":
    main()
