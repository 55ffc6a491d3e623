"""A proxy that holds each connection to a rate: `python -m bench.backup.held PORT TO_PORT BYTES_PER_SECOND`.

What comes from the server is held; what the client sends passes. It stands for the single stream of a managed cluster,
whose network, not its disk, is the limit. TLS passes through it untouched.
"""

from __future__ import annotations

import contextlib
import socket
import sys
import threading
import time

BLOCK = 256 << 10
BURST_SECONDS = 0.05


def serve(port: int, to_port: int, rate: int) -> None:
    """Listen on 127.0.0.1 until the process is ended."""
    with socket.create_server(("127.0.0.1", port)) as listener:
        while True:
            client, _ = listener.accept()
            server = socket.create_connection(("127.0.0.1", to_port))
            for end in (client, server):
                end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            threading.Thread(target=_carry, args=(client, server, 0), daemon=True).start()
            threading.Thread(target=_carry, args=(server, client, rate), daemon=True).start()


def _carry(source: socket.socket, target: socket.socket, rate: int) -> None:
    due = time.monotonic()
    with contextlib.suppress(OSError):  # either side went away; the other is told below
        while block := source.recv(BLOCK):
            if rate:
                due = max(due, time.monotonic() - BURST_SECONDS) + len(block) / rate
                time.sleep(max(0.0, due - time.monotonic()))
            target.sendall(block)
    with contextlib.suppress(OSError):
        target.shutdown(socket.SHUT_WR)


if __name__ == "__main__":
    serve(*map(int, sys.argv[1:4]))
