"""The life of a plugin: print the port, serve until the engine is done, leave no child behind."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import NoReturn

import grpc

# The engine sends whole certificates and programs in one message; this is the size the official plugins allow.
_OPTIONS = [("grpc.max_receive_message_length", 400 << 20), ("grpc.max_send_message_length", 400 << 20)]
_WORKERS = 128


def serve(register: Callable[[grpc.Server], None], cancel: Callable[[], None]) -> NoReturn:
    """Serve on a free loopback port, told on stdout as the engine expects, until a signal or the engine's death.

    `cancel` is called once when it is time to go, so that what runs (a child process, a wait) can end first.
    """
    _forget_checkout()
    server = grpc.server(ThreadPoolExecutor(max_workers=_WORKERS), options=_OPTIONS)
    register(server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    over = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, lambda _number, _frame: over.set())
    threading.Thread(target=_watch_parent, args=(os.getppid(), over), daemon=True).start()
    sys.stdout.write(f"{port}\n")
    sys.stdout.flush()
    over.wait()
    cancel()
    server.stop(grace=2).wait()
    # Worker threads may still be in a system call; there is nothing left to save.
    os._exit(0)


def _forget_checkout() -> None:
    """Take the launcher's PYTHONPATH back: what a plugin starts gets the environment the engine was started with."""
    _, _, rest = os.environ.pop("PYTHONPATH", "").partition(os.pathsep)
    if rest:
        os.environ["PYTHONPATH"] = rest


def _watch_parent(parent: int, over: threading.Event) -> None:
    """End with the engine, also when it is killed and can tell nobody."""
    while not over.wait(0.5):
        if os.getppid() != parent:
            over.set()
