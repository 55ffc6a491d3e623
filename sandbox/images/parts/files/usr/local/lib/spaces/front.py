"""What Spaces does and a versitygw gateway does not; nginx asks here before every request (`auth_request /authorize`).

- One gateway process for each region and signature scope, started when first asked for: DigitalOcean takes both the region's slug and
  `us-east-1` in a signature, a gateway only one. Gateways of a region share its folder.
- Grants of a key (read, readwrite by bucket; full access), canned ACLs of buckets and objects, bucket names unique over all regions.
- `?acl`, `?lifecycle`, `?location` and the creation of a bucket are answered here, signature checked; all else goes to the gateway,
  which checks the signature and the body's hash itself.

State is under /data: buckets/<region>/<bucket>, versions/, iam/ (the gateways' users), keys.json, front.db (ACLs, lifecycle rules).
"""

import http.client
import json
import os
import re
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
import time
import xml.etree.ElementTree as ET
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qsl, quote, unquote, urlsplit
from xml.sax.saxutils import escape

from signature import SignatureRefused, parse_credential, sign, verify

PORT = 7000
FIRST_GATEWAY_PORT = 7100
MOST_GATEWAYS = 40
MOST_BODY = 1 << 20
DATA = "/data"
DOMAIN = "digitaloceanspaces.com"
SCOPE = re.compile(r"[a-z0-9-]{1,24}")
NAME = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")
REGIONS = os.environ["SPACES_REGIONS"].split(",")
SUBRESOURCES = {
    "accelerate", "acl", "analytics", "cors", "encryption", "intelligent-tiering", "inventory", "legal-hold", "lifecycle", "logging",
    "metrics", "notification", "object-lock", "ownershipControls", "policy", "policyStatus", "publicAccessBlock", "replication",
    "requestPayment", "retention", "tagging", "torrent", "versioning", "website",
}  # fmt: skip
OBJECT_SUBRESOURCES = {"tagging", "legal-hold", "retention", "torrent"}
NAMESPACE = 'xmlns="http://s3.amazonaws.com/doc/2006-03-01/"'
ALL_USERS = "http://acs.amazonaws.com/groups/global/AllUsers"


class Refused(Exception):
    """An S3 error answer."""

    def __init__(self, status, code, message):
        super().__init__(message)
        self.status, self.code = status, code


class Request:
    """An S3 request, as seen by nginx: method, raw uri, lower-case headers; region, bucket and key read out of it."""

    def __init__(self, method, uri, headers):
        self.method, self.uri, self.headers = method, uri, headers
        split = urlsplit(uri)
        self.query = dict(parse_qsl(split.query, keep_blank_values=True))
        host = headers.get("host", "").split(":")[0].lower()
        left = host[: -len(DOMAIN) - 1] if host.endswith(f".{DOMAIN}") else ""
        bucket, _, self.region = left.rpartition(".")
        if self.region not in REGIONS:
            raise Refused(400, "InvalidRequest", f"{host} is not a Spaces endpoint")
        path = unquote(split.path).lstrip("/")
        if not bucket:
            bucket, _, path = path.partition("/")
        self.bucket, self.key = bucket, path
        self.credential = parse_credential(headers, self.query)
        self.subresource = next((name for name in self.query if name in SUBRESOURCES), None)

    @property
    def reads(self):
        return self.method in ("GET", "HEAD", "OPTIONS")

    @property
    def writes_object(self):
        """Whether it makes an object: a whole one, a copy, or the start of a multipart upload."""
        if not self.key or self.subresource:
            return False
        return (self.method == "PUT" and "partNumber" not in self.query) or (self.method == "POST" and "uploads" in self.query)

    @property
    def answered_here(self):
        if self.method == "OPTIONS":
            return False
        return self.subresource in ("acl", "lifecycle") or "location" in self.query or self.creates_bucket

    @property
    def creates_bucket(self):
        return self.method == "PUT" and bool(self.bucket) and not self.key and not self.query


class Keys:
    """The keys and their grants; read again when the file changes."""

    path = f"{DATA}/keys.json"

    def __init__(self):
        self._seen, self._keys, self._lock = None, {}, threading.Lock()

    def get(self, access_key):
        with self._lock:
            try:
                seen = os.stat(self.path).st_mtime_ns
            except FileNotFoundError:
                return None
            if seen != self._seen:
                with open(self.path, encoding="utf-8") as file:
                    self._keys = json.load(file)
                self._seen = seen
            return self._keys.get(access_key)


class Rules:
    """ACLs and lifecycle rules. What is private is not in the table."""

    def __init__(self):
        self._lock = threading.Lock()
        self._db = sqlite3.connect(f"{DATA}/front.db", check_same_thread=False, isolation_level=None)
        self._db.execute("PRAGMA journal_mode=WAL")
        self._db.execute("CREATE TABLE IF NOT EXISTS public (bucket TEXT, key TEXT, PRIMARY KEY (bucket, key)) WITHOUT ROWID")
        self._db.execute("CREATE TABLE IF NOT EXISTS lifecycle (bucket TEXT PRIMARY KEY, rules TEXT)")

    def _run(self, statement, *values):
        with self._lock:
            return self._db.execute(statement, values).fetchone()

    def public(self, bucket, key=""):
        return self._run("SELECT 1 FROM public WHERE bucket = ? AND key = ?", bucket, key) is not None

    def set_acl(self, bucket, key, acl):
        if acl in ("public-read", "public-read-write"):
            self._run("INSERT OR IGNORE INTO public VALUES (?, ?)", bucket, key)
        else:
            self._run("DELETE FROM public WHERE bucket = ? AND key = ?", bucket, key)

    def forget(self, bucket):
        self._run("DELETE FROM public WHERE bucket = ?", bucket)
        self._run("DELETE FROM lifecycle WHERE bucket = ?", bucket)

    def lifecycle(self, bucket):
        row = self._run("SELECT rules FROM lifecycle WHERE bucket = ?", bucket)
        return row[0] if row else None

    def set_lifecycle(self, bucket, rules):
        if rules is None:
            self._run("DELETE FROM lifecycle WHERE bucket = ?", bucket)
        else:
            self._run("INSERT OR REPLACE INTO lifecycle VALUES (?, ?)", bucket, rules)


class Gateways:
    """The versitygw processes, by (region, signature scope)."""

    def __init__(self, access_key, secret_key):
        self.access_key, self.secret_key = access_key, secret_key
        self._lock, self._running = threading.Lock(), {}

    def port(self, region, scope):
        with self._lock:
            port, process = self._running.get((region, scope), (None, None))
            if process is not None and process.poll() is None:
                return port
            if port is None:
                if len(self._running) >= MOST_GATEWAYS:
                    raise Refused(503, "SlowDown", "too many different regions in signatures")
                port = FIRST_GATEWAY_PORT + len(self._running)
            self._running[region, scope] = (port, self._start(region, scope, port))
            return port

    def _start(self, region, scope, port):
        for folder in ("buckets", "versions"):
            os.makedirs(f"{DATA}/{folder}/{region}", exist_ok=True)
        os.makedirs(f"{DATA}/iam", mode=0o700, exist_ok=True)
        command = ["versitygw", "--port", f":{port}", "--region", scope, "--virtual-domain", f"{region}.{DOMAIN}", "--quiet", "--keep-alive"]
        command += ["--iam-dir", f"{DATA}/iam", "--iam-cache-disable"]
        command += ["posix", "--versioning-dir", f"{DATA}/versions/{region}", f"{DATA}/buckets/{region}"]
        secrets = {"ROOT_ACCESS_KEY_ID": self.access_key, "ROOT_SECRET_ACCESS_KEY": self.secret_key}
        process = subprocess.Popen(command, env={**os.environ, "GOMEMLIMIT": "256MiB", **secrets}, stdout=subprocess.DEVNULL)
        for _ in range(200):
            if process.poll() is not None:
                break
            try:
                socket.create_connection(("127.0.0.1", port), timeout=1).close()
            except OSError:
                time.sleep(0.02)
            else:
                return process
        raise Refused(503, "ServiceUnavailable", f"the gateway of {region} does not start")

    def stop(self):
        for _, process in self._running.values():
            process.terminate()


class Front:
    """The decisions."""

    def __init__(self, address, access_key, secret_key):
        self.address = address
        self.keys, self.rules, self.gateways = Keys(), Rules(), Gateways(access_key, secret_key)

    @staticmethod
    def region_of(bucket):
        if not NAME.fullmatch(bucket):
            return None
        return next((region for region in REGIONS if os.path.isdir(f"{DATA}/buckets/{region}/{bucket}")), None)

    def authorize(self, request):
        """Where the request goes, with what signature: headers for nginx.

        Raises:
            Refused: it goes nowhere.
        """
        if request.credential is None:
            return self._anonymous(request)
        access_key, scope = request.credential
        key = self.keys.get(access_key)
        if key is None:
            raise Refused(403, "InvalidAccessKeyId", "The access key id you provided does not exist in our records.")
        if not SCOPE.fullmatch(scope):
            raise Refused(400, "AuthorizationHeaderMalformed", "the credential's region is malformed")
        public = request.reads and request.key and not request.subresource and self.rules.public(request.bucket, request.key)
        if not public:
            self._check_grants(request, key)
        if request.answered_here:
            return self._to(f"{self.address}:{PORT}", request.headers)
        if request.writes_object:
            # Before the object is there: a failed upload leaves at most the ACL of an object that is not.
            self.rules.set_acl(request.bucket, request.key, request.headers.get("x-amz-acl", "private"))
        return self._to(f"{self.address}:{self.gateways.port(request.region, scope)}", request.headers)

    def _anonymous(self, request):
        port = self.gateways.port(request.region, request.region)
        readable = request.method in ("GET", "HEAD") and not request.subresource
        if readable and request.bucket and self.rules.public(request.bucket, request.key):
            amz = {name: value for name, value in request.headers.items() if name.startswith("x-amz-")}
            signed = self._sign(request.method, request.uri, request.headers["host"], request.region, amz)
            return self._to(f"{self.address}:{port}", {name.lower(): value for name, value in signed.items()})
        if request.answered_here:
            raise Refused(403, "AccessDenied", "Access Denied")
        # The gateway knows the bucket's policy, which may let strangers read.
        return self._to(f"{self.address}:{port}", {})

    @staticmethod
    def _to(address, headers):
        return {
            "X-Spaces-Upstream": address,
            "X-Spaces-Authorization": headers.get("authorization", ""),
            "X-Spaces-Date": headers.get("x-amz-date", ""),
            "X-Spaces-Sha256": headers.get("x-amz-content-sha256", ""),
        }

    def _check_grants(self, request, key):
        """DigitalOcean's limited keys: objects of the named buckets, never the buckets' own settings."""
        grants = dict(key["grants"])
        if grants.get("") == "fullaccess" or "fullaccess" in grants.values():
            return
        permission = grants.get(request.bucket) if request.bucket else None
        settings = request.subresource is not None and not (request.key and request.subresource in (*OBJECT_SUBRESOURCES, "acl"))
        makes_bucket = not request.key and request.method in ("PUT", "DELETE")
        allowed = permission == "readwrite" or (permission == "read" and request.reads)
        if request.subresource == "versioning" and request.reads:
            settings = False
        source = unquote(request.headers.get("x-amz-copy-source", "")).lstrip("/").partition("/")[0]
        if source and grants.get(source) not in ("read", "readwrite"):
            allowed = False
        if not allowed or settings or makes_bucket:
            raise Refused(403, "AccessDenied", "Access Denied")

    def answer(self, request, body):
        """Answer `?acl`, `?lifecycle`, `?location` and the creation of a bucket: (status, XML)."""
        access_key, _ = request.credential or ("", "")
        key = self.keys.get(access_key)
        if key is None:
            raise Refused(403, "AccessDenied", "Access Denied")
        try:
            verify(request.method, request.uri, request.headers, body, key["secret"])
        except SignatureRefused as error:
            raise Refused(403, error.code, str(error)) from None
        self._check_grants(request, key)
        if request.creates_bucket:
            return self._create_bucket(request)
        if self.region_of(request.bucket) != request.region:
            raise Refused(404, "NoSuchBucket", "The specified bucket does not exist")
        if "location" in request.query:
            return 200, f"<LocationConstraint {NAMESPACE}>{request.region}</LocationConstraint>"
        return self._acl(request, body) if request.subresource == "acl" else self._lifecycle(request, body)

    def _create_bucket(self, request):
        where = self.region_of(request.bucket)
        if where == request.region:
            # One account owns every bucket: making it again is no error, as with Ceph. The ACL stays.
            return 200, ""
        if where is not None:
            raise Refused(409, "BucketAlreadyExists", "The requested bucket name is not available.")
        acl = request.headers.get("x-amz-acl", "private")
        self._check_canned(acl)
        status, text = self._as_root("PUT", request, f"/{request.bucket}", {"x-amz-acl": "private"})
        if status == 200:
            self.rules.forget(request.bucket)
            self.rules.set_acl(request.bucket, "", acl)
        return status, text

    @staticmethod
    def _check_canned(acl):
        if acl not in ("private", "public-read", "public-read-write", "authenticated-read"):
            raise Refused(400, "InvalidArgument", f"{acl} is not a canned ACL")

    def _acl(self, request, body):
        if request.key and self._as_root("HEAD", request, f"/{request.bucket}/{quote(request.key)}", {})[0] != 200:
            raise Refused(404, "NoSuchKey", "The specified key does not exist.")
        if request.method == "PUT":
            acl = request.headers.get("x-amz-acl") or ("public-read" if ALL_USERS.encode() in body else "private")
            self._check_canned(acl)
            self.rules.set_acl(request.bucket, request.key, acl)
            return 200, ""
        grant = '<Grant><Grantee xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance" xsi:type="{}">{}</Grantee><Permission>{}</Permission></Grant>'
        grants = grant.format("CanonicalUser", "<ID>sandbox</ID>", "FULL_CONTROL")
        if self.rules.public(request.bucket, request.key):
            grants += grant.format("Group", f"<URI>{ALL_USERS}</URI>", "READ")
        owner = "<Owner><ID>sandbox</ID></Owner>"
        return 200, f"<AccessControlPolicy {NAMESPACE}>{owner}<AccessControlList>{grants}</AccessControlList></AccessControlPolicy>"

    def _lifecycle(self, request, body):
        if request.method == "DELETE":
            self.rules.set_lifecycle(request.bucket, None)
            return 204, ""
        if request.method == "PUT":
            try:
                root = ET.fromstring(body)
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

    def _sign(self, method, uri, host, region, amz_headers):
        return sign(method, uri, host, region, self.gateways.access_key, self.gateways.secret_key, amz_headers)

    def _as_root(self, method, request, path, headers):
        """Ask the region's gateway as the account's owner: (status, body)."""
        host, region = f"{request.region}.{DOMAIN}", request.region
        port = self.gateways.port(region, region)
        signed = self._sign(method, path, host, region, headers)
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
        try:
            connection.request(method, path, headers={"Host": host, **signed, **headers})
            answer = connection.getresponse()
            return answer.status, answer.read().decode()
        finally:
            connection.close()


class Handler(BaseHTTPRequestHandler):
    """`/authorize` is nginx's question; everything else is an S3 request to answer here."""

    protocol_version = "HTTP/1.1"
    front: Front
    disable_nagle_algorithm = True

    def handle_any(self):
        headers = {name.lower(): value for name, value in self.headers.items()}
        authorizing = "x-spaces-question" in headers
        try:
            if authorizing:
                request = Request(headers["x-original-method"], headers["x-original-uri"], headers)
                self._reply(204, "", self.front.authorize(request))
                return
            length = int(headers.get("content-length") or 0)
            if length > MOST_BODY:
                raise Refused(400, "EntityTooLarge", "Your proposed upload is too large.")
            body = self.rfile.read(length)
            self._reply(*self.front.answer(Request(self.command, self.path, headers), body))
        except Refused as error:
            text = f"<Error><Code>{error.code}</Code><Message>{escape(str(error))}</Message><Resource>{escape(self.path)}</Resource></Error>"
            if authorizing:  # nginx passes on a 403 alone: the real answer travels in headers
                self._reply(403, "", {"X-Spaces-Status": str(error.status), "X-Spaces-Error": text})
            else:
                self._reply(error.status, text)
        except Exception as error:  # noqa: BLE001 - one request must not end the front
            print(f"front: {type(error).__name__}: {error}", file=sys.stderr, flush=True)
            self._reply(500, "<Error><Code>InternalError</Code><Message>the sandbox's front failed</Message></Error>")

    do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = do_OPTIONS = handle_any

    def _reply(self, status, text, headers=None):
        data = text.encode()
        if data and not data.startswith(b"<?xml"):
            data = b'<?xml version="1.0" encoding="UTF-8"?>\n' + data
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        if data:
            self.send_header("Content-Type", "application/xml")
        if status != 204:
            self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    def log_message(self, *arguments):
        """Nothing: nginx keeps the access log."""


def write_keys(text):
    """Take the whole list of keys: {access key: {secret, grants}}; the gateways' users are written from it."""
    keys = json.loads(text)
    os.makedirs(f"{DATA}/iam", mode=0o700, exist_ok=True)
    users = {name: {"access": name, "secret": key["secret"], "role": "admin", "userID": 0, "groupID": 0, "projectID": 0} for name, key in keys.items()}
    for path, value in ((f"{DATA}/iam/users.json", {"accessAccounts": users}), (Keys.path, keys)):
        with open(os.open(f"{path}.new", os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="utf-8") as file:
            json.dump(value, file)
        os.replace(f"{path}.new", path)


def main():
    if sys.argv[1:] == ["keys"]:
        write_keys(sys.stdin.read())
        return
    with open(f"{DATA}/root.json", encoding="utf-8") as file:
        root = json.load(file)
    Handler.front = Front(os.environ["SPACES_ADDRESS"], root["access_key"], root["secret_key"])
    server = ThreadingHTTPServer(("0.0.0.0", PORT), Handler)
    server.daemon_threads = True

    def stop(*_):
        Handler.front.gateways.stop()
        os._exit(0)

    signal.signal(signal.SIGTERM, stop)
    server.serve_forever()


if __name__ == "__main__":
    main()
