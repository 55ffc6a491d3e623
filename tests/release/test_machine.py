"""What the droplet's own Docker answers about an image, and how files come out of it."""

from __future__ import annotations

import io
import stat
import subprocess
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path
from uuid import uuid4

import pytest

from ops.core.errors import ReleaseError
from ops.release.machine import Machine

pytestmark = pytest.mark.containers


@pytest.fixture
def image() -> Iterator[Callable[..., str]]:
    """Make an image without a command, whose one file only its owner may read."""
    made: list[str] = []

    def make(*changes: str) -> str:
        archive = io.BytesIO()
        with tarfile.open(fileobj=archive, mode="w") as tar:
            file = tarfile.TarInfo("dist/deep/index.html")
            file.size, file.mode, file.uid = 5, 0o600, 1234
            tar.addfile(file, io.BytesIO(b"hello"))
        name = f"ancla-test-{uuid4().hex[:12]}"
        options = [option for change in changes for option in ("--change", change)]
        subprocess.run(["docker", "import", *options, "-", name], input=archive.getvalue(), check=True)
        made.append(name)
        return name

    yield make
    subprocess.run(["docker", "image", "rm", *made], check=True, capture_output=True)


@pytest.mark.parametrize(("changes", "user"), [((), ""), (("USER 1000:1000",), "1000:1000"), (("USER root",), "root")])
def test_the_user_of_an_image(image: Callable[..., str], changes: tuple[str, ...], user: str):
    assert Machine().user(image(*changes)) == user


def test_an_image_that_is_not_there_is_one_line():
    with pytest.raises(ReleaseError, match=r"ancla-test-none: cannot be inspected: .*No such image"):
        Machine().user("ancla-test-none")


def test_files_come_out_readable_for_nginx_and_no_container_stays(image: Callable[..., str], tmp_path: Path):
    name = image()
    Machine().extract(name, "/dist", [tmp_path / "one", tmp_path / "two" / "below"])
    for folder in (tmp_path / "one", tmp_path / "two" / "below"):
        file = folder / "deep" / "index.html"
        assert file.read_text() == "hello"
        assert stat.S_IMODE(file.stat().st_mode) == 0o644
        assert stat.S_IMODE(file.parent.stat().st_mode) == 0o755
    with pytest.raises(ReleaseError, match=r"/absent: cannot be copied: .*/absent"):
        Machine().extract(name, "/absent", [tmp_path / "three"])
    left = subprocess.run(["docker", "ps", "-aq", "--filter", f"ancestor={name}"], check=True, capture_output=True)
    assert left.stdout == b""
