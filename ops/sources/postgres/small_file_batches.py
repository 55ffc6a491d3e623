"""Small files of a dump, together in one object: a database of many small tables would else cost a request for each."""

from __future__ import annotations

import re
import shutil
import tarfile
from collections.abc import Iterable
from pathlib import Path

from ops.core.errors import IntegrityError
from ops.repository.records import FILE_NAME

SMALL = 1 << 20
"""Bytes from which on a file goes out by itself, while it still grows."""
PACK = 16 << 20
"""Bytes of small files that are sent on while the dump still runs."""
MOST = 1000
"""So many small files are sent on too, however few their bytes: each look at the dump asks for the size of all."""

NAMED = 10


class Packer:
    """Puts whole files of `folder` into tar files there, each `small-<number>.tar`."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.packs: dict[Path, list[str]] = {}
        """Each pack with the names of the files in it."""

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
        """Say what is in a pack, by what each file holds."""
        what = [held[name] for name in self.packs[pack]]
        more = f" and {len(what) - NAMED} more" if len(what) > NAMED else ""
        return f"{', '.join(what[:NAMED])}{more}"


def is_pack(file: str) -> bool:
    """Say whether a file of a dump is a pack, by its name."""
    return file.startswith("small-") and file.endswith(".tar")


def unpack(folder: Path) -> None:
    """Replace the packs in a folder of fetched files by the files in them.

    Raises:
        IntegrityError: a pack is no tar, or holds what is no file of a dump.
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
