"""Read a bucket's objects: listing, headers, bodies with their SHA-256, tags, and the ACL if the store has one.

Headers are taken unchanged from the wire, a character for each byte: botocore would parse dates and lower case.
"""

from __future__ import annotations

import hashlib
import json
import re
import tarfile
from collections.abc import Callable, Collection, Generator, Iterable, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from typing import IO, Any, cast

from botocore.exceptions import BotoCoreError, ClientError

from ops.core.errors import ObjectMissingError, StoreError
from ops.core.workers import run_all
from ops.repository.records import BucketObject
from ops.repository.stores.s3 import MISSING, S3Store, is_unsupported, one_line, why_refused

WORKERS = 8
BLOCK = 1 << 20
TRIES = 4
NO_DIGEST = "0" * 64
"""Placeholder for a SHA-256 that is not known yet; it is never stored in a manifest."""

METADATA = "x-amz-meta-"
KEPT = (
    "content-type", "cache-control", "content-disposition", "content-encoding", "content-language", "expires",
    "x-amz-website-redirect-location",
)  # fmt: skip
"""Headers that are restored, in addition to the user's metadata."""

_OF_THE_ANSWER = (
    "x-amz-request-id", "x-amz-id-2", "x-amz-cf-id", "x-amz-cf-pop", "x-amz-bucket-region", "x-amz-tagging-count",
    "x-amz-request-charged", "x-amz-delete-marker", "x-amz-content-sha256",
)  # fmt: skip
"""Headers that do not belong to the object, or are read elsewhere. Every other `x-amz-` header is named as not kept."""

_USUAL = {("x-amz-storage-class", "STANDARD"), ("x-amz-server-side-encryption", "AES256")}
"""Properties of an object that nobody has set; the target's own default replaces them."""

_ANYBODY = "http://acs.amazonaws.com/groups/global/AllUsers"
_EXAMPLES = 3
_PLAIN = re.compile(r"[\w./+@=,~-]+")


class UnreadableError(StoreError):
    """One object cannot be read, though the store answers: it is refused, or its length differs from the stated one."""

    def __init__(self, key: str, why: str) -> None:
        super().__init__(f"{one_line(key)}: {why}")
        self.why = why


class _WrongLengthError(Exception):
    """An object's body has a different length than its answer stated."""


@dataclass(frozen=True, kw_only=True)
class Facts:
    """An object in a listing. `key` is relative to the prefix."""

    key: str
    size: int
    etag: str
    modified: datetime

    @classmethod
    def of(cls, item: BucketObject) -> Facts:
        """Return those of an object that was read."""
        return cls(key=item.key, size=item.size, etag=item.etag, modified=item.modified)


class Body:
    """Reads an object's bytes, counting and hashing them. `facts` are the store's answer.

    `stated` is the length in the answer, or None.
    """

    def __init__(self, stream: IO[bytes], facts: BucketObject, stated: int | None) -> None:
        self._stream, self.facts, self.stated = stream, facts, stated
        self._digest, self._size = hashlib.sha256(), 0

    def read(self, size: int = -1, /) -> bytes:
        """Return the next bytes; raises a botocore error if the connection breaks or ends early."""
        block = self._stream.read(size)
        self._digest.update(block)
        self._size += len(block)
        return block

    def described(self) -> BucketObject:
        """Read to the end; return the facts with the size and digest of the bytes read."""
        while self.read(BLOCK):
            pass
        if self.stated not in (None, self._size):
            raise _WrongLengthError(f"{self._size} bytes came, {self.stated} were stated")
        return self.facts.model_copy(update={"size": self._size, "sha256": self._digest.hexdigest()})


class Reader:
    """Reads the objects of a store under its prefix, except the keys in `ignore`."""

    def __init__(self, store: S3Store, *, ignore: Collection[str], say: Callable[[str], None]) -> None:
        self._store, self._ignore, self._say = store, ignore, say
        self._has = {"ACL": True, "tags": True}

    @property
    def has_more_than_headers(self) -> bool:
        """Return True if objects may have tags or ACLs, whose changes do not show in the listing."""
        return any(self._has.values())

    def listed(self) -> list[Facts]:
        """List every object, by key. The object whose key is the prefix itself (a folder's marker) has the key ""."""
        bucket, prefix = self._store.address("")
        found: list[Facts] = []
        with self._store.explained(""):
            pages = self._store.client.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix)
            for page in pages:
                for item in page.get("Contents", []):
                    key = item.get("Key", "").removeprefix(prefix)
                    if key not in self._ignore:
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
        """Yield the object's body, or None if it is gone.

        Raises:
            UnreadableError: the store refuses this object.
        """
        try:
            answer = self._ask(self._store.client.get_object, key)
        except ObjectMissingError:
            yield None
            return
        try:
            try:
                facts = self._facts(key, answer)
            except ObjectMissingError:
                yield None
                return
            yield Body(cast("IO[bytes]", answer["Body"]), facts, answer.get("ContentLength"))
        finally:
            answer["Body"].close()

    def read(self, key: str) -> BucketObject | None:
        """Read an object only for its digest; None if it is gone."""

        def attempt() -> BucketObject | None:
            with self.open(key) as body:
                return body.described() if body else None

        return again(attempt, key)

    def head(self, item: BucketObject) -> BucketObject | None:
        """Return an object's current facts, with the pack it is in; None if it is gone.

        Raises:
            UnreadableError: the store refuses this object.
        """
        try:
            answer = self._ask(self._store.client.head_object, item.key)
            found = self._facts(item.key, answer)
        except ObjectMissingError:
            return None
        size = answer.get("ContentLength", item.size)
        return found.model_copy(update={"size": size, "pack": item.pack, "backup": item.backup})

    def probe(self, key: str) -> None:
        """Request an object without its bytes.

        Raises:
            UnreadableError: the store refuses this object.
        """
        with suppress(ObjectMissingError):
            self._ask(self._store.client.head_object, key)

    def refreshed(self, item: BucketObject) -> BucketObject | None:
        """Return an unchanged object with its current tags and ACL; None if it is gone."""
        if not self.has_more_than_headers:
            return item
        kept = [text for text in item.not_kept if not text.startswith(("tags:", "ACL:"))]
        try:
            return item.model_copy(update=self._beside(item.key, kept))
        except ObjectMissingError:
            return None

    def read_all(self) -> tuple[list[BucketObject], dict[str, str]]:
        """Read every object for its digest, several at a time; return them, and why others cannot be read."""
        unread: dict[str, str] = {}

        def read(item: Facts) -> BucketObject | None:
            try:
                return self.read(item.key)
            except UnreadableError as error:
                unread[item.key] = error.why
                return None

        found = run_all(read, self.listed(), workers=WORKERS, name="bucket")
        return [item for item in found if item is not None], unread

    def _ask(self, request: Callable[..., Any], key: str) -> Mapping[str, Any]:
        """Send a request about one object.

        Raises:
            ObjectMissingError: it is gone.
            UnreadableError: the store refuses it for this object.
            StoreError: the store does not answer, or refuses everything.
        """
        bucket, name = self._store.address(key)
        with self._store.explained(key):
            try:
                return cast("Mapping[str, Any]", request(Bucket=bucket, Key=name))
            except ClientError as error:
                code = error.response.get("Error", {}).get("Code", "")
                why = why_refused(error)
                if why is None or code in MISSING:
                    raise
                said = error.response.get("Error", {}).get("Message", "")
                raise UnreadableError(key, f"{why}{f': {said}' if said else ''}") from None

    def _facts(self, key: str, answer: Mapping[str, Any]) -> BucketObject:
        wire: Mapping[str, str] = answer.get("ResponseMetadata", {}).get("HTTPHeaders", {})
        named: Mapping[str, str] = answer.get("Metadata", {})  # with the names' case as on the wire
        headers = {name: wire[name] for name in KEPT if name in wire}
        if "ExpiresString" in answer:  # botocore removes one that is not a date from the headers
            headers["expires"] = answer["ExpiresString"]
        headers |= {METADATA + name: value for name, value in sorted(named.items())}
        return BucketObject(
            key=key,
            size=0,
            etag=answer["ETag"].strip('"'),
            modified=answer["LastModified"],
            sha256=NO_DIGEST,
            headers=headers,
            pack="",
            **self._beside(key, not_kept_of(wire)),
        )

    def _beside(self, key: str, not_kept: Iterable[str]) -> dict[str, Any]:
        """Read the tags and the ACL, which are in no header."""
        more = list(not_kept)
        tags, public = None, None
        if (answer := self._ask_beside(self._store.client.get_object_tagging, key, "tags", more)) is not None:
            tags = {tag["Key"]: tag["Value"] for tag in answer.get("TagSet", [])}
        if (answer := self._ask_beside(self._store.client.get_object_acl, key, "ACL", more)) is not None:
            public = _reads_public(answer, more)
        return {"tags": tags, "public": public, "not_kept": tuple(more)}

    def _ask_beside(
        self, request: Callable[..., Any], key: str, what: str, not_kept: list[str]
    ) -> Mapping[str, Any] | None:
        """Request tags or an ACL; None if the store has none at all, or refuses those of this object."""
        if not self._has[what]:
            return None
        bucket, name = self._store.address(key)
        with self._store.explained(key):
            try:
                return cast("Mapping[str, Any]", request(Bucket=bucket, Key=name))
            except ClientError as error:
                code = error.response.get("Error", {}).get("Code", "")
                if code == "NoSuchTagSet":
                    return {}
                if is_unsupported(error):
                    if self._has[what]:
                        self._say(f"{self._store.name}: objects have no {what} there ({code})")
                    self._has[what] = False
                    return None
                why = why_refused(error)
                if why is None or code in MISSING:
                    raise
                not_kept.append(f"{what}: {why}")
                return None


def not_kept_of(wire: Mapping[str, str]) -> list[str]:
    """List the properties in an answer's headers that a backup does not keep."""
    found: list[str] = []
    for name, value in sorted(wire.items()):
        of_store = name.startswith("x-amz-") and not name.startswith(METADATA)
        if not of_store or name in KEPT or name in _OF_THE_ANSWER or (name, value) in _USUAL:
            continue
        if name == "x-amz-version-id":
            found += ["versions: the bucket keeps versions, of which this is one"] if value != "null" else []
        elif name == "x-amz-missing-meta":
            found.append(f"user metadata: the store does not send {value} of its entries")
        else:
            found.append(f"{name.removeprefix('x-amz-')}: {value}")
    return found


def _reads_public(answer: Mapping[str, Any], not_kept: list[str]) -> bool:
    """Return True if everybody may read it; list every other grant that is not the owner's own."""
    owner, public = answer.get("Owner", {}).get("ID"), False
    for grant in answer.get("Grants", []):
        grantee, permission = grant.get("Grantee", {}), grant.get("Permission", "")
        if grantee.get("URI") == _ANYBODY and permission == "READ":
            public = True
        elif grantee.get("ID") != owner or owner is None:
            whom = grantee.get("URI", "").rpartition("/")[2] or grantee.get("DisplayName") or grantee.get("ID") or "?"
            not_kept.append(f"ACL: {permission} for {whom}")
            public = public or (grantee.get("URI") == _ANYBODY and permission == "FULL_CONTROL")
    return public


def summed_up(not_kept: Iterable[tuple[str, str]]) -> tuple[str, ...]:
    """Return one line per kind of property that is not kept, from pairs of key and text."""
    kinds: dict[str, dict[str, str]] = {}
    for key, text in not_kept:
        kinds.setdefault(text.partition(":")[0], {})[key] = text
    lines: list[str] = []
    for kind, texts in sorted(kinds.items()):
        same = next(iter(texts.values())) if len(set(texts.values())) == 1 else kind
        shown = ", ".join(named(key) for key in sorted(texts)[:_EXAMPLES])
        more = f" and {len(texts) - _EXAMPLES} more" if len(texts) > _EXAMPLES else ""
        lines.append(f"{same} ({shown}{more})")
    return tuple(lines)


def named(key: str) -> str:
    """Return a key for reports: unchanged, or quoted if it could be mistaken for something else."""
    return key if _PLAIN.fullmatch(key) else json.dumps(key, ensure_ascii=not key.isprintable())


def again(attempt: Callable[[], BucketObject | None], key: str) -> BucketObject | None:
    """Retry reading an object when the connection breaks while its bytes arrive: the client only retries requests.

    Raises:
        UnreadableError: it broke every time, or its length always differed.
    """
    for left in range(TRIES - 1, -1, -1):
        try:
            return attempt()
        except ObjectMissingError:
            return None
        except (BotoCoreError, tarfile.TarError, OSError, _WrongLengthError) as error:
            if isinstance(error, OSError) and error.errno is not None:  # an error of our own disk
                raise
            if not left:
                raise UnreadableError(key, f"cannot be read in full, tried {TRIES} times: {error}") from None
    raise AssertionError("unreachable")


def member_name(key: str) -> str:
    """Return the name of an object in its pack: its key, if that is a path that every tar extracts.

    Any other key (`a//b`, `../a`, a folder's marker `a/`) becomes `.ancla-keys/` and the SHA-256 of the key.
    """
    parts = key.split("/")
    plain = all(part not in ("", ".", "..") and len(part.encode()) < 256 and part.isprintable() for part in parts)
    plain = plain and "\\" not in key  # which tar treats as the start of an escape
    if plain and parts[0] != ".ancla-keys":
        return key
    return f".ancla-keys/{hashlib.sha256(key.encode()).hexdigest()}"
