"""A disk with no byte left: whoever needs a temporary folder says so in one line, and not where Python looked."""

from __future__ import annotations

import resource
import tempfile
from collections.abc import Callable, Generator
from contextlib import AbstractContextManager, contextmanager

import pytest
from pydantic import SecretStr

from ops.core.errors import SpoolError
from ops.core.workdir import spool
from ops.sources.postgres.tools import Endpoint
from ops.stack import ssh

SERVER = Endpoint(
    host="127.0.0.1", port=1, user="u", password=SecretStr("p"), database="d", ca_certificate="-----BEGIN CERTIFICATE"
)
MACHINE = ssh.SshTarget(address="127.0.0.1", port=1, user="u", host_key="ssh-ed25519 A", deploy_key=SecretStr("k"))


@contextmanager
def no_byte_left(monkeypatch: pytest.MonkeyPatch) -> Generator[None]:
    """No file may hold a byte, as on a full disk; Python tries every temporary folder by writing some into it.

    For a block and not for a test: between its parts pytest writes too, into a file where its output goes to one.
    """
    monkeypatch.setattr(tempfile, "tempdir", None)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize(
    "begin",
    [
        lambda: spool(None, needed=0, what="the dump of app"),
        SERVER.environment,
        SERVER.connect,
        lambda: ssh.connect(MACHINE),
    ],
    ids=["spool", "environment", "connect", "ssh"],
)
def test_no_temporary_folder_is_one_line(
    begin: Callable[[], AbstractContextManager[object]], monkeypatch: pytest.MonkeyPatch
):
    with (
        no_byte_left(monkeypatch),
        pytest.raises(SpoolError, match=r"no temporary folder can be written \(/.*[^\]]\): is the disk full\?"),
        begin(),
    ):
        pass
