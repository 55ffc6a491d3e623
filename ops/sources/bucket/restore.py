"""Restore a bucket's objects into an empty bucket or prefix, with their headers and tags, several at a time.

Objects or properties that the target refuses or does not keep are skipped and named; the rest is restored.
"""

from __future__ import annotations

import hashlib
import tarfile
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote, urlencode

from botocore.exceptions import ClientError

from blueprint.outputs import PUBLIC_READ
from ops.core.errors import RestoreError, RestoreRefusedError, StoreError
from ops.core.workers import run_all
from ops.repository.records import BucketObject, BucketRecord
from ops.repository.stores.s3 import S3Store, is_unsupported, why_refused
from ops.repository.upload import part_size
from ops.sources.base import Difference, Skipped
from ops.sources.bucket.reader import BLOCK, METADATA, WORKERS, Reader, UnreadableError, member_name, named

MARK = ".ancla-restore-unfinished"
"""Object that exists beside the others until all of them are verified."""

_VARIOUS = ("expires", "content-language", "x-amz-website-redirect-location", "x-amz-tagging", "x-amz-acl")
"""Headers that not every store has."""

_NO_TYPE = ("binary/octet-stream", "application/octet-stream")


@dataclass(frozen=True, kw_only=True)
class Place:
    """Location of an object's bytes in a tar, starting at `begin`."""

    pack: Path
    begin: int
    size: int


def refuse_used(store: S3Store) -> None:
    """Refuse a bucket or prefix that is not empty.

    Raises:
        RestoreRefusedError: it has one.
        StoreError: there is no such bucket, or the key pair may not list it.
    """
    for item in store.list(""):
        raise RestoreRefusedError(
            f"{store.name}: is not empty ({item.key}); restore into an empty bucket or prefix with --into"
        )


def index(folder: Path, record: BucketRecord) -> dict[str, Place]:
    """Find every object of a record in the packs under `folder`; those of earlier backups are in folders named by id.

    Raises:
        RestoreError: a pack is missing or is not a tar, or an object is not in its pack with its size.
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
                raise RestoreError(f"{pack.name}: {named(item.key)} {have}")
            found[item.key] = Place(pack=pack, begin=member.offset_data, size=member.size)
    return found


def put_all(store: S3Store, folder: Path, record: BucketRecord, *, unknown_acl: str | None = None) -> list[Skipped]:
    """Put every object, after the mark that means "not finished"; return what the store refuses or does not keep.

    `unknown_acl` is the canned ACL of objects of which the backup does not know who may read them.

    Raises:
        RestoreError: a pack cannot be read, the store does not answer, or it refuses every object.
    """
    places = index(folder, record)
    unfit: dict[str, list[Skipped]] = {}
    reader = Reader(store, ignore=(), say=lambda _: None)

    def put(item: BucketObject) -> None:
        if skipped := _put(store, reader, places[item.key], item, unknown_acl):
            unfit[item.key] = skipped

    try:
        store.put_bytes(MARK, b"A restore by `ops restore` is going on here, or has failed.\n")
        run_all(put, record.objects, workers=WORKERS, name="bucket")
    except StoreError as error:
        raise RestoreError(f"{store.name}: {error}") from None
    skipped = [each for key in sorted(unfit) for each in unfit[key]]
    if record.objects and {named(item.key) for item in record.objects} <= {each.what for each in skipped}:
        raise RestoreError(f"{store.name}: refuses every object: {skipped[0]}")
    return skipped


def without_acl(record: BucketRecord) -> int:
    """Count the objects of which the backup does not know who may read them."""
    return sum(item.public is None for item in record.objects)


def read_packs(places: Mapping[str, Place], record: BucketRecord) -> list[Difference]:
    """Hash every object in its pack, and list each whose bytes differ from the record.

    Raises:
        RestoreError: a pack cannot be read.
    """
    result: list[Difference] = []
    for item in record.objects:
        place = places[item.key]
        digest = hashlib.sha256()
        try:
            with place.pack.open("rb") as file:
                file.seek(place.begin)
                left = place.size
                while block := file.read(min(BLOCK, left)):
                    digest.update(block)
                    left -= len(block)
        except OSError as error:
            raise RestoreError(f"{place.pack.name}: cannot be read: {error.strerror}") from None
        if digest.hexdigest() != item.sha256:
            result.append(
                Difference(what=f"{named(item.key)} sha256", found=f"{digest.hexdigest()[:16]}…", expected=item.sha256)
            )
    return result


def differences(found: BucketRecord, expected: BucketRecord, skipped: Sequence[Skipped] = ()) -> list[Difference]:
    """List each object that differs from the record: missing, too many, other bytes, headers, tags or ACL."""
    have = {item.key: item for item in found.objects}
    want = {item.key: item for item in expected.objects}
    left_out = {each.what for each in skipped}
    result: list[Difference] = []
    for key in sorted(have.keys() | want.keys() | found.unread.keys()):
        left, right = have.get(key), want.get(key)
        if named(key) in left_out:
            continue
        if left is None or right is None:
            there = "an object" if left else found.unread.get(key, "none")
            result.append(Difference(what=named(key), found=there, expected="an object" if right else "none"))
            continue
        for field, (is_now, was) in _unequal(left, right).items():
            what = f"{named(key)} {field}"
            if what not in left_out and not (field.startswith(METADATA) and _metadata_of(key) in left_out):
                result.append(Difference(what=what, found=str(is_now), expected=str(was)))
    return result


def _unequal(found: BucketObject, expected: BucketObject) -> dict[str, tuple[object, object]]:
    """Return the differences by name: the found and the recorded value."""
    pairs: dict[str, tuple[object, object]] = {
        "size": (found.size, expected.size),
        "sha256": (found.sha256, expected.sha256),
    }
    now, was = _headers_of(found), _headers_of(expected)
    pairs |= {name: (now.get(name), was.get(name)) for name in sorted(now.keys() | was.keys())}
    if found.tags is not None or expected.tags:
        pairs["tags"] = (found.tags or {}, expected.tags or {})
    if found.public is not None and expected.public is not None:
        pairs["public"] = (found.public, expected.public)
    return {name: pair for name, pair in pairs.items() if pair[0] != pair[1]}


def _headers_of(item: BucketObject) -> dict[str, str]:
    """Return headers for comparison: names ignore case, and a type that nobody set is the store's own."""
    headers = {name.lower(): value for name, value in item.headers.items()}
    if headers.get("content-type") in _NO_TYPE:
        del headers["content-type"]
    return headers


def _metadata_of(key: str) -> str:
    return f"{named(key)} user metadata"


def _put(store: S3Store, reader: Reader, place: Place, item: BucketObject, unknown_acl: str | None) -> list[Skipped]:
    """Put one object, without the headers that the store refuses; return what is missing in the end."""
    if not store.address(item.key)[1]:
        why = "its key is the prefix itself, and the target has none"
        return [Skipped(what=named(item.key), why=why, mend="restore into a prefix")]
    wanted = dict(item.headers)
    if item.tags:
        wanted["x-amz-tagging"] = urlencode(item.tags, quote_via=quote)
    if acl := unknown_acl if item.public is None else PUBLIC_READ if item.public else None:
        wanted["x-amz-acl"] = acl
    refused: dict[str, str] = {}
    why = _attempt(store, place, item, wanted)
    if why is not None:
        parts = list(dict.fromkeys(map(_part_of, wanted)))
        without = [{part} for part in parts] + [set(parts)] * (len(parts) > 1)
        for dropped in without:
            left = {name: value for name, value in wanted.items() if _part_of(name) not in dropped}
            if _attempt(store, place, item, left) is None:
                refused = dict.fromkeys(dropped, why)
                break
        else:
            return [Skipped(what=named(item.key), why=why, mend="its bytes are in the backup; put it by hand")]
    if any(_is_unusual(*each) for each in wanted.items()):
        refused |= _not_kept_by(reader, item, refused)
    mend = "give it to the object by the store's own means; `backup show` has it"
    return [Skipped(what=f"{named(item.key)} {part}", why=said, mend=mend) for part, said in sorted(refused.items())]


def _attempt(store: S3Store, place: Place, item: BucketObject, headers: Mapping[str, str]) -> str | None:
    """Put an object with these headers; return why the store refuses it."""
    sizes = part_size(place.size)
    with place.pack.open("rb") as file, store.explained(item.key):
        file.seek(place.begin)
        upload = store.upload(item.key, headers)
        try:
            for number, begin in enumerate(range(0, place.size, sizes), 1):
                upload.put(number, file.read(min(sizes, place.size - begin)))
            upload.complete()
        except BaseException as error:
            upload.abort()
            cause = error if isinstance(error, ClientError) else error.__context__
            if isinstance(cause, ClientError) and (why := _refusal(cause, headers)) is not None:
                return why
            raise
    return None


def _refusal(error: ClientError, headers: Mapping[str, str]) -> str | None:
    """Return the store's message if it refuses only this object or its properties."""
    code = error.response.get("Error", {}).get("Code", "")
    odd = code == "SignatureDoesNotMatch" and not all(value.isascii() for value in headers.values())
    if odd or is_unsupported(error) or why_refused(error) is not None:
        said = " ".join(error.response.get("Error", {}).get("Message", "").split())
        return f"the store refuses it ({code}{f': {said}' if said else ''})"
    return None


def _not_kept_by(reader: Reader, item: BucketObject, refused: Collection[str]) -> dict[str, str]:
    """Read an object's current properties; return those that the store accepted and did not keep unchanged."""
    try:
        found = reader.head(item)
    except UnreadableError:  # the comparison will report it
        return {}
    if found is None:
        return {}
    parts: dict[str, str] = {}
    for name, (now, was) in _unequal(found, item).items():
        part = _part_of(name)
        if was and part not in (*refused, "size", "sha256"):
            parts[part] = f"the store keeps it as {now!r}" if now else "the store does not keep it"
    if item.public and found.public is None and "public" not in refused:
        parts["public"] = "the store does not tell who may read an object"
    return parts


def _part_of(header: str) -> str:
    """Return the group that a header belongs to: the user's metadata is one group."""
    if header.lower().startswith(METADATA):
        return "user metadata"
    return {"x-amz-acl": "public", "x-amz-tagging": "tags"}.get(header, header)


def _is_unusual(name: str, value: str) -> bool:
    """Return True for a header that stores handle differently: they may answer 200 and not keep it."""
    plain = value.isascii() and value.isprintable() and "  " not in value and not value.startswith("=?")
    return not plain or name in _VARIOUS
