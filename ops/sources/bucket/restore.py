"""Putting a bucket's objects back into an empty bucket or prefix, with their metadata, several at a time."""

from __future__ import annotations

import hashlib
import io
import tarfile
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, cast

from boto3.exceptions import S3UploadFailedError
from boto3.s3.transfer import TransferConfig

from ops.core.errors import RestoreError, RestoreRefusedError, StoreError
from ops.repository.records import BucketObject, BucketRecord
from ops.repository.stores.s3 import S3Store
from ops.sources.base import Difference
from ops.sources.bucket.reader import BLOCK, WORKERS, member_name

MARK = ".ancla-restore-unfinished"
"""An object that stands beside the others until all of them are verified."""

SMALL = 8 << 20
COMPARED = (
    "size", "sha256", "content_type", "cache_control", "content_disposition", "content_encoding", "content_language",
    "metadata",
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where an object's bytes are: in a tar, from `begin` on."""

    pack: Path
    begin: int
    size: int


def refuse_used(store: S3Store) -> None:
    """Refuse a bucket or prefix that has an object.

    Raises:
        RestoreRefusedError: it has one.
        StoreError: there is no such bucket, or the key pair may not list it.
    """
    for item in store.list(""):
        raise RestoreRefusedError(
            f"{store.name}: is not empty ({item.key}); restore into an empty bucket or prefix with --into"
        )


def index(folder: Path, record: BucketRecord) -> dict[str, Place]:
    """Find every object of a record in the packs under `folder`; those of earlier backups lie in folders of their ids.

    Raises:
        RestoreError: a pack is missing or is no tar, or an object is not in its pack with its size.
    """
    wanted: dict[Path, list[BucketObject]] = {}
    for item in record.objects:
        wanted.setdefault(folder / (item.backup or "") / item.pack, []).append(item)
    found: dict[str, Place] = {}
    for pack, items in wanted.items():
        try:
            with tarfile.open(pack, "r:") as tar:
                members = {member.name: member for member in tar if member.isreg()}
        except (OSError, tarfile.TarError) as error:
            raise RestoreError(f"{pack.name}: cannot be read as a pack: {error}") from None
        for item in items:
            member = members.get(member_name(item.key))
            if member is None or member.size != item.size:
                have = "is not in it" if member is None else f"has {member.size} bytes there, {item.size} were read"
                raise RestoreError(f"{pack.name}: {item.key} {have}")
            found[item.key] = Place(pack=pack, begin=member.offset_data, size=member.size)
    return found


def put_all(store: S3Store, folder: Path, record: BucketRecord) -> None:
    """Put every object, after the mark that says "not finished".

    Raises:
        RestoreError: a pack cannot be read, or the store refused an object.
    """
    places = index(folder, record)
    try:
        store.put_bytes(MARK, b"A restore by `ops restore` is going on here, or has failed.\n")
        with ThreadPoolExecutor(WORKERS, thread_name_prefix="bucket") as pool:
            futures = [pool.submit(_put, store, places[item.key], item) for item in record.objects]
            try:
                for future in futures:
                    future.result()
            except BaseException:
                pool.shutdown(cancel_futures=True)
                raise
    except (StoreError, S3UploadFailedError) as error:
        raise RestoreError(f"{store.name}: {error}") from None


def read_packs(places: Mapping[str, Place], record: BucketRecord) -> list[Difference]:
    """Hash every object where it lies in its pack, and name each that has other bytes than were read.

    Raises:
        RestoreError: a pack cannot be read.
    """
    result: list[Difference] = []
    for item in record.objects:
        place = places[item.key]
        digest = hashlib.sha256()
        try:
            with place.pack.open("rb") as file:
                body = io.BufferedReader(_Slice(file, place))
                while block := body.read(BLOCK):
                    digest.update(block)
        except OSError as error:
            raise RestoreError(f"{place.pack.name}: cannot be read: {error.strerror}") from None
        if digest.hexdigest() != item.sha256:
            result.append(
                Difference(what=f"{item.key} sha256", found=f"{digest.hexdigest()[:16]}…", expected=item.sha256)
            )
    return result


def differences(found: BucketRecord, expected: BucketRecord) -> list[Difference]:
    """Name each object that is not as it was recorded: missing, too many, other bytes or other metadata."""
    have = {item.key: item for item in found.objects}
    want = {item.key: item for item in expected.objects}
    result: list[Difference] = []
    for key in sorted(have.keys() | want.keys()):
        left, right = have.get(key), want.get(key)
        if left is None or right is None:
            result.append(
                Difference(what=key, found="an object" if left else "none", expected="an object" if right else "none")
            )
            continue
        fields = [name for name in COMPARED if getattr(left, name) != getattr(right, name)]
        if left.public is not None and right.public is not None and left.public != right.public:
            fields.append("public")
        result += [
            Difference(what=f"{key} {name}", found=str(getattr(left, name)), expected=str(getattr(right, name)))
            for name in fields
        ]
    return result


def _put(store: S3Store, place: Place, item: BucketObject) -> None:
    bucket, name = store.address(item.key)
    arguments = _arguments(item)
    with place.pack.open("rb") as file, store.explained(item.key):
        if place.size <= SMALL:
            file.seek(place.begin)
            store.client.put_object(Bucket=bucket, Key=name, Body=file.read(place.size), **cast("Any", arguments))
        else:
            body = cast("IO[bytes]", io.BufferedReader(_Slice(file, place)))
            config = TransferConfig(multipart_chunksize=SMALL, max_concurrency=2)
            store.client.upload_fileobj(body, bucket, name, ExtraArgs=dict(arguments), Config=config)


def _arguments(item: BucketObject) -> Mapping[str, Any]:
    named = {
        "ContentType": item.content_type,
        "CacheControl": item.cache_control,
        "ContentDisposition": item.content_disposition,
        "ContentEncoding": item.content_encoding,
        "ContentLanguage": item.content_language,
        "Metadata": item.metadata,
        "ACL": "public-read" if item.public else None,
    }
    return {name: value for name, value in named.items() if value}


class _Slice(io.RawIOBase):
    """The part of a file that is one object."""

    def __init__(self, file: IO[bytes], place: Place) -> None:
        super().__init__()
        self._file, self._left = file, place.size
        file.seek(place.begin)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any, /) -> int:
        block = self._file.read(min(len(buffer), self._left))
        self._left -= len(block)
        buffer[: len(block)] = block
        return len(block)
