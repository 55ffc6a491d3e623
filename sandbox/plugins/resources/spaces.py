"""Spaces: buckets, and what is set on them (the S3 side)."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from sandbox.catalog import SPACES_REGIONS
from sandbox.plugins.errors import ProviderError, unfinished
from sandbox.plugins.fields import between, one_of, ordered
from sandbox.plugins.resource import Change, Cloud, Made, Resource
from sandbox.plugins.resources.common import region, two_parts, unique_id
from sandbox.plugins.schema import how
from sandbox.plugins.values import Values

if TYPE_CHECKING:
    from sandbox.plugins.spaces import Spaces

_REGIONS = one_of(*SPACES_REGIONS)


def known_region(value: str) -> str | None:
    """Check that Spaces are in this region, in either case."""
    return _REGIONS(value.lower())


def _region_and_bucket(_: Cloud, id_: str) -> tuple[str, Values]:
    where, bucket = two_parts("", "<region>,<bucket>", id_)
    return bucket, {"region": where, "bucket": bucket, "name": bucket}


def missing(call: Any, *codes: str) -> Any:
    """Make a call, with None when it is refused for one of these reasons."""
    from sandbox.plugins.spaces import RefusedError  # noqa: PLC0415 - boto3 is slow to import, many stacks have no bucket

    try:
        return call()
    except RefusedError as error:
        if error.code in codes:
            return None
        raise


GONE = ("NoSuchBucket", "NoSuchKey", "NotFound", "404")


def _create_bucket(cloud: Cloud, new: Values) -> Made:
    s3, bucket = cloud.spaces(new["region"]), new["name"]
    s3.call("create_bucket", Bucket=bucket, ACL=new["acl"])
    # The official provider has no id before it has seen the bucket: what is not found in time is there and unrecorded.
    cloud.wait(
        f"Space {bucket}: there", 300, lambda: missing(lambda: s3.call("head_bucket", Bucket=bucket), *GONE) is not None
    )
    with unfinished(bucket):
        given = {key for key in ("corsRules", "versioning", "lifecycleRules") if new.get(key)}
        _set_up(s3, Change(id=bucket, old={}, new=new, names=frozenset({"acl", *given})))
    return Made(bucket)


def _set_up(s3: Spaces, change: Change) -> None:
    new, bucket = change.new, change.id
    if change.of("acl"):
        s3.call("put_bucket_acl", Bucket=bucket, ACL=new["acl"])
    if change.of("corsRules"):
        rules = [_cors_rule(rule) for rule in new.get("corsRules") or []]
        _put_cors(s3, bucket, rules)
    if change.of("versioning"):
        status = "Enabled" if (new.get("versioning") or {}).get("enabled") else "Suspended"
        s3.call("put_bucket_versioning", Bucket=bucket, VersioningConfiguration={"Status": status})
    if change.of("lifecycleRules"):
        _put_lifecycle(s3, bucket, new.get("lifecycleRules") or [])


def _put_cors(s3: Spaces, bucket: str, rules: list[Values]) -> None:
    if rules:
        s3.call("put_bucket_cors", Bucket=bucket, CORSConfiguration={"CORSRules": rules})
    else:
        s3.call("delete_bucket_cors", Bucket=bucket)


def _cors_rule(rule: Values) -> Values:
    wire = {
        "AllowedHeaders": rule.get("allowedHeaders"),
        "AllowedMethods": rule["allowedMethods"],
        "AllowedOrigins": rule["allowedOrigins"],
        "ExposeHeaders": rule.get("exposeHeaders"),
        "ID": rule.get("id"),
    }
    return {key: value for key, value in wire.items() if value} | {"MaxAgeSeconds": rule.get("maxAgeSeconds") or 0}


def _put_lifecycle(s3: Spaces, bucket: str, given: list[Values]) -> None:
    if not given:
        s3.call("delete_bucket_lifecycle", Bucket=bucket)
        return
    rules: list[Values] = []
    for rule in given:
        wire: Values = {
            "ID": rule.get("id") or unique_id("tf-s3-lifecycle-"),
            "Filter": {"Prefix": rule.get("prefix") or ""},
            "Status": "Enabled" if rule.get("enabled") else "Disabled",
        }
        if rule.get("abortIncompleteMultipartUploadDays"):
            wire["AbortIncompleteMultipartUpload"] = {"DaysAfterInitiation": rule["abortIncompleteMultipartUploadDays"]}
        if rule.get("expiration"):
            wire["Expiration"] = _expiration(rule["expiration"])
        if (rule.get("noncurrentVersionExpiration") or {}).get("days"):
            wire["NoncurrentVersionExpiration"] = {"NoncurrentDays": rule["noncurrentVersionExpiration"]["days"]}
        rules.append(wire)
    s3.call("put_bucket_lifecycle_configuration", Bucket=bucket, LifecycleConfiguration={"Rules": rules})


def _expiration(given: Values) -> Values:
    if given.get("date"):
        return {"Date": datetime.strptime(given["date"], "%Y-%m-%d").replace(tzinfo=UTC)}
    if given.get("days"):
        return {"Days": given["days"]}
    return {"ExpiredObjectDeleteMarker": bool(given.get("expiredObjectDeleteMarker"))}


def _read_bucket(cloud: Cloud, id_: str, known: Values) -> Values | None:
    where = known.get("region") or "nyc3"
    s3 = cloud.spaces(where)
    if missing(lambda: s3.call("head_bucket", Bucket=id_), *GONE) is None:
        return None
    where = s3.call("get_bucket_location", Bucket=id_).get("LocationConstraint") or where
    versioning = s3.call("get_bucket_versioning", Bucket=id_).get("Status") == "Enabled"
    lifecycle = missing(
        lambda: s3.call("get_bucket_lifecycle_configuration", Bucket=id_), "NoSuchLifecycleConfiguration"
    )
    return {
        "name": id_,
        "region": where,
        "versioning": {"enabled": versioning},
        "lifecycleRules": [_lifecycle_state(rule) for rule in (lifecycle or {}).get("Rules", ())],
        "bucketUrn": f"do:space:{id_}",
        "bucketDomainName": f"{id_}.{where}.digitaloceanspaces.com",
        "endpoint": f"{where}.digitaloceanspaces.com",
    }


def _lifecycle_state(rule: Values) -> Values:
    filter_ = rule.get("Filter") or {}
    prefix = (filter_.get("And") or filter_).get("Prefix")
    told: Values = {"id": rule.get("ID"), "prefix": prefix or None, "enabled": rule.get("Status") == "Enabled"}
    told["abortIncompleteMultipartUploadDays"] = (rule.get("AbortIncompleteMultipartUpload") or {}).get(
        "DaysAfterInitiation"
    )
    if expiration := rule.get("Expiration"):
        date = expiration.get("Date")
        told["expiration"] = {
            "date": f"{date:%Y-%m-%d}" if date else None,
            "days": expiration.get("Days"),
            "expiredObjectDeleteMarker": expiration.get("ExpiredObjectDeleteMarker"),
        }
    if noncurrent := rule.get("NoncurrentVersionExpiration"):
        told["noncurrentVersionExpiration"] = {"days": noncurrent.get("NoncurrentDays")}
    return told


def _delete_bucket(cloud: Cloud, id_: str, known: Values) -> None:
    s3 = cloud.spaces(known["region"])

    def gone() -> bool:
        return missing(lambda: s3.call("delete_bucket", Bucket=id_), "BucketNotEmpty") is not None

    while not gone():
        if not known.get("forceDestroy"):
            raise ProviderError(
                f"Space {id_}: not deleted, there are objects in it; "
                "delete them, or set forceDestroy and run `pulumi up` first"
            )
        versions = s3.all_versions(id_)
        for start in range(0, len(versions), 1000):
            s3.call("delete_objects", Bucket=id_, Delete={"Objects": versions[start : start + 1000]})


BUCKET = Resource(
    name="SpacesBucket",
    properties={
        "name": how(autoname=True),
        "region": region(default="nyc3", replace=True, check=known_region),
        "acl": how(default="private"),
        "versioning": how(inner={"enabled": how(default=False)}),
        "lifecycleRules": how(
            inner={
                "id": how(computed=True),
                "noncurrentVersionExpiration": how(inner={"days": how(check=between(1, 2**31))}),
            }
        ),
        "forceDestroy": how(default=False),
    },
    create=_create_bucket,
    read=_read_bucket,
    update=lambda cloud, change: _set_up(cloud.spaces(change.new["region"]), change),
    delete=_delete_bucket,
    find=_region_and_bucket,
)

_SETS = ("allowedHeaders", "allowedMethods", "allowedOrigins", "exposeHeaders")


def _sorted_rule(rule: Values) -> Values:
    return {key: ordered(value) if isinstance(value, list) else value for key, value in rule.items()}


def _put_cors_set(cloud: Cloud, new: Values) -> Made:
    rules = [_cors_rule(_sorted_rule(rule)) for rule in ordered(new["corsRules"], CORS.fields["corsRules"])]
    _put_cors(cloud.spaces(new["region"]), new["bucket"], rules)
    return Made(new["bucket"])


def _read_cors(cloud: Cloud, id_: str, known: Values) -> Values | None:
    """Read the rules. The official provider fails here when they are gone; a refresh should rather say so."""
    s3 = cloud.spaces(known["region"])
    answer = missing(lambda: s3.call("get_bucket_cors", Bucket=id_), "NoSuchCORSConfiguration", *GONE)
    if answer is None:
        return None
    keys = {
        "allowedHeaders": "AllowedHeaders",
        "allowedMethods": "AllowedMethods",
        "allowedOrigins": "AllowedOrigins",
        "exposeHeaders": "ExposeHeaders",
        "id": "ID",
        "maxAgeSeconds": "MaxAgeSeconds",
    }
    rules = [{key: rule[wire] for key, wire in keys.items() if rule.get(wire)} for rule in answer["CORSRules"]]
    return {"bucket": id_, "corsRules": rules}


CORS = Resource(
    name="SpacesBucketCorsConfiguration",
    properties={
        "region": how(replace=True, check=known_region),
        "corsRules": how(unordered=True, inner=dict.fromkeys(_SETS, how(unordered=True))),
    },
    create=_put_cors_set,
    read=_read_cors,
    update=lambda cloud, change: _put_cors_set(cloud, change.new),
    delete=lambda cloud, id_, known: _put_cors(cloud.spaces(known["region"]), id_, []),
    find=_region_and_bucket,
)


def _normal(policy: str) -> str:
    try:
        return json.dumps(json.loads(policy), sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    except ValueError:
        return policy


def _is_json(value: str) -> str | None:
    try:
        json.loads(value)
    except ValueError as error:
        return f"is not JSON: {error}"
    return None


def _put_policy(cloud: Cloud, new: Values) -> Made:
    cloud.spaces(new["region"]).call("put_bucket_policy", Bucket=new["bucket"], Policy=new["policy"])
    return Made(new["bucket"])


def _read_policy(cloud: Cloud, id_: str, known: Values) -> Values | None:
    """Read the policy; none is an empty one, as with the official provider, which then shows a difference."""
    s3 = cloud.spaces(known["region"])
    answer = missing(lambda: s3.call("get_bucket_policy", Bucket=id_), "NoSuchBucketPolicy", *GONE)
    return {"bucket": id_, "policy": (answer or {}).get("Policy", "")}


POLICY = Resource(
    name="SpacesBucketPolicy",
    properties={
        "bucket": how(replace=True),
        "region": how(replace=True, check=known_region),
        "policy": how(check=_is_json, stored=_normal, same=lambda old, new, _: _normal(old) == _normal(new)),
    },
    create=_put_policy,
    read=_read_policy,
    update=lambda cloud, change: _put_policy(cloud, change.new),
    delete=lambda cloud, id_, known: cloud.spaces(known["region"]).call("delete_bucket_policy", Bucket=id_),
    find=_region_and_bucket,
)

RESOURCES = (BUCKET, CORS, POLICY)
