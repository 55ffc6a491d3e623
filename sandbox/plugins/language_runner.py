"""Runs one program for the language host. A file of its own, started by path: the program sees nothing of this package.

The host writes one JSON document on stdin. Errors are told to the engine in the words of the program, with the place in
the program's own files and without the frames of the libraries between.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import runpy
import sys
import traceback
from pathlib import Path
from typing import Any


def main() -> int:
    """Run; returns the exit status."""
    told: dict[str, Any] = json.load(sys.stdin)
    sys.stdin = Path(os.devnull).open()  # noqa: SIM115 - it stays open as long as the program runs
    entry = Path(told["program"]).resolve()
    folder = entry if entry.is_dir() else entry.parent
    # The program's own folder comes first, and nothing of this one.
    sys.path[0] = str(folder)
    sys.argv = [str(entry), *told["arguments"]]
    import pulumi  # noqa: PLC0415 - after the path is right
    from pulumi.runtime import reset_options, run_in_stack, set_all_config  # noqa: PLC0415

    # What the engine stops waiting for is no news for the person.
    logging.getLogger("asyncio").setLevel(logging.CRITICAL)
    reset_options(
        project=told["project"],
        stack=told["stack"],
        organization=told["organization"],
        root_directory=told["root"],
        parallel=told["parallel"],
        engine_address=told["engine"],
        monitor_address=told["monitor"],
        preview=told["dry_run"],
    )
    set_all_config(told["config"], told["secret_keys"])

    async def run() -> None:
        await run_in_stack(lambda: _program(entry))

    try:
        asyncio.run(run())
    except SystemExit as end:
        return _ended(end, told["shown"])
    except pulumi.RunError as error:
        pulumi.log.error(str(error))
        return told["shown"]
    except BaseException as error:  # noqa: BLE001 - whatever the program let through is told to the person
        if _engine_is_gone(error):
            return told["shown"]
        pulumi.log.error(_words(error, folder))
        return told["shown"]
    return 0


def _program(entry: Path) -> None:
    target = entry if entry.exists() else entry.with_suffix(".py")
    runpy.run_path(str(target), run_name="__main__")


def _ended(end: SystemExit, shown: int) -> int:
    """Tell what `sys.exit("…")` says; a bare number means that the program has said it itself."""
    import pulumi  # noqa: PLC0415 - imported long before, cheap here

    if end.code is None or end.code == 0:
        return 0
    if not isinstance(end.code, int):
        pulumi.log.error(str(end.code))
    return shown


def _engine_is_gone(error: BaseException) -> bool:
    import grpc  # noqa: PLC0415 - the SDK has it loaded

    return isinstance(error, grpc.RpcError) and getattr(error, "code", lambda: None)() == grpc.StatusCode.UNAVAILABLE


def _words(error: BaseException, folder: Path) -> str:
    """Say what went wrong and where in the program, without the libraries' frames."""
    import grpc  # noqa: PLC0415 - the SDK has it loaded

    if isinstance(error, grpc.RpcError):
        return str(getattr(error, "details", lambda: error)())
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if _own(frame.filename, folder)]
    lines = traceback.format_exception_only(error)
    if frames:
        lines = ["Program failed with an unhandled exception:\n", *traceback.format_list(frames), *lines]
    return "".join(lines).rstrip()


def _own(file: str, folder: Path) -> bool:
    path = Path(file)
    return path.is_relative_to(folder) and "site-packages" not in path.parts


if __name__ == "__main__":
    code = main()
    sys.stdout.flush()
    sys.stderr.flush()
    # Threads of the SDK may still wait for an engine that has stopped listening.
    os._exit(code)
