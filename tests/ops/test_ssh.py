from __future__ import annotations

import socket
import sys
import threading
from contextlib import closing
from dataclasses import replace

import pytest
from pydantic import SecretStr

from blueprint.keys import public_line
from ops.core.errors import RemoteCommandError, SshError
from ops.stack import ssh
from ops.stack.init import make_key
from tests.ops.conftest import login_server


def test_commands_go_over_one_connection_with_quoted_arguments_and_stdin(machine, target):
    with ssh.connect(target) as session:
        assert session.run(["printf", "%s", "it's; here"]).stdout == "it's; here"
        assert session.run("cat", stdin=b"a secret").stdout == "a secret"
        result = session.run("echo no >&2; exit 7", check=False)
        assert (result.returncode, result.stderr) == (7, "no\n")
        with pytest.raises(RemoteCommandError, match=r"failed \(7\): no"):
            session.run("echo no >&2; exit 7")
    assert len(machine.transports) == 1


def test_a_tunnel_carries_bytes_and_is_gone_after_the_block(machine, target):
    with closing(socket.create_server(("127.0.0.1", 0))) as server:
        threading.Thread(target=lambda: server.accept()[0].sendall(b"hello"), daemon=True).start()
        with ssh.connect(target) as session:
            with (
                session.tunnel("127.0.0.1", server.getsockname()[1]) as port,
                socket.create_connection(("127.0.0.1", port)) as here,
            ):
                assert here.recv(5) == b"hello"
            with pytest.raises(ConnectionRefusedError):
                socket.create_connection(("127.0.0.1", port))


def test_another_host_key_than_the_pinned_one_is_refused(machine, target):
    other = replace(target, host_key=public_line(make_key()))
    with pytest.raises(SshError, match="a host key other than the pinned output") as caught, ssh.connect(other):
        pass
    assert "\n" not in str(caught.value)


def test_a_refused_key_and_a_closed_port_say_what_to_do(machine, target):
    with (
        pytest.raises(SshError, match="the deploy key is refused; use current outputs"),
        ssh.connect(replace(target, deploy_key=make_key())),
    ):
        pass
    with (
        pytest.raises(SshError, match=r"no connection: .*refused; check that the droplet is on"),
        ssh.connect(replace(target, port=9)),
    ):
        pass


def test_the_key_is_shown_nowhere(target):
    assert "PRIVATE KEY" not in repr(replace(target, deploy_key=SecretStr("PRIVATE KEY")))


def test_a_megabyte_of_answer_and_of_progress_arrive_at_once(target):
    both = (
        "import sys, threading\n"
        "lines = ('x' * 99 + '\\n') * 10_000\n"
        "for out in (sys.stdout, sys.stderr):\n"
        "    threading.Thread(target=out.write, args=(lines,)).start()\n"
    )
    seen: list[str] = []
    with ssh.connect(target) as session:
        done = session.follow([sys.executable, "-c", both], stdin=b"y" * 1_000_000, line=seen.append)
    assert (done.returncode, len(done.stdout), len(seen)) == (0, 1_000_000, 10_000)
    assert set(seen) == {"x" * 99}


def test_a_message_that_has_several_causes_is_not_called_another_host_key(target):
    text = "Failed to open /x/known_hosts: Permission\nNo ED25519 host key\nHost key verification failed.\n"
    told = ssh.explain(target, text)
    assert "host key other than" not in told
    assert "no connection: Failed to open /x/known_hosts: Permission / No ED25519 host key / Host key" in told


def test_a_login_server_goes_with_its_test_and_outlives_clients_that_break_off():
    """Left behind, it would answer a later test that is given its port, with the host key of this one."""
    with login_server() as server:
        port = server.target.port
        for said in (b"", b"GET / HTTP/1.0\r\n\r\n"):
            with socket.create_connection(("127.0.0.1", port)) as client:
                client.sendall(said)
        with ssh.connect(server.target) as session:
            assert session.run("echo here").stdout == "here\n"
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port))


def test_a_local_port_that_somebody_takes_meanwhile_is_replaced_by_another(target, monkeypatch):
    with closing(socket.create_server(("127.0.0.1", 0))) as taken, ssh.connect(target) as session:
        ports = [taken.getsockname()[1], ssh._free_port()]
        monkeypatch.setattr(ssh, "_free_port", lambda: ports.pop(0))
        with session.tunnel("127.0.0.1", 9) as port:
            assert port != taken.getsockname()[1]
        ports = [taken.getsockname()[1]] * ssh.FORWARD_TRIES
        with pytest.raises(SshError, match=r"the tunnel .* was refused"), session.tunnel("127.0.0.1", 9):
            pass
