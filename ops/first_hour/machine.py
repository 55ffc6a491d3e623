"""Ask from a droplet, and of a cluster that it reaches: both the smallest, made for the hour and removed."""

from __future__ import annotations

import subprocess
import tempfile
import time
from collections.abc import Callable, Generator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from blueprint.keys import public_line
from ops.core.errors import CloudError
from ops.first_hour.notebook import Notebook
from ops.managed_postgres.provider import certificate_authority
from ops.stack.cloud import Cloud
from ops.stack.init import make_key

SSH_SECONDS = 300
CLUSTER_SECONDS = 1800
LOOK_SECONDS = 5.0
BETWEEN_SECONDS = 2.0
"""Between two rows, and the time between them that a fork is asked for."""
MAIL = {25: "smtp.gmail.com", 465: "smtp.gmail.com", 587: "smtp.gmail.com", 2525: "smtp.mailgun.org", 443: "slack.com"}
ROLES = (
    "SELECT rolname, rolsuper, rolcreatedb, rolcreaterole, rolreplication, rolbypassrls"
    " FROM pg_roles WHERE rolcanlogin ORDER BY 1"
)
MEMBERS = (
    "SELECT r.rolname, m.rolname, a.admin_option FROM pg_auth_members a JOIN pg_roles r ON r.oid = a.roleid"
    " JOIN pg_roles m ON m.oid = a.member WHERE m.rolname !~ '^pg_' ORDER BY 1, 2"
)
OWNERS = "SELECT datname, pg_get_userbyid(datdba) FROM pg_database ORDER BY 1"
SESSIONS = (
    "SELECT coalesce(datname, '-'), coalesce(usename, '-'), backend_type, count(*)"
    " FROM pg_stat_activity GROUP BY 1, 2, 3 ORDER BY 1, 2, 3"
)
INSTALL = (
    "export DEBIAN_FRONTEND=noninteractive;"
    " apt-get update -qq >/dev/null && apt-get install -y -qq postgresql-client >/dev/null"
)

Run = Callable[[str, str], str]
"""Runs a shell script at an address, and returns what it printed."""


@dataclass(frozen=True, kw_only=True)
class Machine:
    """A droplet of the hour, and how to run scripts on it."""

    id: int
    address: str
    run: Run


def over_ssh(key: Path) -> Run:
    """Return a runner that logs in as root with this key."""
    options = ["StrictHostKeyChecking=no", "UserKnownHostsFile=/dev/null", "LogLevel=ERROR", "ConnectTimeout=10"]

    def run(address: str, script: str) -> str:
        command = ["ssh", "-i", str(key), *(part for option in options for part in ("-o", option)), f"root@{address}"]
        # by stdin: a command line is in the list of processes, and a script may hold a password
        done = subprocess.run(
            [*command, "bash -s"], input=script, capture_output=True, text=True, timeout=600, check=False
        )
        if done.returncode != 0:
            raise OSError(f"exit {done.returncode}: {done.stderr.strip()[-300:]}")
        return done.stdout.strip()

    return run


def wait_for(look: Callable[[], Any], seconds: float, what: str) -> Any:
    """Look until there is an answer; return it.

    Raises:
        CloudError: there is none in time.
    """
    deadline = time.monotonic() + seconds
    while not (found := look()):
        if time.monotonic() > deadline:
            raise CloudError(f"{what}: not there after {seconds:.0f} s")
        time.sleep(LOOK_SECONDS)
    return found


@contextmanager
def machine(
    cloud: Cloud, notebook: Notebook, region: str, image: str, runner: Callable[[Path], Run] = over_ssh
) -> Generator[Machine]:
    """Make a droplet with a key of its own; it is removed afterwards."""
    name, secret = f"ancla-first-hour-{notebook.begun:%H%M%S}", make_key()
    with ExitStack() as made, tempfile.TemporaryDirectory(prefix="ancla-first-hour-") as folder:
        file = Path(folder, "key")
        file.touch(mode=0o600)
        file.write_text(secret.get_secret_value())
        key = cloud.send("POST", "/v2/account/keys", {"name": name, "public_key": public_line(secret)})["ssh_key"]
        made.callback(notebook.remove, f"SSH key {name}", lambda: cloud.delete(f"/v2/account/keys/{key['id']}"))
        body = {"name": name, "region": region, "size": "s-1vcpu-1gb", "image": image, "ssh_keys": [key["id"]]}
        droplet = cloud.send("POST", "/v2/droplets", body)["droplet"]
        path = f"/v2/droplets/{droplet['id']}"
        made.callback(notebook.remove, f"droplet {name}", lambda: cloud.delete(path))

        def public() -> str | None:
            networks = (cloud.get(path) or {})["droplet"]["networks"]["v4"]
            return next((each["ip_address"] for each in networks if each["type"] == "public"), None)

        address, run = wait_for(public, SSH_SECONDS, name), runner(file)
        wait_for(lambda: _answers(run, address), SSH_SECONDS, f"SSH of {name}")
        yield Machine(id=droplet["id"], address=address, run=run)


def ask_machine(cloud: Cloud, notebook: Notebook, droplet: Machine) -> None:
    """Ask what leaves the droplet, how sshd runs, and which address a login over the reserved IP comes from."""

    def mail() -> tuple[bool | None, object]:
        tried = "; ".join(
            f"timeout 8 bash -c '</dev/tcp/{host}/{port}' 2>/dev/null && echo {port} open || echo {port} shut"
            for port, host in MAIL.items()
        )
        said = droplet.run(droplet.address, tried).splitlines()
        return ("443 open" in said and "587 shut" in said) or None, said

    def sources() -> tuple[bool | None, object]:
        address = cloud.send("POST", "/v2/reserved_ips", {"droplet_id": droplet.id})["reserved_ip"]["ip"]
        path = f"/v2/reserved_ips/{address}"

        def settled() -> bool:  # while it is being given to the droplet, it answers 422 to everything
            return not (cloud.get(path) or {"reserved_ip": {"locked": False}})["reserved_ip"]["locked"]

        def remove() -> None:
            wait_for(settled, SSH_SECONDS, address)
            cloud.delete(path)

        try:
            wait_for(lambda: _answers(droplet.run, address), SSH_SECONDS, address)
            seen = [droplet.run(each, "echo ${SSH_CONNECTION%% *}") for each in (droplet.address, address)]
        finally:
            notebook.remove(f"reserved IP {address}", remove)
        return seen[0] == seen[1], f"public: {seen[0]}, reserved: {seen[1]}"

    def run(script: str) -> Callable[[], tuple[bool | None, object]]:
        return lambda: (None, droplet.run(droplet.address, script))

    ask = notebook.ask
    ask("B1", "Which ports lead out of a droplet?", "443; no mail by 25, 465, 587", mail)
    ask(
        "B2",
        "How does sshd run?",
        "the converge settles it",
        run("systemctl is-enabled ssh.socket ssh.service || true"),
    )
    ask("D", "How does cloud-init end?", "0 or 2", run("cloud-init status --wait >/dev/null; echo $?"))
    ask("B3", "Does a login over the reserved IP show its own source?", "the same address twice", sources)


def ask_cluster(cloud: Cloud, notebook: Notebook, droplet: Machine, region: str, version: str) -> None:
    """Ask a cluster's certificate, roles and sessions, and for a fork at a time between two backups."""
    name = f"ancla-first-hour-{notebook.begun:%H%M%S}"
    body: dict[str, Any] = {
        "name": name, "engine": "pg", "version": version, "size": "db-s-1vcpu-1gb", "region": region, "num_nodes": 1,
        "rules": [{"type": "droplet", "value": str(droplet.id)}],
    }  # fmt: skip
    with ExitStack() as made:
        cluster = _cluster(cloud, notebook, made, body)
        private = cluster["private_connection"]

        def psql(query: str, at: dict[str, Any] = private) -> str:
            authority = certificate_authority(cloud, cluster["id"])
            script = (
                f"cat >/root/ca.pem <<'END'\n{authority}\nEND\nexport PGPASSWORD='{at['password']}'\n"
                f"psql -XAtq -v ON_ERROR_STOP=1 -F ' ' 'host={at['host']} port={at['port']} user={at['user']}"
                f" dbname=defaultdb sslmode=verify-full sslrootcert=/root/ca.pem' <<'END'\n{query};\nEND\n"
            )
            return droplet.run(droplet.address, script)

        def show(query: str) -> Callable[[], tuple[bool | None, object]]:
            return lambda: (None, psql(query).splitlines())

        names = (
            f"openssl s_client -starttls postgres -connect {private['host']}:{private['port']} </dev/null 2>/dev/null"
            " | openssl x509 -noout -ext subjectAltName"
        )
        ask = notebook.ask
        ask("C8", "Which names has the certificate?", "the private one among them", lambda: (
            private["host"] in (said := droplet.run(droplet.address, names)), said))  # fmt: skip
        ask("C8", "Has apt psql?", "yes", lambda: (True, droplet.run(droplet.address, f"{INSTALL} && psql -V")))
        ask("C8", "Does verify-full against the private name work?", "yes", lambda: (True, psql("SHOW server_version")))
        cloud.send("POST", f"/v2/databases/{cluster['id']}/users", {"name": "app"})
        for item, question, query in (
            ("C8", "Which roles, with which attributes (super, createdb, createrole, replication, bypassrls)?", ROLES),
            ("C3", "Who is a member of which role, with ADMIN?", MEMBERS),
            ("C8", "Who owns the databases?", OWNERS),
            ("C4", "Whose sessions are there, beside ours?", SESSIONS),
        ):
            ask(item, question, "see docs/fidelity.md", show(query))
        ask(
            "C3",
            "May doadmin join a role that the API made?",
            "not relied on",
            show("GRANT app TO doadmin; SELECT 'granted'"),
        )
        ask("C6", "Has a fork the data of a time between two backups?", "it has", lambda: _fork(
            cloud, notebook, made, body, psql))  # fmt: skip


def _cluster(cloud: Cloud, notebook: Notebook, made: ExitStack, body: dict[str, Any]) -> dict[str, Any]:
    """Make a cluster and wait for it; `made` destroys it at the end."""
    path = f"/v2/databases/{cloud.send('POST', '/v2/databases', body)['database']['id']}"
    made.callback(notebook.remove, f"database cluster {body['name']}", lambda: cloud.delete(path))

    def online() -> dict[str, Any] | None:
        found = (cloud.get(path) or {})["database"]
        return found if found["status"] == "online" else None

    return wait_for(online, CLUSTER_SECONDS, body["name"])


def _fork(
    cloud: Cloud, notebook: Notebook, made: ExitStack, body: dict[str, Any], psql: Callable[..., str]
) -> tuple[bool | None, object]:
    source = next(each for each in cloud.items("/v2/databases", "databases") if each["name"] == body["name"])
    listed = f"/v2/databases/{source['id']}/backups"
    wait_for(lambda: cloud.items(listed, "backups"), CLUSTER_SECONDS, "the first backup")
    psql("CREATE TABLE hour AS SELECT 1 AS n")
    time.sleep(BETWEEN_SECONDS)
    asked = psql("SELECT to_char(clock_timestamp() AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS\"Z\"')")
    time.sleep(BETWEEN_SECONDS)
    psql("INSERT INTO hour VALUES (2)")
    restore = {"database_name": body["name"], "backup_created_at": asked}
    fork = _cluster(cloud, notebook, made, {**body, "name": f"{body['name']}-fork", "backup_restore": restore})
    rows = psql("SELECT string_agg(n::text, ' ' ORDER BY n) FROM hour", fork["private_connection"])
    return rows == "1", f"asked for {asked}, between two rows; it has the rows: {rows}"


def _answers(run: Run, address: str) -> bool:
    try:
        return run(address, "echo up") == "up"
    except (OSError, subprocess.SubprocessError):
        return False
