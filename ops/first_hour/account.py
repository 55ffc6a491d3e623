"""Ask the account itself. Nothing is made."""

from __future__ import annotations

from ops.first_hour.notebook import Notebook
from ops.managed_postgres.forks import CLUSTER_LIMIT
from ops.stack.cloud import Cloud


def ask_account(cloud: Cloud, notebook: Notebook, region: str) -> None:
    """Ask for limits, the region's VPCs, what the token may see, and what is on offer."""
    account = (cloud.get("/v2/account") or {}).get("account", {})

    def state() -> tuple[bool | None, object]:
        facts = {name: account.get(name) for name in ("status", "email_verified", "droplet_limit")}
        return facts["status"] == "active" and facts["email_verified"] is True, facts

    def vpcs() -> tuple[bool | None, object]:
        there = [vpc for vpc in cloud.items("/v2/vpcs", "vpcs") if vpc["region"] == region]
        return bool(there), {vpc["name"]: "default" if vpc["default"] else "not default" for vpc in there}

    def passwords() -> tuple[bool | None, object]:
        clusters = cloud.items("/v2/databases", "databases")
        empty = [cluster["name"] for cluster in clusters if not (cluster.get("connection") or {}).get("password")]
        return (not empty if clusters else None), f"{len(clusters)} clusters, without a password: {empty}"

    def room() -> tuple[bool | None, object]:
        count = len(cloud.items("/v2/databases", "databases"))
        return count + 2 <= CLUSTER_LIMIT, f"{count} of {CLUSTER_LIMIT}, unless the limit was raised"

    def versions() -> tuple[bool | None, object]:
        options = cloud.get("/v2/databases/options") or {}
        return None, (options.get("version_availability") or {}).get("pg") or options["options"]["pg"]["versions"]

    def registries() -> tuple[bool | None, object]:
        regions = (cloud.get("/v2/registry/options") or {})["options"]["available_regions"]
        return region in regions, regions

    ask = notebook.ask
    ask("F1", "Is the account in good standing?", "active, verified", state)
    ask("C1", f"Has {region} a VPC already?", "yes: the first one is the default, and cannot be deleted", vpcs)
    ask("A2", "Does the token see passwords of clusters?", "every one", passwords)
    ask("A2", "Does the token see Spaces keys?", "yes", lambda: (True, len(cloud.items("/v2/spaces/keys", "keys"))))
    ask("C6", "Is there room for a cluster and a fork?", "yes", room)
    ask("A9", "Which versions of PostgreSQL are sold, until when?", "those of the stack files", versions)
    ask("A7", "Which regions have registries?", f"{region} among them", registries)
