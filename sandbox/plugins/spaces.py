"""The S3 side: one client a region, set up as the official provider sets up its own."""

from __future__ import annotations

import os
import threading
from typing import Any

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from sandbox.plugins.errors import ProviderError

# boto3's sessions are not made for threads: making clients is done one at a time.
_LOCK = threading.Lock()


class RefusedError(ProviderError):
    """The call was refused; `code` is S3's own name of the reason."""

    def __init__(self, message: str, code: str) -> None:
        super().__init__(message)
        self.code = code


class NotFoundError(RefusedError):
    """The bucket, the object or the configuration asked for is not there."""


class Spaces:
    """S3 calls to one region. `endpoint` is the provider's template, such as https://{{.Region}}.digitaloceanspaces.com."""

    def __init__(self, *, endpoint: str, region: str, access_key: str, secret_key: str) -> None:
        if not access_key or not secret_key:
            raise ProviderError(
                "Spaces credentials not configured: set SPACES_ACCESS_KEY_ID and SPACES_SECRET_ACCESS_KEY, "
                "or spacesAccessId and spacesSecretKey of the provider"
            )
        self.region = region
        self.endpoint = endpoint.replace("{{.Region}}", region.lower()).replace("{{ .Region }}", region.lower())
        with _LOCK:
            self._client: Any = boto3.client(
                "s3",
                endpoint_url=self.endpoint,
                aws_access_key_id=access_key,
                aws_secret_access_key=secret_key,
                region_name="us-east-1",
                verify=os.environ.get("SSL_CERT_FILE") or None,
                config=Config(
                    signature_version="s3v4",
                    s3={"addressing_style": "virtual"},
                    retries={"mode": "standard", "total_max_attempts": 4},
                    request_checksum_calculation="when_required",
                    response_checksum_validation="when_required",
                ),
            )

    def call(self, operation: str, **arguments: Any) -> dict[str, Any]:
        """Call an operation by boto3's name for it, such as `put_bucket_acl`.

        Raises:
            NotFoundError: the answer was 404.
            RefusedError: it was refused.
            ProviderError: it was never answered. Every message says which call and why.
        """
        where = f"Spaces {operation} {arguments.get('Bucket', '')} at {self.endpoint}"
        try:
            return getattr(self._client, operation)(**arguments)
        except ClientError as error:
            answer = error.response
            status = answer.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
            told = answer.get("Error", {})
            # A HEAD has no body, so boto3 takes the status for the code.
            words = [word for word in (told.get("Code", ""), told.get("Message", "")) if word != str(status)]
            message = " ".join([f"{where}: {status}", *words])
            raise (NotFoundError if status == 404 else RefusedError)(message, told.get("Code", "")) from None
        except BotoCoreError as error:
            raise ProviderError(f"{where}: {error}; check SPACES_ENDPOINT_URL, HTTPS_PROXY and SSL_CERT_FILE") from None

    def all_versions(self, bucket: str, prefix: str = "") -> list[dict[str, str]]:
        """List every version and delete marker, as {Key, VersionId}."""
        found: list[dict[str, str]] = []
        more: dict[str, Any] = {"Prefix": prefix} if prefix else {}
        while True:
            page = self.call("list_object_versions", Bucket=bucket, **more)
            entries = [*page.get("Versions", ()), *page.get("DeleteMarkers", ())]
            found += [{"Key": entry["Key"], "VersionId": entry["VersionId"]} for entry in entries]
            if not page.get("IsTruncated"):
                return found
            more |= {"KeyMarker": page["NextKeyMarker"], "VersionIdMarker": page.get("NextVersionIdMarker", "")}
