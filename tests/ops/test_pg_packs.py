from __future__ import annotations

import io
import tarfile

import pytest

from ops.core.errors import IntegrityError
from ops.sources.postgres.small_file_batches import Packer, is_pack, unpack


def test_what_was_packed_is_there_again_and_the_packs_are_gone(tmp_path):
    content = {f"{number}.dat": bytes([number]) * number * 100 for number in range(1, 30)}
    for name, data in content.items():
        (tmp_path / name).write_bytes(data)
    packer = Packer(tmp_path)
    names = sorted(content)
    packs = [packer.pack(tmp_path / name for name in names[:20]), packer.pack(tmp_path / name for name in names[20:])]
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(pack.name for pack in packs)
    assert all(is_pack(pack.name) for pack in packs)
    unpack(tmp_path)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == content


def test_a_pack_says_what_it_holds(tmp_path):
    for number in range(14):
        (tmp_path / f"{number}.dat").write_bytes(b"x")
    packer = Packer(tmp_path)
    held = {f"{number}.dat": f"table t{number}" for number in range(14)}
    made = packer.pack([tmp_path / "1.dat", tmp_path / "2.dat"])
    assert packer.holds(made, held) == "table t1, table t2"
    many = packer.pack(tmp_path.glob("*.dat"))
    assert (
        packer.holds(many, held)
        == ", ".join(f"table t{number}" for number in (0, 10, 11, 12, 13, 3, 4, 5, 6, 7)) + " and 2 more"
    )


@pytest.mark.parametrize("name", ["../outside", "/outside", "sub/file", ".hidden"])
def test_a_pack_writes_nothing_outside_its_folder(tmp_path, name):
    folder = tmp_path / "fetched"
    folder.mkdir()
    with tarfile.open(folder / "small-0001.tar", "w") as tar:
        member = tarfile.TarInfo(name)
        member.size = 1
        tar.addfile(member, io.BytesIO(b"x"))
    with pytest.raises(IntegrityError, match="is no file of a dump"):
        unpack(folder)
    assert [path.name for path in tmp_path.iterdir()] == ["fetched"]


def test_a_pack_that_is_no_tar_or_would_overwrite_is_refused(tmp_path):
    (tmp_path / "small-0001.tar").write_bytes(b"x" * 2048)
    with pytest.raises(IntegrityError, match="cannot be read as a pack"):
        unpack(tmp_path)
    (tmp_path / "small-0001.tar").unlink()
    (tmp_path / "1.dat").write_bytes(b"a")
    Packer(tmp_path).pack([tmp_path / "1.dat"])
    (tmp_path / "1.dat").write_bytes(b"b")
    with pytest.raises(IntegrityError, match=r"1\.dat is there twice"):
        unpack(tmp_path)
