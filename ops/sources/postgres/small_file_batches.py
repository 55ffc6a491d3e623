"""Combine small files of a dump into one object: otherwise a database of many small tables needs a request for each."""

from __future__ import annotations

import re
import shutil
import tarfile
from collections.abc import Iterable
from pathlib import Path

from ops.core.errors import IntegrityError
from ops.repository.records import FILE_NAME

SMALL = 1 << 20
"""Files of at least this size are uploaded individually, while pg_dump still writes them."""
PACK = 16 << 20
"""Bytes of small files that are uploaded together while the dump still runs."""
MOST = 1000
"""Flush a batch at this many files even if small: every poll stats all pending files."""

NAMED = 10


class Packer:
    """Puts complete files of `folder` into tar files there, each `small-<number>.tar`."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.packs: dict[Path, list[str]] = {}
        """Packs with the names of their files."""

    def pack(self, files: Iterable[Path]) -> Path:
        """Move files into a new pack."""
        made = self._folder / f"small-{len(self.packs) + 1:04}.tar"
        names = self.packs[made] = list[str]()
        with tarfile.open(made, "w", format=tarfile.USTAR_FORMAT) as tar:
            for path in sorted(files):
                tar.add(path, path.name, recursive=False)
                path.unlink()
                names.append(path.name)
        return made

    def holds(self, pack: Path, held: dict[str, str]) -> str:
        """Describe a pack by the content of its files."""
        what = [held[name] for name in self.packs[pack]]
        more = f" and {len(what) - NAMED} more" if len(what) > NAMED else ""
        return f"{', '.join(what[:NAMED])}{more}"


def is_pack(file: str) -> bool:
    """Return True if a dump's file is a pack, by its name."""
    return file.startswith("small-") and file.endswith(".tar")


def unpack(folder: Path) -> None:
    """Replace the packs in a folder of fetched files by their files.

    Raises:
        IntegrityError: a pack is not a tar, or contains a file that is not a dump's.
    """
    for pack in sorted(path for path in folder.iterdir() if is_pack(path.name)):
        try:
            with tarfile.open(pack, "r:") as tar:
                for member in tar:
                    content = tar.extractfile(member)
                    if content is None or not re.fullmatch(FILE_NAME, member.name):
                        raise IntegrityError(f"{pack.name}: {member.name!r} is no file of a dump")
                    with (folder / member.name).open("xb") as file:
                        shutil.copyfileobj(content, file)
        except FileExistsError as error:
            raise IntegrityError(f"{pack.name}: {Path(error.filename).name} is there twice") from None
        except tarfile.TarError as error:
            raise IntegrityError(f"{pack.name}: cannot be read as a pack: {error}") from None
        pack.unlink()
