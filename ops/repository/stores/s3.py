"""Use an S3-compatible bucket as a store: Spaces, R2, or the sandbox's own.

Checksums that stores other than AWS refuse are turned off (`when_required`); our own SHA-256 is in the manifest.
The proxy and the certificate authorities come from `HTTPS_PROXY` and `AWS_CA_BUNDLE`, as for every S3 client.
A retry repeats one request, so one part and never the complete object: see `ops.repository.stores.retry`.

s3transfer is not used: it cannot send one part to two stores, sends no Content-MD5 with a part, pushes a download
where age pulls it, and treats a completed upload whose answer was lost as a failure.
"""

from __future__ import annotations

import base64
import hashlib
import logging
import re
import threading
import time
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, BinaryIO, TypeVar, cast

import boto3
import botocore.auth
from botocore.awsrequest import AWSRequest
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from blueprint.outputs import BucketKey, BucketOutput
from ops.core.errors import DeleteRefusedError, ObjectMissingError, StoreError, StoreUnreachableError
from ops.repository.stores.base import StoredObject
from ops.repository.stores.retry import BROKEN, Patience, is_busy

if TYPE_CHECKING:
    from mypy_boto3_s3.client import S3Client

Answer = TypeVar("Answer")
CONCURRENCY = 4
logging.getLogger("botocore.handlers").setLevel(logging.ERROR)  # it warns about each `Expires` that is not a date
REFUSED = {"AccessDenied", "InvalidAccessKeyId", "SignatureDoesNotMatch", "Forbidden", "403", "401", "Unauthorized"}
BAD_KEY = {"InvalidAccessKeyId", "SignatureDoesNotMatch", "RequestTimeTooSkewed", "ExpiredToken", "InvalidToken"}
MISSING = {"NoSuchKey", "404", "NotFound"}
UNSUPPORTED = {"NotImplemented", "MethodNotAllowed", "AccessControlListNotSupported", "NotSupported", "XNotImplemented"}

_BYTES_SIGNER = "ancla-s3v4-bytes"
_HEADERS = "AnclaHeaders"
"""The extra parameter with headers that botocore sends unchanged: a character for each byte."""


class _BytesSigner(botocore.auth.S3SigV4Auth):
    """Signature Version 4 over the bytes of the header values that are sent.

    botocore would send and sign them as UTF-8; it also treats more characters as blanks than S3 does.
    """

    def add_auth(self, request: AWSRequest) -> None:
        super().add_auth(request)
        for name, value in request.headers.items():
            if not value.isascii():  # bytes are sent unchanged
                request.headers.replace_header(name, cast("Any", value.encode("latin-1")))

    def _header_value(self, value: str) -> str:
        return re.sub(" +", " ", value.strip(" "))

    def string_to_sign(self, request: AWSRequest, canonical_request: str) -> str:
        digest = hashlib.sha256(canonical_request.encode("latin-1")).hexdigest()
        context = cast("dict[str, str]", request.context)
        return "\n".join(("AWS4-HMAC-SHA256", context["timestamp"], self.credential_scope(request), digest))


cast("dict[str, Any]", botocore.auth.AUTH_TYPE_MAPS)[_BYTES_SIGNER] = _BytesSigner


def address(bucket: BucketOutput) -> str:
    """Return the name of the bucket's store, such as s3://bucket/prefix."""
    return _shown(bucket.name, _folder(bucket))


def _folder(bucket: BucketOutput) -> str:
    return bucket.prefix.strip("/") + "/" if bucket.prefix.strip("/") else ""


def _shown(bucket: str, prefix: str) -> str:
    return f"s3://{bucket}/{prefix}".rstrip("/")


class S3Store:
    """The objects of `bucket` under its prefix. `timeout` is the maximum silence within one request, in seconds."""

    def __init__(
        self, bucket: BucketOutput, key: BucketKey, *, patience: Patience | None = None, timeout: float = 60
    ) -> None:
        self.patience = patience or Patience()
        self._bucket = bucket.name
        self._prefix = _folder(bucket)
        self._endpoint = bucket.endpoint
        self._wants_md5 = False
        self._client: S3Client = boto3.session.Session().client(
            "s3",
            region_name=bucket.region,
            endpoint_url=bucket.endpoint,
            aws_access_key_id=key.access_key,
            aws_secret_access_key=key.secret_key.get_secret_value(),
            config=Config(
                request_checksum_calculation="when_required",
                response_checksum_validation="when_required",
                retries={"mode": "standard", "total_max_attempts": 1},  # retries are up to `patience`
                connect_timeout=min(10, timeout),
                read_timeout=timeout,
                max_pool_connections=CONCURRENCY * 4,
            ),
        )
        self.patience.watch(self._client)
        register = cast("Any", self._client.meta.events.register)
        for operation in ("PutObject", "CreateMultipartUpload"):
            register(f"before-parameter-build.s3.{operation}", _take_headers)
            register(f"before-call.s3.{operation}", _add_headers)
            register(f"choose-signer.s3.{operation}", _choose_signer)

    @property
    def name(self) -> str:
        """Return the address, such as s3://bucket/prefix."""
        return _shown(self._bucket, self._prefix)

    def upload(self, key: str, headers: Mapping[str, str] | None = None) -> _S3Upload:
        """Start a multipart upload; an object of one part becomes one request instead.

        `headers` are sent with the object unchanged, with a character for each byte (ISO-8859-1).
        """
        return _S3Upload(self, key, headers or {})

    def put_bytes(self, key: str, content: bytes, headers: Mapping[str, str] | None = None) -> None:
        """Store a small object in one request; `headers` as in `upload`."""
        with self.explained(key):
            address: dict[str, Any] = {"Bucket": self._bucket, "Key": self._prefix + key}
            self.send(self._client.put_object, content, **address, **{_HEADERS: headers or {}})

    def send(self, request: Callable[..., Answer], body: bytes, **address: Any) -> Answer:
        """Send a request with a body, and with its MD5 once the bucket has demanded one (Object Lock of AWS and B2).

        The MD5 costs a second of CPU time per GB, and our own SHA-256 is in the manifest.
        """
        if not self._wants_md5:
            try:
                return request(Body=body, **address)
            except ClientError as error:
                if not _asks_for_md5(error):
                    raise
                self._wants_md5 = True
        digest = hashlib.md5(body, usedforsecurity=False).digest()
        return request(Body=body, ContentMD5=base64.b64encode(digest).decode(), **address)

    @contextmanager
    def open(self, key: str) -> Generator[BinaryIO]:
        """Stream the object; if the connection breaks, continue from there."""
        with self.explained(key):
            body = _Body(self, key)
            try:
                yield cast("BinaryIO", body)
            finally:
                body.close()

    def list(self, prefix: str) -> Iterator[StoredObject]:
        """List the objects page by page."""
        with self.explained(prefix):
            pages = self._client.get_paginator("list_objects_v2").paginate(
                Bucket=self._bucket, Prefix=self._prefix + prefix
            )
            for page in pages:
                for item in page.get("Contents", []):
                    yield StoredObject(
                        key=item.get("Key", "").removeprefix(self._prefix),
                        size=item.get("Size", 0),
                        modified=item.get("LastModified", datetime.now(UTC)),
                    )

    def delete(self, keys: Iterable[str]) -> None:
        """Delete one by one: batch deletes need a Content-MD5, which stores require in different ways."""
        for key in keys:
            with self.explained(key):
                try:
                    self._client.delete_object(Bucket=self._bucket, Key=self._prefix + key)
                except ClientError as error:
                    if not _keeps(error):
                        raise
                    text = error.response.get("Error", {}).get("Message") or "refused"
                    raise DeleteRefusedError(f"{self.name}/{key}: not deleted: {text}") from None

    def locked_until(self, key: str) -> datetime | None:
        """Return when the object's lock ends, if the store reports it (R2's bucket locks are not reported)."""
        with self.explained(key):
            head = self._client.head_object(Bucket=self._bucket, Key=self._prefix + key)
        return head.get("ObjectLockRetainUntilDate")

    def abort_uploads(self, prefix: str, *, older_than_hours: float = 0) -> int:
        """Abort unfinished multipart uploads, which cost money and show in no listing."""
        limit = datetime.now(UTC) - timedelta(hours=older_than_hours)
        aborted = 0
        with self.explained(prefix):
            pages = self._client.get_paginator("list_multipart_uploads").paginate(
                Bucket=self._bucket, Prefix=self._prefix + prefix
            )
            for page in pages:
                for upload in page.get("Uploads", []):
                    if upload.get("Initiated", limit) <= limit:
                        self._abort(upload.get("Key", ""), upload.get("UploadId", ""))
                        aborted += 1
        return aborted

    def _abort(self, key: str, upload: str) -> None:
        try:
            self._client.abort_multipart_upload(Bucket=self._bucket, Key=key, UploadId=upload)
        except ClientError as error:
            if error.response.get("Error", {}).get("Code") != "NoSuchUpload":  # it ended after it was listed
                raise

    @property
    def client(self) -> S3Client:
        """Return the client, for requests that only this kind of store has."""
        return self._client

    def address(self, key: str) -> tuple[str, str]:
        """Return bucket and key for a request."""
        return self._bucket, self._prefix + key

    @contextmanager
    def explained(self, key: str) -> Generator[None]:
        """Translate the client's exceptions into ours, with the object's address."""
        where = f"s3://{self._bucket}/{one_line(self._prefix + key)} at {self._endpoint}"
        try:
            yield
        except ClientError as error:
            code = error.response.get("Error", {}).get("Code", "")
            if code in MISSING:
                raise ObjectMissingError(f"{where}: no such object") from None
            if code == "NoSuchBucket":
                raise StoreUnreachableError(
                    f"{where}: no such bucket; if it was deleted, `pulumi up --refresh`"
                ) from None
            if code in REFUSED:
                raise StoreUnreachableError(
                    f"{where}: the key pair is refused ({code}); was it revoked? `pulumi up --refresh` creates another"
                ) from None
            if code == "RequestTimeTooSkewed":
                raise StoreError(
                    f"{where}: the clock here or at the store is wrong by minutes; set it (timedatectl)"
                ) from None
            raise StoreError(f"{where}: {code or 'refused'}") from None
        except BROKEN as error:
            raise StoreUnreachableError(
                f"{where}: no answer: {error}; check endpoint, proxy and certificates"
            ) from None
        except BotoCoreError as error:  # nothing was sent: it is not the server's fault
            said = " ".join(str(error).split())
            raise StoreError(f"{where}: the request cannot be made: {said}") from None


def _take_headers(params: dict[str, Any], context: dict[str, Any], **_: object) -> None:
    context[_HEADERS] = params.pop(_HEADERS, {})


def _add_headers(params: dict[str, Any], context: dict[str, Any], **_: object) -> None:
    params["headers"].update(context[_HEADERS])


def _choose_signer(context: dict[str, Any], **_: object) -> str | None:
    return _BYTES_SIGNER if context.get(_HEADERS) else None


def why_refused(error: ClientError) -> str | None:
    """Return the error code if the store refuses only this object, not the key pair, the bucket or everything."""
    status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
    code = error.response.get("Error", {}).get("Code", "")
    everything = code in BAD_KEY or code in {"NoSuchBucket", "QuotaExceeded"} or is_busy(error.response)
    return (code or str(status)) if 400 <= status < 500 and not everything else None


def is_unsupported(error: ClientError) -> bool:
    """Return True if the store does not support this request at all."""
    status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
    return status in (405, 501) or error.response.get("Error", {}).get("Code", "") in UNSUPPORTED


def one_line(key: str) -> str:
    """Return a key for messages: characters that would break the line or the terminal are escaped."""
    return "".join(each if each.isprintable() else each.encode("unicode_escape").decode() for each in key)


def _keeps(error: ClientError) -> bool:
    """Return True if the store refuses to delete a locked object: the code differs between stores."""
    status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode")
    return status in (403, 405, 409) and error.response.get("Error", {}).get("Code") not in BAD_KEY


def _asks_for_md5(error: ClientError) -> bool:
    """Return True if the store refused a request without an MD5; the code is InvalidRequest or MissingContentMD5."""
    said = error.response.get("Error", {})
    return re.search("content-?md5", f"{said.get('Code')} {said.get('Message')}", re.IGNORECASE) is not None


class _Body:
    """Reads an object; a broken connection is resumed as long as it is the same object."""

    def __init__(self, store: S3Store, key: str) -> None:
        self._store, self._address = store, store.address(key)
        self._position, self._failures, self._since = 0, 0, 0.0
        bucket, name = self._address
        first = store.client.get_object(Bucket=bucket, Key=name)
        self._etag, self._body = first["ETag"], first["Body"]

    def read(self, size: int = -1, /) -> bytes:
        """Return the next bytes, fewer than `size` only at the end or where the connection breaks."""
        blocks: list[bytes] = []
        missing = size
        while True:
            try:
                block = self._body.read(None if size < 0 else missing)
            except BROKEN as error:
                self._wait(error)
                self._again()
                continue
            self._position += len(block)
            self._failures = 0
            blocks.append(block)
            missing -= len(block)
            if size < 0 or not block or not missing:
                return blocks[0] if len(blocks) == 1 else b"".join(blocks)

    def close(self) -> None:
        """Return the connection to the pool."""
        self._body.close()

    def _wait(self, error: Exception) -> None:
        self._since = self._since if self._failures else time.monotonic()
        self._failures += 1
        pause = self._store.patience.next_pause(self._since, self._failures)
        if pause is None:
            raise error
        time.sleep(pause)

    def _again(self) -> None:
        """Go on reading. The answer's ETag is compared here: not every store takes one in `If-Match` as it sends it."""
        self._body.close()
        bucket, name = self._address
        answer = self._store.client.get_object(Bucket=bucket, Key=name, Range=f"bytes={self._position}-")
        self._body = answer["Body"]
        if answer["ETag"] != self._etag:
            raise StoreError(f"{self._store.name}/{one_line(name)}: it was replaced while it was read")


class _S3Upload:
    """Delays the first part until a second one comes: most objects have only one and need one request."""

    def __init__(self, store: S3Store, key: str, headers: Mapping[str, str]) -> None:
        self._store, self._key, self._headers = store, key, headers
        self._bucket, self._name = store.address(key)
        self._lock = threading.Lock()
        self._first: bytes | None = None
        self._id: str | None = None
        self._etags: dict[int, str] = {}
        self._sizes: dict[int, int] = {}

    def put(self, number: int, part: bytes) -> None:
        with self._lock:
            if number == 1 and self._id is None:
                self._first = part
                return
            if self._id is None:
                with self._store.explained(self._key):
                    begin = cast("Any", self._store.client.create_multipart_upload)
                    made = begin(Bucket=self._bucket, Key=self._name, **{_HEADERS: self._headers})
                    self._id = cast("str", made["UploadId"])
            upload, first, self._first = self._id, self._first, None
        if first is not None:
            self._put(upload, 1, first)
        self._put(upload, number, part)

    def _put(self, upload: str, number: int, part: bytes) -> None:
        with self._store.explained(f"{self._key} part {number}"):
            done = self._store.send(
                self._store.client.upload_part,
                part,
                Bucket=self._bucket,
                Key=self._name,
                UploadId=upload,
                PartNumber=number,
            )
        self._etags[number], self._sizes[number] = done["ETag"], len(part)

    def complete(self) -> None:
        if self._id is None:
            self._store.put_bytes(self._key, self._first or b"", self._headers)
            return
        with self._store.explained(self._key):
            try:
                self._store.client.complete_multipart_upload(
                    Bucket=self._bucket,
                    Key=self._name,
                    UploadId=self._id,
                    MultipartUpload={
                        "Parts": [{"PartNumber": number, "ETag": etag} for number, etag in sorted(self._etags.items())]
                    },
                )
            except ClientError as error:  # a retry after a lost answer: it may be done already
                if error.response.get("Error", {}).get("Code") != "NoSuchUpload" or not self._is_there():
                    raise

    def _is_there(self) -> bool:
        head = self._store.client.head_object(Bucket=self._bucket, Key=self._name)
        return head["ContentLength"] == sum(self._sizes.values())

    def abort(self) -> None:
        if self._id is not None:
            with suppress(StoreError), self._store.explained(self._key):
                self._store.client.abort_multipart_upload(Bucket=self._bucket, Key=self._name, UploadId=self._id)
