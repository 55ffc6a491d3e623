"""Ask Spaces, with one bucket of a made-up name, a limited key of it, and the account's own key."""

from __future__ import annotations

import json
import secrets
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import boto3
import httpx
from botocore.config import Config
from botocore.exceptions import ClientError

from ops.first_hour.notebook import Notebook
from ops.stack.cloud import Cloud

DENIED = 403
OBJECT = b"first hour"


@dataclass(frozen=True, kw_only=True)
class Spaces:
    """Where Spaces is, and the account's full-access key."""

    endpoint: str
    region: str
    access_key: str
    secret_key: str

    def client(self, access_key: str = "", secret_key: str = "") -> Any:
        """Return a client of these keys, or of the account's own."""
        return boto3.client(
            "s3",
            endpoint_url=self.endpoint,
            region_name=self.region,
            aws_access_key_id=access_key or self.access_key,
            aws_secret_access_key=secret_key or self.secret_key,
            config=Config(
                signature_version="s3v4",
                retries={"max_attempts": 2},
                request_checksum_calculation="when_required",
                response_checksum_validation="when_required",
                s3={"addressing_style": "path"},
            ),
        )


def ask_bucket(cloud: Cloud, spaces: Spaces, notebook: Notebook) -> None:
    """Make a bucket and a limited key, ask what each may, and remove both."""
    bucket, full = f"ancla-first-hour-{secrets.token_hex(4)}", spaces.client()
    with ExitStack() as made:
        made.callback(notebook.remove, f"bucket {bucket}", lambda: _empty(full, bucket))
        full.create_bucket(Bucket=bucket)
        grants = [{"bucket": bucket, "permission": "readwrite"}]
        key = cloud.send("POST", "/v2/spaces/keys", {"name": bucket, "grants": grants})["key"]
        path = f"/v2/spaces/keys/{key['access_key']}"
        made.callback(notebook.remove, f"Spaces key {key['access_key']}", lambda: cloud.delete(path))
        limited = spaces.client(key["access_key"], key["secret_key"])
        _ask(notebook, spaces, full, limited, bucket)


def _ask(notebook: Notebook, spaces: Spaces, full: Any, limited: Any, bucket: str) -> None:
    def put(name: str, **more: Any) -> str:
        return _said(lambda: limited.put_object(Bucket=bucket, Key=name, Body=OBJECT, **more))

    def anonymous(name: str) -> str:
        return str(httpx.get(f"{spaces.endpoint}/{bucket}/{name}").status_code)

    def quoted(call: Callable[..., Any], **more: Any) -> tuple[bool | None, object]:
        etag = full.head_object(Bucket=bucket, Key="plain")["ETag"].strip('"')
        said = {form: _said(lambda form=form: call(Bucket=bucket, Key="plain", IfMatch=form, **more))
                for form in (f'"{etag}"', etag)}  # fmt: skip
        return None, {form.replace(etag, "ETag"): answer for form, answer in said.items()}

    policy = {"Version": "2012-10-17", "Statement": [
        {"Effect": "Allow", "Principal": "*", "Action": "s3:GetObject", "Resource": f"arn:aws:s3:::{bucket}/*"}
    ]}  # fmt: skip
    policies = {
        name: lambda client=client: client.put_bucket_policy(Bucket=bucket, Policy=json.dumps(policy))
        for name, client in (("limited", limited), ("full", full))
    }

    def again() -> tuple[bool | None, object]:
        return None, _said(lambda: full.create_bucket(Bucket=bucket))

    def reborn() -> tuple[bool | None, object]:
        _empty(full, bucket)
        said = _said(lambda: full.create_bucket(Bucket=bucket))
        return said == "200", said

    ask = notebook.ask
    ask("A1", "Does a limited key upload?", "200", lambda: _is("200", put("plain")))
    ask(
        "A1", "Does it upload with x-amz-acl: public-read?", "200", lambda: _is("200", put("public", ACL="public-read"))
    )
    ask("A1", "Does anybody read that one?", "200", lambda: _is("200", anonymous("public")))
    ask("A1", "Does anybody read the other one?", "403", lambda: _is("403", anonymous("plain")))
    for name, operation in (("bucket", "get_bucket_acl"), ("object", "get_object_acl")):
        more = {"Key": "plain"} if name == "object" else {}
        look = getattr(limited, operation)
        ask("C5", f"Does it read the ACL of the {name}?", "403 is well", lambda look=look, more=more: (
            None, _said(lambda: look(Bucket=bucket, **more))))  # fmt: skip
    for name, do in policies.items():
        ask("A1", f"May the {name} key write a policy, as there is a limited one?", "403", lambda do=do: (
            (said := _said(do)).startswith("403"), said))  # fmt: skip
    uploads = "A5", "Does a limited key list unfinished uploads?", "200"
    ask(*uploads, lambda: _is("200", _said(lambda: limited.list_multipart_uploads(Bucket=bucket))))
    ask("C7", "If-Match of a GET, with quotes and without?", "not relied on", lambda: quoted(limited.get_object))
    ask("C7", "If-Match of a PUT, likewise?", "not relied on", lambda: quoted(limited.put_object, Body=OBJECT))
    ask("A5", "What does making the bucket again say?", "409, or 200", again)
    ask("C2", "Can a bucket be deleted and made again at once?", "not for days: keep names", reborn)


def _said(do: Callable[[], Any]) -> str:
    """Return the status of a request, with the error's code and text if there is one."""
    try:
        answer = do()
    except ClientError as error:
        said = error.response.get("Error", {})
        status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", "?")
        return f"{status} {said.get('Code', '')} {said.get('Message', '')}".strip()
    return str(answer.get("ResponseMetadata", {}).get("HTTPStatusCode", 200))


def _is(wanted: str, said: str) -> tuple[bool, str]:
    return said.split(" ", maxsplit=1)[0] == wanted, said


def _empty(client: Any, bucket: str) -> None:
    for item in client.list_objects_v2(Bucket=bucket).get("Contents", []):
        client.delete_object(Bucket=bucket, Key=item["Key"])
    client.delete_bucket(Bucket=bucket)
