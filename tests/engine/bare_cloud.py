"""A cloud without machines, for tests of the engine alone: the sandbox's API over NoParts, and moto for Spaces.

Run as a program (`python bare_cloud.py HOME TOKEN`), it prints one JSON line with its addresses and serves until
it is ended.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import sys
from pathlib import Path

REGIONS = ("ams3", "atl1", "blr1", "fra1", "lon1", "nyc3", "sfo2", "sfo3", "sgp1", "syd1", "tor1")
# moto reads this when it is imported: the names under which a Space is asked for by virtual host
os.environ["MOTO_S3_CUSTOM_ENDPOINTS"] = ",".join(f"http://{region}.digitaloceanspaces.com" for region in REGIONS)

import boto3  # noqa: E402 - after the line above
import uvicorn  # noqa: E402
from moto.server import ThreadedMotoServer  # noqa: E402

from sandbox.api.app import create_app  # noqa: E402
from sandbox.parts.authority import Authority  # noqa: E402
from sandbox.parts.none import NoParts  # noqa: E402


class PartsWithBuckets(NoParts):
    """NoParts whose Spaces are those of the moto server, and whose certificates are real."""

    def __init__(self, endpoint: str) -> None:
        super().__init__()
        s3 = boto3.client(
            "s3", endpoint_url=endpoint, region_name="us-east-1", aws_access_key_id="x", aws_secret_access_key="x"
        )
        self.answers["authority.issue"] = Authority().issue
        self.answers["spaces.buckets"] = lambda: tuple(("nyc3", item["Name"]) for item in s3.list_buckets()["Buckets"])


def main(home: str, token: str) -> None:
    moto = ThreadedMotoServer("127.0.0.1", 0)
    with contextlib.redirect_stdout(sys.stderr):  # moto announces itself; only our line may stand on stdout
        moto.start()
    host, port = moto.get_host_and_port()
    spaces = f"http://{host}:{port}"
    listener = socket.create_server(("127.0.0.1", 0))  # who reads the address may ask at once: it waits for the app
    base_url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    print(json.dumps({"api": base_url, "spaces": spaces}), flush=True)
    app = create_app(home=Path(home), parts=PartsWithBuckets(spaces), base_url=base_url, token=token)
    uvicorn.Server(uvicorn.Config(app, http="httptools", log_level="warning")).run(sockets=[listener])


if __name__ == "__main__":
    main(*sys.argv[1:])
