"""Connect to a fork by its own names, password and CA, through the stack's droplet, as to the live cluster."""

from __future__ import annotations

import time
from collections.abc import Generator
from contextlib import ExitStack, contextmanager
from dataclasses import replace

from ops.core.errors import SourceError, SshError
from ops.managed_postgres import provider
from ops.managed_postgres.provider import Cluster
from ops.sources.postgres.tools import Endpoint
from ops.stack import ssh
from ops.stack.cloud import Cloud
from ops.stack.outputs import LoadedStack

REACH_SECONDS = 300
"""Seconds for a new name to resolve and a firewall to be opened."""


@contextmanager
def fork_server(cloud: Cloud, stack: LoadedStack, fork: Cluster) -> Generator[tuple[Endpoint, Endpoint]]:
    """Yield the endpoints of a fork as (administrator, app user), once it answers.

    Raises:
        SourceError, SshError: it does not answer within `REACH_SECONDS`.
        CloudError: the API does not return its address.
    """
    assert stack.outputs.database is not None  # noqa: S101  # `live_cluster` refused such a stack
    admin = Endpoint(
        host=fork.private_host,
        port=fork.port,
        user=fork.admin_user,
        password=fork.admin_password,
        database="defaultdb",
        ca_certificate=provider.certificate_authority(cloud, fork.id),
    )
    user = stack.outputs.database.user
    password = provider.user_password(cloud, fork.id, user)
    with ExitStack() as opened:
        if not stack.on_machine:
            session = opened.enter_context(ssh.connect(stack.ssh_target()))
            port = opened.enter_context(session.tunnel(fork.private_host, fork.port))
            admin = replace(admin, hostaddr="127.0.0.1", port=port)
        _wait(admin)
        yield admin, replace(admin, user=user, password=password) if password else admin


def _wait(endpoint: Endpoint) -> None:
    deadline = time.monotonic() + REACH_SECONDS
    while True:
        try:
            with endpoint.connect():
                return
        except (SourceError, SshError):
            if time.monotonic() > deadline:
                raise
        time.sleep(1)
