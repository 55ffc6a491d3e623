"""Reading a bucket's objects: listing, heads, bodies with their SHA-256, and the ACL where the store has one."""

from __future__ import annotations

import hashlib
import tarfile
from collections.abc import Callable, Collection, Generator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import IO, Any, cast

from botocore.exceptions import BotoCoreError, ClientError

from ops.core.errors import ObjectMissingError, StoreError
from ops.repository.records import BucketObject
from ops.repository.stores.s3 import S3Store

WORKERS = 8
BLOCK = 1 << 20
TRIES = 4
NO_DIGEST = "0" * 64
"""Stands for a SHA-256 that is not known yet; it never gets into a manifest."""

_EVERYBODY = "http://acs.amazonaws.com/groups/global/AllUsers"


@dataclass(frozen=True, kw_only=True)
class Facts:
    """An object as a listing shows it. `key` is relative to the prefix."""

    key: str
    size: int
    etag: str
    modified: datetime

    @classmethod
    def of(cls, item: BucketObject) -> Facts:
        """Return those of an object that was read."""
        return cls(key=item.key, size=item.size, etag=item.etag, modified=item.modified)


class Body:
    """An object's bytes as they come, counted into a SHA-256. `facts` are what the store said with them."""

    def __init__(self, stream: IO[bytes], facts: BucketObject) -> None:
        self._stream, self.facts = stream, facts
        self._digest = hashlib.sha256()

    def read(self, size: int = -1, /) -> bytes:
        """Return the next bytes; raises a botocore error when the line breaks, or ends early."""
        block = self._stream.read(size)
        self._digest.update(block)
        return block

    def described(self) -> BucketObject:
        """Return the facts with the digest of what was read."""
        while self.read(BLOCK):
            pass
        return self.facts.model_copy(update={"sha256": self._digest.hexdigest()})


class Reader:
    """Reads the objects of a store under its prefix, except the keys in `ignore`."""

    def __init__(self, store: S3Store, *, ignore: Collection[str], say: Callable[[str], None]) -> None:
        self._store, self._ignore, self._say = store, ignore, say
        self._has_acls = True

    def listed(self) -> list[Facts]:
        """List every object, by key."""
        bucket, prefix = self._store.address("")
        found: list[Facts] = []
        with self._store.explained(""):
            pages = self._store.client.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix)
            for page in pages:
                for item in page.get("Contents", []):
                    key = item.get("Key", "").removeprefix(prefix)
                    if key and key not in self._ignore:
                        found.append(
                            Facts(
                                key=key,
                                size=item.get("Size", 0),
                                etag=item.get("ETag", "").strip('"'),
                                modified=item["LastModified"].replace(microsecond=0),  # type: ignore[typeddict-item]
                            )
                        )
        return found

    @contextmanager
    def open(self, key: str) -> Generator[Body | None]:
        """Yield the object's body, or None when it is gone."""
        bucket, name = self._store.address(key)
        try:
            with self._store.explained(key):
                answer: Mapping[str, Any] = self._store.client.get_object(Bucket=bucket, Key=name)
            facts = self._facts(key, answer)
        except ObjectMissingError:
            yield None
            return
        try:
            yield Body(cast("IO[bytes]", answer["Body"]), facts)
        finally:
            answer["Body"].close()

    def read(self, key: str) -> BucketObject | None:
        """Read an object for its digest alone; None when it is gone."""

        def attempt() -> BucketObject | None:
            with self.open(key) as body:
                return body.described() if body else None

        return again(attempt, key)

    def head(self, item: BucketObject) -> BucketObject | None:
        """Return an object's facts as they are now, in the pack it is in; None when it is gone."""
        bucket, name = self._store.address(item.key)
        try:
            with self._store.explained(item.key):
                answer: Mapping[str, Any] = self._store.client.head_object(Bucket=bucket, Key=name)
            found = self._facts(item.key, answer)
        except ObjectMissingError:
            return None
        return found.model_copy(update={"pack": item.pack, "backup": item.backup})

    def read_all(self) -> list[BucketObject]:
        """Read every object for its digest, several at a time."""
        with ThreadPoolExecutor(WORKERS, thread_name_prefix="bucket") as pool:
            found = pool.map(self.read, [item.key for item in self.listed()])
            return [item for item in found if item is not None]

    def _facts(self, key: str, answer: Mapping[str, Any]) -> BucketObject:
        return BucketObject(
            key=key,
            size=answer["ContentLength"],
            etag=answer["ETag"].strip('"'),
            modified=answer["LastModified"],
            sha256=NO_DIGEST,
            content_type=answer.get("ContentType"),
            cache_control=answer.get("CacheControl"),
            content_disposition=answer.get("ContentDisposition"),
            content_encoding=answer.get("ContentEncoding"),
            content_language=answer.get("ContentLanguage"),
            metadata=answer.get("Metadata", {}),
            public=self._public(key),
            pack="",
        )

    def _public(self, key: str) -> bool | None:
        """Say whether the object's own ACL lets everybody read it; None where nobody can tell."""
        if not self._has_acls:
            return None
        bucket, name = self._store.address(key)
        try:
            grants = self._store.client.get_object_acl(Bucket=bucket, Key=name).get("Grants", [])
        except ClientError as error:
            code = error.response.get("Error", {}).get("Code", "")
            if code in ("NoSuchKey", "404"):
                raise ObjectMissingError(f"{self._store.name}/{key}: no such object") from None
            self._has_acls = False
            self._say(f"{self._store.name}: ACLs of objects cannot be read ({code}); they are not in this backup")
            return None
        return any(
            grant.get("Grantee", {}).get("URI") == _EVERYBODY and grant.get("Permission") in ("READ", "FULL_CONTROL")
            for grant in grants
        )


def again(attempt: Callable[[], BucketObject | None], key: str) -> BucketObject | None:
    """Read an object once more when the line breaks while its bytes come: the client retries requests only.

    Raises:
        StoreError: it broke every time.
    """
    for left in range(TRIES - 1, -1, -1):
        try:
            return attempt()
        except ObjectMissingError:
            return None
        except (BotoCoreError, tarfile.TarError, OSError) as error:
            if isinstance(error, OSError) and error.errno is not None:  # of our own disk
                raise
            if not left:
                raise StoreError(f"{key}: cannot be read whole, tried {TRIES} times: {error}") from None
    raise AssertionError("unreachable")


def member_name(key: str) -> str:
    """Return the name of an object in its pack: its key, where that is a path that every tar extracts.

    Any other (`a//b`, `../a`, a folder's marker `a/`) is `.ancla-keys/` and the SHA-256 of the key.
    """
    parts = key.split("/")
    plain = all(part not in ("", ".", "..") and len(part.encode()) < 256 and part.isprintable() for part in parts)
    plain = plain and "\\" not in key  # which tar takes for the beginning of another character
    if plain and parts[0] != ".ancla-keys":
        return key
    return f".ancla-keys/{hashlib.sha256(key.encode()).hexdigest()}"
