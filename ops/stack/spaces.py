"""Ask Spaces about a bucket, with the account's key pair from the environment, as the provider takes it."""

from __future__ import annotations

import os

import boto3
from botocore.exceptions import BotoCoreError, ClientError

from ops.core.errors import CloudError


def bucket_is_ours(name: str, region: str) -> bool:
    """Return True if the bucket exists and belongs to the account's key pair.

    Raises:
        CloudError: no key pair, no answer, or somebody else's bucket.
    """
    endpoint = os.environ.get("SPACES_ENDPOINT_URL", "https://{{.Region}}.digitaloceanspaces.com")
    address = endpoint.replace("{{.Region}}", region)
    try:
        access_key, secret_key = os.environ["SPACES_ACCESS_KEY_ID"], os.environ["SPACES_SECRET_ACCESS_KEY"]
    except KeyError as missing:
        raise CloudError(f"{missing.args[0]}: not set; the bucket {name} cannot be looked for") from None
    client = boto3.session.Session().client(
        "s3",
        region_name=region,
        endpoint_url=address,
        aws_access_key_id=access_key,
        aws_secret_access_key=secret_key,
    )
    try:
        client.head_bucket(Bucket=name)
    except ClientError as error:
        code = error.response.get("Error", {}).get("Code", "")
        if code in ("404", "NoSuchBucket"):
            return False
        raise CloudError(f"bucket {name} at {address}: {code}; another account may own the name") from None
    except BotoCoreError as error:
        raise CloudError(f"bucket {name} at {address}: no answer: {error}") from None
    return True
