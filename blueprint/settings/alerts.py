"""When somebody is told, and where."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from blueprint.fields import Percent, UrlPath, Written
from blueprint.model import Settings


class Thresholds(Settings):
    """Alert above these, in percent of the droplet, held for `MonitoringSettings.window`."""

    cpu: Percent = 70
    memory: Percent = 80
    disk: Percent = 80


class UptimeSettings(Settings):
    """Outside checks of the public address. `latency_ms` in milliseconds, `period` how long it must hold."""

    enabled: bool = True
    path: UrlPath = "/health"
    regions: tuple[Literal["us_east", "us_west", "eu_west", "se_asia"], ...] = ("us_east", "us_west")
    latency_ms: int = Field(default=500, ge=1)
    period: Literal["2m", "3m", "5m", "10m", "15m", "30m", "1h"] = "5m"


class SlackChannel(Settings):
    """A Slack channel; its webhook address is the secret `secrets.slackWebhook`."""

    channel: Annotated[str, Written(r"[#@]\S+", "is not a channel: it begins with #, such as #ops")]


class MonitoringSettings(Settings):
    """DigitalOcean monitoring. E-mail addresses must be those of verified members of the team."""

    thresholds: Thresholds = Thresholds()
    window: Literal["5m", "10m", "30m", "1h"] = "5m"
    emails: tuple[
        Annotated[str, Written(r"[^@\s]+@[^@\s]+\.[^@\s]+", "is not an e-mail address, such as ops@example.org")], ...
    ] = ()
    slack: SlackChannel | None = None
    uptime: UptimeSettings = UptimeSettings()
