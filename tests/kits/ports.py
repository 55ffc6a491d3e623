"""Free ports of this computer."""

from __future__ import annotations

import contextlib
import os
import socket


def free_ports(count: int, first: int | None = None) -> int:
    """Return the first of `count` (at most 10) neighbouring ports that nobody listens on, from `first` on.

    Default: from a port by the process's own number, so that parallel workers look in different places.
    """
    for base in range(20000 + os.getpid() % 10000 if first is None else first, 65000, 10):
        with contextlib.ExitStack() as stack:
            try:
                for port in range(base, base + count):
                    stack.enter_context(socket.socket()).bind(("127.0.0.1", port))
            except OSError:
                continue
            return base
    raise RuntimeError("no free ports")
