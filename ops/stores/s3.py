"""An S3-compatible bucket as a store: Spaces, R2, or the sandbox's own.

Three traps of boto3 with stores that are not AWS are avoided here: checksums that other stores refuse
(`when_required`; our own SHA-256 is in the manifest), the CRT transfer client that forgets the endpoint (`classic`),
and parts of unequal size, which R2 refuses (`ByteStream.read` fills each part).
The proxy and the certificate authorities come by `HTTPS_PROXY` and `AWS_CA_BUNDLE`, as for every S3 client.
"""

from __future__ import annotations

import math
from collections.abc import Generator, Iterable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, BinaryIO, cast

import boto3
from boto3.exceptions import Boto3Error
from boto3.s3.transfer import TransferConfig
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from blueprint.outputs import BucketKey, BucketOutput
from ops.errors import ObjectMissingError, StoreError, StoreUnreachableError
from ops.stores.base import ByteStream, StoredObject

if TYPE_CHECKING:
    from mypy_boto3_s3.client import S3Client

MIB = 1 << 20
PART_SIZE = 16 * MIB
MAX_PARTS = 9000  # S3 allows 10 000; the estimate may be a little low
CONCURRENCY = 4
REFUSED = {"AccessDenied", "InvalidAccessKeyId", "SignatureDoesNotMatch", "Forbidden", "403", "401", "Unauthorized"}
MISSING = {"NoSuchKey", "404", "NotFound"}


class S3Store:
    """The objects of `bucket` under its prefix."""

    def __init__(self, bucket: BucketOutput, key: BucketKey) -> None:
        self._bucket = bucket.name
        self._prefix = bucket.prefix.strip("/") + "/" if bucket.prefix.strip("/") else ""
        self._endpoint = bucket.endpoint
        self._client: S3Client = boto3.session.Session().client(
            "s3",
            region_name=bucket.region,
            endpoint_url=bucket.endpoint,
            aws_access_key_id=key.access_key,
            aws_secret_access_key=key.secret_key.get_secret_value(),
            config=Config(
                request_checksum_calculation="when_required",
                response_checksum_validation="when_required",
                retries={"mode": "standard", "max_attempts": 4},
                connect_timeout=10,
                read_timeout=60,
                max_pool_connections=CONCURRENCY * 4,
            ),
        )

    @property
    def name(self) -> str:
        """The address, such as s3://bucket/prefix."""
        return f"s3://{self._bucket}/{self._prefix}".rstrip("/")

    def put_stream(self, key: str, stream: ByteStream, *, expected_size: int) -> None:
        """Upload in equal parts; a failed upload is aborted, so that nothing is left."""
        part = part_size(expected_size)
        config = TransferConfig(
            multipart_threshold=part,
            multipart_chunksize=part,
            max_concurrency=CONCURRENCY,
            preferred_transfer_client="classic",
        )
        with self._explained(key):
            self._client.upload_fileobj(cast("BinaryIO", stream), self._bucket, self._prefix + key, Config=config)

    def put_bytes(self, key: str, content: bytes) -> None:
        """Put a small object in one request."""
        with self._explained(key):
            self._client.put_object(Bucket=self._bucket, Key=self._prefix + key, Body=content)

    @contextmanager
    def open(self, key: str) -> Generator[BinaryIO]:
        """Stream the object; a broken connection raises `StoreError` from `read`."""
        with self._explained(key):
            body = self._client.get_object(Bucket=self._bucket, Key=self._prefix + key)["Body"]
            try:
                yield cast("BinaryIO", body)
            finally:
                body.close()

    def list(self, prefix: str) -> Iterator[StoredObject]:
        """List page by page."""
        with self._explained(prefix):
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
        """Delete one by one: batch deletes need a Content-MD5 that not every store asks for in the same way."""
        for key in keys:
            with self._explained(key):
                self._client.delete_object(Bucket=self._bucket, Key=self._prefix + key)

    def abort_uploads(self, prefix: str, *, older_than_hours: float = 0) -> int:
        """Abort unfinished multipart uploads, which cost money and show in no listing."""
        limit = datetime.now(UTC) - timedelta(hours=older_than_hours)
        aborted = 0
        with self._explained(prefix):
            pages = self._client.get_paginator("list_multipart_uploads").paginate(
                Bucket=self._bucket, Prefix=self._prefix + prefix
            )
            for page in pages:
                for upload in page.get("Uploads", []):
                    if upload.get("Initiated", limit) <= limit:
                        self._client.abort_multipart_upload(
                            Bucket=self._bucket, Key=upload.get("Key", ""), UploadId=upload.get("UploadId", "")
                        )
                        aborted += 1
        return aborted

    @contextmanager
    def _explained(self, key: str) -> Generator[None]:
        where = f"s3://{self._bucket}/{self._prefix}{key} at {self._endpoint}"
        try:
            yield
        except ClientError as error:
            code = error.response.get("Error", {}).get("Code", "")
            if code in MISSING:
                raise ObjectMissingError(f"{where}: no such object") from None
            if code == "NoSuchBucket":
                raise StoreUnreachableError(f"{where}: no such bucket; run `pulumi up`") from None
            if code in REFUSED:
                raise StoreUnreachableError(f"{where}: the key pair is refused ({code})") from None
            raise StoreError(f"{where}: {code or 'refused'}") from None
        except Boto3Error as error:  # of upload_fileobj: the reason is in its text, with the code in brackets
            refused = next((code for code in REFUSED if f"({code})" in str(error)), None)
            if refused is not None:
                raise StoreUnreachableError(f"{where}: the key pair is refused ({refused})") from None
            raise StoreError(f"{where}: {str(error).rsplit(': ', 1)[-1]}") from None
        except BotoCoreError as error:
            raise StoreUnreachableError(
                f"{where}: no answer: {error}; check endpoint, proxy and certificates"
            ) from None


def part_size(expected_size: int) -> int:
    """Return the size of equal parts, in whole MiB, that keeps an object of `expected_size` bytes under `MAX_PARTS`."""
    return max(PART_SIZE, math.ceil(expected_size / MAX_PARTS / MIB) * MIB)
