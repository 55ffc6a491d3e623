"""Base backups and WAL of a managed cluster, kept in its own volume, and a fork made of them: PostgreSQL's own tools.

In the volume: `backups/base/<name>/` (a base backup as tar, and `wal`, the first segment that it needs), `backups/wal/`
(every segment since, by `sql.ARCHIVE_COMMAND`), and while a fork replays `restore/`, its source's segments.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from sandbox.parts import sql
from sandbox.parts.base import BaseBackup, RestoreSpec
from sandbox.parts.docker import Docker, eventually, label_options

DATA = "/var/lib/postgresql"
BASE = f"{DATA}/backups/base"
RESTORE = f"{DATA}/restore"
ARCHIVED_SECONDS = 60
COPY_SECONDS = 900

# At the lowest priority: a backup is the provider's business, not the customer's. Prints size and end.
TAKE = f"""
set -eu
new={BASE}/.new
mkdir -p {BASE} && rm -rf "$new"
first=$(psql -XqAtc 'SELECT pg_walfile_name(pg_current_wal_lsn())' -h {sql.SOCKET} -p {sql.PORT} postgres)
nice -n 19 pg_basebackup -h {sql.SOCKET} -p {sql.PORT} -D "$new" --label "$1" --format tar --compress client-gzip:1 \\
    --wal-method none --checkpoint fast --no-sync >&2
echo "$first" >"$new/wal"
rm -rf "{BASE}/$1" && mv "$new" "{BASE}/$1"
echo "$(du -sb "{BASE}/$1" | cut -f1) $(date +%s.%N)"
"""

# What the oldest kept backup does not need is needed by none.
KEEP = f"""
set -eu
cd {BASE}
for name in *; do case " $* " in *" $name "*) ;; *) rm -rf "$name" ;; esac; done
$(ls -d /usr/lib/postgresql/*/bin | sort -V | tail -1)/pg_archivecleanup -x .gz {sql.WAL_ARCHIVE} "$(cat "$1/wal")"
"""

# An earlier, interrupted try is thrown away: nobody was ever let in to it.
FILL = f"""
set -eu
find {DATA} -mindepth 1 -delete
mkdir -m 700 {DATA}/data && mkdir {RESTORE}
tar -xzf "/source/backups/base/$1/base.tar.gz" -C {DATA}/data
cd /source/backups/wal
ls | awk -v first="$(cat "/source/backups/base/$1/wal")" \\
    '/[.]history[.]gz$/ || (length($0) == 27 && $0 >= first)' | xargs -r cp -t {RESTORE}
cat >{DATA}/data/postgresql.auto.conf
touch {DATA}/data/recovery.signal
"""


class Backups:
    """The provider's backups, by the names of container and volume. `query` runs SQL there as the superuser."""

    def __init__(self, docker: Docker, query: Callable[[str, str, str], str]) -> None:
        self.docker, self.query = docker, query

    def take(self, container: str, name: str) -> BaseBackup | None:
        """Take a base backup of a running cluster; None when the cluster keeps no WAL."""
        if self.query(container, "postgres", "SHOW archive_mode;") != "on":
            return None
        said = self.docker.execute(container, "sh", "-c", TAKE, "take", name, user="postgres", timeout=COPY_SECONDS)
        size, finished = said.split()
        return BaseBackup(name=name, finished=float(finished), size=int(size))

    def keep(self, container: str, names: tuple[str, ...]) -> None:
        """Remove every backup but these (oldest first), and the WAL that only those needed."""
        self.docker.execute(container, "sh", "-c", KEEP, "keep", *names, user="postgres", timeout=COPY_SECONDS)

    def archive_all(self, container: str) -> None:
        """See that all WAL up to now is in the archive, a commit last: replay up to a time stops at the next commit."""
        self.query(container, "postgres", "SELECT pg_current_xact_id();")
        segment = self.query(container, "postgres", "SELECT pg_walfile_name(pg_switch_wal());")

        def there() -> bool:
            return self.docker.probe(container, "test", "-e", f"{sql.WAL_ARCHIVE}/{segment}.gz")

        eventually(there, what=f"{container}: WAL segment {segment}", seconds=ARCHIVED_SECONDS)

    def fill(self, restore: RestoreSpec, *, source: str, volume: str, image: str, labels: Mapping[str, str]) -> None:
        """Lay a base backup and the WAL after it from one volume into that of a new cluster, ready to be replayed."""
        worker = f"{volume}-fill"
        self.docker.remove(worker)
        self.docker.run(
            "run", "--rm", "--interactive", "--name", worker, "--network", "none", "--user", "postgres",
            *label_options(labels), "--volume", f"{volume}:{DATA}", "--volume", f"{source}:/source:ro",
            "--entrypoint", "sh", image, "-c", FILL, "fill", restore.backup,
            stdin=sql.recovery_conf(RESTORE, restore.time).encode(), timeout=COPY_SECONDS,
        )  # fmt: skip
