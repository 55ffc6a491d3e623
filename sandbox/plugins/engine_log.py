"""Lines for the person, told to the engine, which shows them at the resource they belong to."""

from __future__ import annotations

import sys
import threading

import grpc
from pulumi.runtime.proto import engine_pb2, engine_pb2_grpc


class EngineLog:
    """The engine's log; its address is the plugin's first argument."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._stub: engine_pb2_grpc.EngineStub | None = None

    def info(self, urn: str, message: str) -> None:
        """Show a line at a resource; a line that cannot be shown is dropped, not an error."""
        with self._lock:
            if self._stub is None:
                addresses = [argument for argument in sys.argv[1:] if not argument.startswith("-")]
                if not addresses:
                    return
                self._stub = engine_pb2_grpc.EngineStub(grpc.insecure_channel(addresses[0]))
        request = engine_pb2.LogRequest(severity=engine_pb2.INFO, message=message, urn=urn)
        try:
            self._stub.Log(request, timeout=5)
        except grpc.RpcError:
            return
