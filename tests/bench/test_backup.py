"""What the comparison of backups says of its numbers: nothing that was not measured, and every loss."""

from __future__ import annotations

import contextlib
import os
import socket
import threading
import time
from dataclasses import replace

import pytest

from bench.backup import servers
from bench.backup.figures import cpu_floor, figures, losses
from bench.backup.measure import Command, CommandFailedError, measure
from bench.backup.page import write_page
from bench.backup.results import Results, RowResult, Run, read, write
from bench.backup.rows import FLOOR, OURS, RESTORE_FLOOR, ROWS

MIB = 1 << 20
QUIET = Run(
    wall=10, cpu=8, cpu_database=4, cpu_store=1, cpu_foreign=0.1, cpu_stolen=0, cpu_sampler=0.1,
    peak_memory=100 * MIB, peak_spool=0, stored=50 * MIB, requests=9,
)  # fmt: skip


@pytest.fixture
def results():
    rows = {row.id: RowResult(row.id, row.phase, row.title, row.command, row.note, [QUIET]) for row in ROWS}
    rows["drill"].runs = [replace(QUIET, details={"contained": 9.0})]
    return Results(
        at="2026-01-01 00:00 UTC", commit="abc", machine={"cores": "2", "cpu": "x", "memory": "4 GiB", "system": "y"},
        versions={"zstd": "1.5.4"}, options={"seed": 1, "level": 3}, load_before=0.1, rows=rows,
    )  # fmt: skip


def test_a_row_without_a_number_says_why_and_no_figure_is_made_of_it(results, tmp_path):
    assert all(figure.value is not None for figure in figures(results))
    results.rows["B"].runs, results.rows["B"].problem = [], "age is not installed"
    made = {figure.name: figure.value for figure in figures(results)}
    assert made["backup ÷ the best simple stream (B)"] is None
    text = write_page(results, tmp_path).read_text()
    assert "| age is not installed |" in text
    assert "| backup ÷ the best simple stream (B) | not measured |" in text


@pytest.mark.parametrize(("floor", "step"), [(floor, step) for floor in (FLOOR, RESTORE_FLOOR) for step in floor])
def test_a_floor_with_a_step_left_out_is_no_floor(results, floor, step):
    assert cpu_floor(results, floor) == len(floor) * 12 / 2
    results.rows[step].runs = []
    assert cpu_floor(results, floor) is None


def test_what_is_worse_is_told(results, tmp_path):
    assert losses(results) == []
    results.rows[OURS].runs = [replace(QUIET, peak_memory=400 * MIB, wall=9)]
    (first, *_) = losses(results)
    assert first.endswith(": peak memory 400 against 100 MiB")
    page = write_page(results, tmp_path).read_text()
    assert first in page
    assert "| peak memory of the backup | 400 MiB | 220 MiB | **missed** |" in page


def test_a_disturbed_run_is_not_to_be_quoted(results, tmp_path):
    assert results.disturbed() == []
    assert "to be quoted" not in write_page(results, tmp_path).read_text()
    results.rows["A"].runs = [QUIET, replace(QUIET, cpu_foreign=2.5)]
    assert results.disturbed() == ["A run 2"]
    assert "Not to be quoted" in write_page(results, tmp_path).read_text()
    assert "not to be quoted" in (tmp_path / "backup.svg").read_text()


def test_results_are_read_as_they_were_written(results, tmp_path):
    write(results, tmp_path / "backup.json")
    assert read(tmp_path / "backup.json") == results


@pytest.fixture
def command(tmp_path):
    spool = tmp_path / "spool"
    spool.mkdir()
    return Command(
        environment={"PATH": os.environ["PATH"], "SPOOL": str(spool)},
        spool=spool, servers={}, log=tmp_path / "log", folder=tmp_path,
    )  # fmt: skip


def test_cpu_memory_and_disk_of_children_are_counted(command):
    python = "import time; block = bytearray(80 << 20)\nwhile time.process_time() < 0.5: pass"
    busy = measure(f"head -c 30000000 /dev/zero > $SPOOL/file; python3 -c '{python}\ntime.sleep(1)' | cat", command)
    assert busy.cpu >= 0.5
    assert busy.peak_memory > 80 << 20
    assert busy.peak_spool >= 30_000_000
    idle = measure("sleep 0.3", command)
    assert idle.wall >= 0.3
    assert idle.cpu < 0.3
    assert idle.peak_memory < 40 << 20


def test_a_failing_part_of_a_pipe_fails_the_row(command):
    with pytest.raises(CommandFailedError, match="exit 7: no dump"):
        measure("(echo no dump >&2; exit 7) | cat", command)


def seconds_to_fetch(size, *, rate):
    """By the proxy, from a server that sends as fast as it can."""

    def serve():
        for _ in range(2):  # the first connection is the kit's, which asks whether the proxy listens
            connection, _ = source.accept()
            with connection, contextlib.suppress(OSError):
                connection.sendall(bytes(size))

    with socket.create_server(("127.0.0.1", 0)) as source:
        threading.Thread(target=serve, daemon=True).start()
        with servers.held_connections(source.getsockname()[1], rate) as (port, _):
            begun = time.monotonic()
            with socket.create_connection(("127.0.0.1", port)) as client:
                assert sum(map(len, iter(lambda: client.recv(1 << 20), b""))) == size
            return time.monotonic() - begun


def test_a_connection_is_held_to_the_rate():
    assert seconds_to_fetch(8_000_000, rate=2_000_000) > 3.5
    assert min(seconds_to_fetch(8_000_000, rate=1 << 40) for _ in range(3)) < 3.5  # a machine's pause is no rate
