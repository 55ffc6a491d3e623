"""Spaces, CDN, registry and DNS under their real names, by way of the proxy, with stock clients."""

from __future__ import annotations

import io
import os
import ssl
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import boto3
import dns.flags
import dns.message
import dns.query
import dns.rcode
import httpx
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError

from sandbox.parts.base import CdnSpec, DnsRecord, RegistryLogin, SpacesKey
from sandbox.parts.containers import ContainerParts
from tests.sandbox.parts.conftest import eventually

pytestmark = pytest.mark.containers
BUCKET, OTHER = "bucket-one", "bucket-two"
FULL = SpacesKey(access_key="DO00FULL", secret_key="f" * 40, grants=(("", "fullaccess"),))
READWRITE = SpacesKey(access_key="DO00RW", secret_key="w" * 40, grants=((BUCKET, "readwrite"),))
READ = SpacesKey(access_key="DO00RO", secret_key="r" * 40, grants=((BUCKET, "read"),))
CDN = CdnSpec(
    id="cdn-1",
    origin=f"{BUCKET}.nyc3.digitaloceanspaces.com",
    endpoint=f"{BUCKET}.nyc3.cdn.digitaloceanspaces.com",
    ttl=3600,
)
Client = Callable[..., Any]


@pytest.fixture(scope="session")
def bundle(parts: ContainerParts, tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("bundle") / "bundle.pem"
    file.write_text(parts.authority.bundle())
    return file


@pytest.fixture(scope="session")
def client(parts: ContainerParts, bundle: Path) -> Client:
    proxy = f"http://127.0.0.1:{parts.instance.proxy_port}"

    def make(key: SpacesKey = FULL, region: str = "nyc3", scope: str = "us-east-1", style: str = "virtual") -> Any:
        return boto3.client(
            "s3", endpoint_url=f"https://{region}.digitaloceanspaces.com", region_name=scope, verify=str(bundle),
            aws_access_key_id=key.access_key, aws_secret_access_key=key.secret_key,
            config=Config(proxies={"https": proxy}, s3={"addressing_style": style}, retries={"max_attempts": 1}),
        )  # fmt: skip

    return make


@pytest.fixture(scope="session")
def web(parts: ContainerParts, bundle: Path) -> Iterator[httpx.Client]:
    """Anybody's browser."""
    context = ssl.create_default_context(cafile=str(bundle))
    proxy = f"http://127.0.0.1:{parts.instance.proxy_port}"
    with httpx.Client(proxy=proxy, verify=context, trust_env=False, timeout=60) as session:
        yield session


@pytest.fixture(scope="session", autouse=True)
def world(parts: ContainerParts, client: Client) -> None:
    parts.dns.set_zones(
        {
            "example.org": (
                DnsRecord(name="example.org", type="A", data="198.51.100.7", ttl=60),
                DnsRecord(name="assets.example.org", type="CNAME", data=f"{CDN.endpoint}.", ttl=60),
                DnsRecord(name="example.org", type="TXT", data='"v=spf1 -all"', ttl=60),
                DnsRecord(name="example.org", type="CAA", data='0 issue "letsencrypt.org"', ttl=60),
                DnsRecord(name="*.wild.example.org", type="A", data="198.51.100.8", ttl=60),
            )
        }
    )
    parts.spaces.set_keys((FULL, READWRITE, READ))
    parts.edge.set_cdns((CDN,))
    client().create_bucket(Bucket=BUCKET, ACL="private")
    client().create_bucket(Bucket=OTHER, ACL="private")


def refused(call: Callable[[], Any]) -> str:
    """The S3 error code that a call ends with."""
    with pytest.raises(ClientError) as caught:
        call()
    return str(caught.value.response["Error"]["Code"])


@pytest.mark.parametrize("scope", ["nyc3", "us-east-1"])
@pytest.mark.parametrize("style", ["virtual", "path"])
def test_either_region_in_the_signature_and_either_style_works(client: Client, scope: str, style: str) -> None:
    s3 = client(scope=scope, style=style)
    s3.put_object(Bucket=BUCKET, Key="dir/a b+ñ.txt", Body=b"hello", ContentType="text/plain")
    assert s3.get_object(Bucket=BUCKET, Key="dir/a b+ñ.txt")["Body"].read() == b"hello"
    assert {bucket["Name"] for bucket in s3.list_buckets()["Buckets"]} == {BUCKET, OTHER}
    assert s3.get_bucket_location(Bucket=BUCKET)["LocationConstraint"] == "nyc3"
    assert s3.head_object(Bucket=BUCKET, Key="dir/a b+ñ.txt")["ContentLength"] == 5


def test_signatures_are_checked_by_gateway_and_front(client: Client) -> None:
    forged = SpacesKey(access_key=FULL.access_key, secret_key="x" * 40)
    assert refused(lambda: client(forged).list_objects_v2(Bucket=BUCKET)) == "SignatureDoesNotMatch"
    assert refused(lambda: client(forged).get_bucket_location(Bucket=BUCKET)) == "SignatureDoesNotMatch"
    unknown = SpacesKey(access_key="DO00NOBODY", secret_key="x" * 40)
    assert refused(lambda: client(unknown).list_objects_v2(Bucket=BUCKET)) == "InvalidAccessKeyId"


def test_grants_hold(client: Client) -> None:
    client().put_object(Bucket=BUCKET, Key="granted", Body=b"1")
    client().put_object(Bucket=OTHER, Key="other", Body=b"2")
    writer, reader = client(READWRITE), client(READ)
    for allowed in (writer, reader):
        assert allowed.get_object(Bucket=BUCKET, Key="granted")["Body"].read() == b"1"
        allowed.list_objects_v2(Bucket=BUCKET)
        allowed.head_bucket(Bucket=BUCKET)
        for denied in (
            lambda s3=allowed: s3.list_objects_v2(Bucket=OTHER),
            lambda s3=allowed: s3.get_object(Bucket=OTHER, Key="other"),
            lambda s3=allowed: s3.list_buckets(),
            lambda s3=allowed: s3.create_bucket(Bucket="bucket-three"),
            lambda s3=allowed: s3.put_bucket_policy(Bucket=BUCKET, Policy="{}"),
            lambda s3=allowed: s3.put_bucket_acl(Bucket=BUCKET, ACL="public-read"),
            lambda s3=allowed: s3.copy_object(Bucket=BUCKET, Key="stolen", CopySource=f"{OTHER}/other"),
        ):
            assert refused(denied) == "AccessDenied"
    writer.put_object(Bucket=BUCKET, Key="written", Body=b"3")
    writer.delete_object(Bucket=BUCKET, Key="written")
    assert refused(lambda: reader.put_object(Bucket=BUCKET, Key="written", Body=b"3")) == "AccessDenied"
    assert refused(lambda: reader.delete_object(Bucket=BUCKET, Key="granted")) == "AccessDenied"


def test_a_removed_key_is_out_at_once(parts: ContainerParts, client: Client) -> None:
    parts.spaces.set_keys((FULL, READWRITE))
    try:
        assert refused(lambda: client(READ).list_objects_v2(Bucket=BUCKET)) == "InvalidAccessKeyId"
    finally:
        parts.spaces.set_keys((FULL, READWRITE, READ))
    client(READ).list_objects_v2(Bucket=BUCKET)


def test_canned_acls_decide_what_strangers_see(client: Client, web: httpx.Client) -> None:
    s3, base = client(), f"https://{BUCKET}.nyc3.digitaloceanspaces.com"
    s3.put_object(Bucket=BUCKET, Key="acl/open.txt", Body=b"open", ACL="public-read", ContentType="text/plain")
    s3.put_object(Bucket=BUCKET, Key="acl/shut.txt", Body=b"shut")
    answer = web.get(f"{base}/acl/open.txt")
    assert (answer.status_code, answer.text, answer.headers["content-type"]) == (200, "open", "text/plain")
    assert web.get(f"{base}/acl/shut.txt").status_code == 403
    assert web.get(f"{base}/").status_code == 403
    s3.put_object_acl(Bucket=BUCKET, Key="acl/shut.txt", ACL="public-read")
    assert web.get(f"{base}/acl/shut.txt").text == "shut"
    s3.put_object(Bucket=BUCKET, Key="acl/open.txt", Body=b"overwritten")  # a new object is private again
    assert web.get(f"{base}/acl/open.txt").status_code == 403
    assert s3.get_object_acl(Bucket=BUCKET, Key="acl/shut.txt")["Grants"][-1]["Permission"] == "READ"
    s3.put_bucket_acl(Bucket=BUCKET, ACL="public-read")
    assert "acl/shut.txt" in web.get(f"{base}/?prefix=acl/").text
    s3.put_bucket_acl(Bucket=BUCKET, ACL="private")
    assert web.get(f"{base}/?prefix=acl/").status_code == 403
    assert web.put(f"{base}/acl/new.txt", content=b"x").status_code == 403


def test_a_bucket_policy_opens_objects(parts: ContainerParts, client: Client, web: httpx.Client) -> None:
    s3, address = client(), f"https://{OTHER}.nyc3.digitaloceanspaces.com/policy.txt"
    s3.put_object(Bucket=OTHER, Key="policy.txt", Body=b"p")
    assert web.get(address).status_code == 403
    s3.put_bucket_policy(Bucket=OTHER, Policy=policy_of(OTHER))
    assert web.get(address).text == "p"
    assert parts.spaces.with_policy() == {OTHER}
    s3.delete_bucket_policy(Bucket=OTHER)
    assert web.get(address).status_code == 403
    assert parts.spaces.with_policy() == set()
    assert refused(lambda: s3.get_bucket_policy(Bucket=OTHER)) == "NoSuchBucketPolicy"


def policy_of(bucket: str) -> str:
    return (
        '{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":"*","Action":"s3:GetObject",'
        f'"Resource":"arn:aws:s3:::{bucket}/policy.txt"}}]}}'
    )


def test_a_bucket_of_a_limited_key_takes_no_policy_and_opens_object_by_object(
    client: Client, web: httpx.Client
) -> None:
    """As documented; the app's own key opens what it uploads, for strangers and for the CDN."""
    assert refused(lambda: client().put_bucket_policy(Bucket=BUCKET, Policy=policy_of(BUCKET))) == "AccessDenied"
    writer = client(READWRITE)
    writer.put_object(Bucket=BUCKET, Key="by-the-app.txt", Body=b"seen", ACL="public-read")
    for host in (f"{BUCKET}.nyc3.digitaloceanspaces.com", CDN.endpoint):
        assert web.get(f"https://{host}/by-the-app.txt").text == "seen"
    assert writer.get_object_acl(Bucket=BUCKET, Key="by-the-app.txt")["Grants"][-1]["Permission"] == "READ"
    assert refused(lambda: writer.put_object(Bucket=BUCKET, Key="x", Body=b"", ACL="bucket-owner-read")) == (
        "InvalidArgument"
    )


@pytest.fixture
def switch(parts: ContainerParts) -> Iterator[Callable[..., None]]:
    yield lambda **switches: parts.spaces.set_switches(switches)
    parts.spaces.set_switches({})


def test_acls_are_kept_from_limited_keys_on_request(client: Client, switch: Callable[..., None]) -> None:
    s3, writer = client(), client(READWRITE)
    s3.put_object(Bucket=BUCKET, Key="acl.txt", Body=b"1", ACL="public-read")
    switch(limited_keys_read_no_acl=True, limited_keys_set_no_acl=True)
    assert refused(lambda: writer.get_object_acl(Bucket=BUCKET, Key="acl.txt")) == "AccessDenied"
    assert refused(lambda: writer.put_object(Bucket=BUCKET, Key="a", Body=b"", ACL="public-read")) == "AccessDenied"
    writer.put_object(Bucket=BUCKET, Key="a", Body=b"")
    assert len(s3.get_object_acl(Bucket=BUCKET, Key="acl.txt")["Grants"]) == 2


def test_a_new_bucket_is_not_found_for_a_while_on_request(client: Client, switch: Callable[..., None]) -> None:
    s3 = client()
    switch(unseen_seconds=600)
    s3.create_bucket(Bucket="bucket-unseen")
    assert refused(lambda: s3.head_bucket(Bucket="bucket-unseen")) == "404"
    assert refused(lambda: s3.list_objects_v2(Bucket="bucket-unseen")) == "NoSuchBucket"
    assert refused(lambda: s3.create_bucket(Bucket="bucket-unseen")) == "BucketAlreadyExists"
    switch()
    s3.head_bucket(Bucket="bucket-unseen")
    s3.delete_bucket(Bucket="bucket-unseen")


def test_the_name_of_a_deleted_bucket_stays_taken_on_request(client: Client, switch: Callable[..., None]) -> None:
    s3 = client()
    s3.create_bucket(Bucket="bucket-gone")
    s3.put_object(Bucket="bucket-gone", Key="x", Body=b"")
    assert refused(lambda: s3.delete_bucket(Bucket="bucket-gone")) == "BucketNotEmpty"
    s3.delete_object(Bucket="bucket-gone", Key="x")
    s3.delete_bucket(Bucket="bucket-gone")
    assert refused(lambda: s3.head_bucket(Bucket="bucket-gone")) == "404"
    switch(deleted_name_seconds=600)
    assert refused(lambda: s3.create_bucket(Bucket="bucket-gone")) == "BucketAlreadyExists"
    switch()
    s3.create_bucket(Bucket="bucket-gone")
    s3.delete_bucket(Bucket="bucket-gone")


def test_another_account_may_have_a_buckets_name(client: Client, switch: Callable[..., None]) -> None:
    switch(foreign_buckets=["theirs"])
    assert refused(lambda: client().create_bucket(Bucket="theirs")) == "BucketAlreadyExists"
    assert refused(lambda: client().head_bucket(Bucket="theirs")) == "403"


def test_lifecycle_cors_and_versioning_are_kept(client: Client, web: httpx.Client) -> None:
    s3 = client()
    assert refused(lambda: s3.get_bucket_lifecycle_configuration(Bucket=OTHER)) == "NoSuchLifecycleConfiguration"
    rule = {"ID": "old", "Status": "Enabled", "Filter": {"Prefix": "tmp/"}, "Expiration": {"Days": 3}}
    s3.put_bucket_lifecycle_configuration(Bucket=OTHER, LifecycleConfiguration={"Rules": [rule]})
    assert s3.get_bucket_lifecycle_configuration(Bucket=OTHER)["Rules"] == [rule]
    s3.delete_bucket_lifecycle(Bucket=OTHER)
    assert refused(lambda: s3.get_bucket_lifecycle_configuration(Bucket=OTHER)) == "NoSuchLifecycleConfiguration"
    cors = {
        "AllowedMethods": ["GET"],
        "AllowedOrigins": ["https://example.org"],
        "AllowedHeaders": ["*"],
        "MaxAgeSeconds": 60,
    }
    s3.put_bucket_cors(Bucket=OTHER, CORSConfiguration={"CORSRules": [cors]})
    assert s3.get_bucket_cors(Bucket=OTHER)["CORSRules"] == [cors]
    asked = {"Origin": "https://example.org", "Access-Control-Request-Method": "GET"}
    answer = web.options(f"https://{OTHER}.nyc3.digitaloceanspaces.com/x", headers=asked)
    assert answer.headers["access-control-allow-origin"] == "https://example.org"
    s3.put_bucket_versioning(Bucket=OTHER, VersioningConfiguration={"Status": "Enabled"})
    for text in (b"one", b"two"):
        s3.put_object(Bucket=OTHER, Key="versioned", Body=text)
    versions = s3.list_object_versions(Bucket=OTHER, Prefix="versioned")["Versions"]
    assert len(versions) == 2


def test_an_etag_in_quotes_is_no_condition_of_a_put(client: Client) -> None:
    s3 = client()
    etag = s3.put_object(Bucket=BUCKET, Key="conditional", Body=b"1")["ETag"]
    assert refused(lambda: s3.put_object(Bucket=BUCKET, Key="conditional", Body=b"2", IfMatch=etag)) == (
        "PreconditionFailed"
    )
    s3.put_object(Bucket=BUCKET, Key="conditional", Body=b"3", IfMatch=etag.strip('"'))
    assert s3.get_object(Bucket=BUCKET, Key="conditional")["Body"].read() == b"3"


def test_bucket_names_are_unique_over_regions_and_making_ones_own_again_is_refused(client: Client) -> None:
    assert refused(lambda: client().create_bucket(Bucket=BUCKET)) == "BucketAlreadyExists"
    assert refused(lambda: client(region="ams3").create_bucket(Bucket=BUCKET)) == "BucketAlreadyExists"
    assert refused(lambda: client(region="ams3").list_objects_v2(Bucket=BUCKET)) == "NoSuchBucket"
    assert refused(lambda: client().delete_bucket(Bucket=BUCKET)) == "BucketNotEmpty"


def test_big_objects_go_through_in_parts_and_ranges(client: Client) -> None:
    s3, data = client(), os.urandom(24 << 20)
    s3.upload_fileobj(io.BytesIO(data), BUCKET, "big.bin")
    assert s3.get_object(Bucket=BUCKET, Key="big.bin")["Body"].read() == data
    assert (
        s3.get_object(Bucket=BUCKET, Key="big.bin", Range="bytes=9000000-9000099")["Body"].read()
        == data[9000000:9000100]
    )
    upload = s3.create_multipart_upload(Bucket=BUCKET, Key="broken.bin")["UploadId"]
    assert any(each["UploadId"] == upload for each in s3.list_multipart_uploads(Bucket=BUCKET)["Uploads"])
    s3.abort_multipart_upload(Bucket=BUCKET, Key="broken.bin", UploadId=upload)


def test_presigned_addresses_work_for_what_they_were_signed(client: Client, web: httpx.Client) -> None:
    s3 = client(scope="nyc3")  # with us-east-1 boto3 presigns by version 2
    s3.put_object(Bucket=BUCKET, Key="presigned", Body=b"yes")
    address = s3.generate_presigned_url("get_object", Params={"Bucket": BUCKET, "Key": "presigned"}, ExpiresIn=60)
    assert web.get(address).text == "yes"
    assert web.get(address.replace("presigned", "granted")).status_code == 403


def test_the_cdn_caches_until_it_is_purged(parts: ContainerParts, client: Client, web: httpx.Client) -> None:
    s3, address = client(), f"https://{CDN.endpoint}/cdn/logo.txt"
    s3.put_object(Bucket=BUCKET, Key="cdn/logo.txt", Body=b"old", ACL="public-read")
    assert [web.get(address).headers["x-cache"] for _ in range(2)] == ["MISS", "HIT"]
    s3.put_object(Bucket=BUCKET, Key="cdn/logo.txt", Body=b"new", ACL="public-read")
    assert web.get(address).text == "old"
    parts.edge.purge(CDN, ("another/*",))
    assert web.get(address).text == "old"
    parts.edge.purge(CDN, ("cdn/logo.txt",))
    assert web.get(address).text == "new"
    assert web.put(address, content=b"x").status_code == 403


def test_a_custom_cdn_domain_has_its_own_certificate(parts: ContainerParts, client: Client, web: httpx.Client) -> None:
    client().put_object(Bucket=BUCKET, Key="custom.txt", Body=b"custom", ACL="public-read")
    chain, private = parts.authority.issue(("assets.example.org",))
    named = replace(CDN, custom_domain="assets.example.org", certificate=chain, private_key=private)
    parts.edge.set_cdns((named,))
    eventually(lambda: _text(web, "https://assets.example.org/custom.txt") == "custom")
    parts.edge.set_cdns((CDN,))


def _text(web: httpx.Client, address: str) -> str:
    """What is answered; nothing where the certificate is not the name's, as Nginx's former workers have it."""
    try:
        return web.get(address).text
    except httpx.ConnectError:
        return ""


def test_an_image_is_pushed_once_and_pulled_with_a_login(
    parts: ContainerParts, web: httpx.Client, tmp_path: Path
) -> None:
    (tmp_path / "Dockerfile").write_text("FROM scratch\nCOPY Dockerfile /\n")
    image = f"ancla-parts-test:{os.getpid()}"
    subprocess.run(["docker", "build", "-q", "-t", image, str(tmp_path)], check=True, capture_output=True)
    try:
        assert parts.registry.push(image, "acme/web:1.0.0") is True
        assert parts.registry.push(image, "acme/web:1.0.0") is False
    finally:
        subprocess.run(["docker", "rmi", image], check=True, capture_output=True)
    assert "acme/web" in parts.registry.repositories()
    parts.edge.set_registry_logins(
        (
            RegistryLogin(username="live", password="p1"),
            RegistryLogin(username="past", password="p2", expires=time.time() - 1),
        )
    )
    manifest = f"https://registry.digitalocean.com/v2/acme/web/manifests/{parts.registry.digest('acme/web:1.0.0')}"
    kinds = {"Accept": "application/vnd.docker.distribution.manifest.v2+json"}
    assert web.get(manifest, headers=kinds, auth=("live", "p1")).status_code == 200
    answers = [web.get(manifest, auth=auth).status_code for auth in (None, ("live", "no"), ("past", "p2"))]
    assert answers == [401, 401, 401]


def ask(server: str, name: str, kind: str) -> dns.message.Message:
    return dns.query.udp(dns.message.make_query(name, kind), server, timeout=60)


def values(message: dns.message.Message) -> list[str]:
    return [item.to_text() for answer in message.answer for item in answer]


def test_the_nameserver_has_authority_and_the_resolver_follows_aliases(parts: ContainerParts) -> None:
    authority, resolver = (parts.instance.plan.infrastructure(part) for part in ("nameserver", "resolver"))
    apex = ask(authority, "example.org", "A")
    assert apex.flags & dns.flags.AA
    assert values(apex) == ["198.51.100.7"]
    assert values(ask(authority, "example.org", "CAA")) == ['0 issue "letsencrypt.org"']
    assert values(ask(authority, "example.org", "NS"))[0] == "ns1.digitalocean.com."
    assert values(ask(resolver, "a.wild.example.org", "A")) == ["198.51.100.8"]
    edge = parts.instance.plan.infrastructure("edge")
    assert values(ask(resolver, "assets.example.org", "A")) == [f"{CDN.endpoint}.", edge]
    assert ask(resolver, "nothing.example.org", "A").rcode() == dns.rcode.NXDOMAIN
    assert ask(resolver, "api.digitalocean.com", "A").rcode() == dns.rcode.NXDOMAIN  # the real cloud is out of reach


def test_a_changed_record_is_seen_at_once_and_no_query_is_lost(parts: ContainerParts) -> None:
    resolver = parts.instance.plan.infrastructure("resolver")
    for number in range(3):
        parts.dns.set_zones(
            {"change.example": (DnsRecord(name="change.example", type="A", data=f"198.51.100.{number}", ttl=3600),)}
        )
        eventually(lambda wanted=f"198.51.100.{number}": values(ask(resolver, "change.example", "A")) == [wanted])
    parts.dns.set_zones({})
    eventually(lambda: not values(ask(resolver, "change.example", "A")))
