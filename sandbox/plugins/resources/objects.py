"""Objects in Spaces."""

from __future__ import annotations

from base64 import b64decode
from pathlib import Path

from sandbox.plugins.errors import ProviderError
from sandbox.plugins.fields import filled, one_of
from sandbox.plugins.resource import Change, Cloud, Made, Resource
from sandbox.plugins.resources.spaces import GONE, known_region, missing
from sandbox.plugins.schema import how
from sandbox.plugins.values import Values

_HEADERS = {
    "cacheControl": "CacheControl",
    "contentType": "ContentType",
    "contentEncoding": "ContentEncoding",
    "contentLanguage": "ContentLanguage",
    "contentDisposition": "ContentDisposition",
    "websiteRedirect": "WebsiteRedirectLocation",
    "metadata": "Metadata",
}


def _content(new: Values) -> bytes:
    if new.get("source"):
        path = Path(new["source"]).expanduser()
        try:
            return path.read_bytes()
        except OSError as error:
            raise ProviderError(f"object {new['key']}: cannot read its source {path}: {error.strerror}") from None
    if new.get("content"):
        return new["content"].encode()
    return b64decode(new.get("contentBase64") or "")


def _put_object(cloud: Cloud, new: Values) -> Made:
    headers = {wire: new[key] for key, wire in _HEADERS.items() if new.get(key)}
    cloud.spaces(new["region"]).call(
        "put_object", Bucket=new["bucket"], Key=new["key"], ACL=new["acl"], Body=_content(new), **headers
    )
    return Made(new["key"])


def _read_object(cloud: Cloud, _: str, known: Values) -> Values | None:
    s3 = cloud.spaces(known["region"])
    answer = missing(lambda: s3.call("head_object", Bucket=known["bucket"], Key=known["key"]), *GONE)
    if answer is None:
        return None
    told = {key: answer.get(wire) for key, wire in _HEADERS.items()}
    told["metadata"] = {key.lower(): value for key, value in (answer.get("Metadata") or {}).items()}
    version = answer.get("VersionId")
    return told | {"etag": answer["ETag"].strip('"'), "versionId": version if version != "null" else None}


def _update_object(cloud: Cloud, change: Change) -> None:
    if change.names - {"acl", "forceDestroy"}:
        _put_object(cloud, change.new)
    elif change.of("acl"):
        new = change.new
        cloud.spaces(new["region"]).call("put_object_acl", Bucket=new["bucket"], Key=new["key"], ACL=new["acl"])


def _delete_object(cloud: Cloud, _: str, known: Values) -> None:
    s3, bucket, key = cloud.spaces(known["region"]), known["bucket"], known["key"].removeprefix("/")
    if not known.get("versionId"):
        missing(lambda: s3.call("delete_object", Bucket=bucket, Key=key), *GONE)
        return
    for version in s3.all_versions(bucket, key):
        if version["Key"] == key:
            s3.call("delete_object", Bucket=bucket, **version)


def _lower_keys(value: Values) -> str | None:
    upper = [key for key in value if key != key.lower()]
    return f"keys must be lower case: {', '.join(upper)}" if upper else None


def _check_object(new: Values) -> list[tuple[str, str]]:
    given = [key for key in ("source", "content", "contentBase64") if new.get(key)]
    return [(given[1], f"cannot be given beside {given[0]}")] if len(given) > 1 else []


def _no_import(_: Cloud, id_: str) -> tuple[str, Values]:
    raise ProviderError(f"object {id_}: cannot be imported")


OBJECT = Resource(
    name="SpacesBucketObject",
    properties={
        "region": how(replace=True, check=known_region),
        "bucket": how(replace=True, check=filled),
        "key": how(replace=True, check=filled),
        "acl": how(default="private", check=one_of("private", "public-read")),
        "contentType": how(computed=True),
        "metadata": how(check=_lower_keys),
        "etag": how(computed=True),
        "forceDestroy": how(default=False),
    },
    create=_put_object,
    read=_read_object,
    update=_update_object,
    delete=_delete_object,
    find=_no_import,
    check=_check_object,
)

RESOURCES = (OBJECT,)
