"""Define the environment variables that `ops` reads.

Variables of other programs (PULUMI_*, DIGITALOCEAN_*, SPACES_*, AWS_*, PG*) keep their names and their meaning, and are
read where they are used.
"""

from __future__ import annotations

from pathlib import Path

from pydantic import Field, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from ops.core.errors import OpsError

OPTION_VARIABLES = {
    "ANCLA_IDENTITY": "--identity",
    "ANCLA_MAX_AGE_HOURS": "--max-age",
    "ANCLA_METRICS": "--metrics",
    "ANCLA_OUTPUTS": "--outputs",
    "ANCLA_PROGRESS": "--progress",
    "ANCLA_SIGNING_KEY": "--signing-key",
    "ANCLA_SPOOL": "--spool",
    "ANCLA_STACK": "--stack",
}
"""Variables that set an option of the commands that have it; its help describes them."""


class Environment(BaseSettings):
    """Settings from ANCLA_* variables, without the prefix. An empty variable counts as unset."""

    model_config = SettingsConfigDict(env_prefix="ANCLA_", env_ignore_empty=True, extra="ignore", frozen=True)

    runtime: Path | None = Field(
        default=None,
        description="Folder for the locks of running commands (default: /run/ancla for root, else /tmp/ancla-UID).",
    )
    state: Path | None = Field(
        default=None,
        description="Folder for alerts and metrics (default: /var/lib/ancla on a droplet, else ~/.local/state/ancla).",
    )
    audit: Path | None = Field(
        default=None,
        description="The audit log (default: /var/log/ancla/audit.jsonl on a droplet, else in the state folder).",
    )
    metrics: Path | None = Field(
        default=None, description="The Prometheus text file (default: metrics/ancla.prom in the state folder)."
    )
    notify: bool = Field(
        default=False, description="Send notifications and heartbeats from a workstation too (default: droplets only)."
    )


def environment() -> Environment:
    """Return the environment as it is now.

    Raises:
        OpsError: a variable has an invalid value.
    """
    try:
        return Environment()
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        raise OpsError(f"ANCLA_{str(first['loc'][0]).upper()}: {first['msg']}; change or unset it") from None
