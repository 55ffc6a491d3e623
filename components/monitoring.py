"""DigitalOcean's own monitoring: alerts about droplets, and checks of the public address from outside."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import pulumi
import pulumi_digitalocean as digitalocean

from blueprint.settings.alerts import AlertsSettings, Limits
from components.component import AnclaComponent

# https when the environment has a certificate that browsers trust; until then a check by https is always down.
_SCHEME = "http"


@dataclass(frozen=True, kw_only=True)
class MonitoringArgs:
    """`tag` is the droplets' tag; `domain` is the host of the uptime check; `webhooks` are Slack's, by channel."""

    name: str
    settings: AlertsSettings
    domain: str
    tag: pulumi.Input[str]
    webhooks: Mapping[str, str] = field(default_factory=dict[str, str], repr=False)


@dataclass(frozen=True, kw_only=True)
class DropletAlert:
    """One alert: fires above `percent` of the droplet's capacity for the entire window."""

    key: str
    type: str
    percent: int


def build_droplet_alerts(limits: Limits) -> list[DropletAlert]:
    """Return the alerts about droplets."""
    return [
        DropletAlert(key="cpu", type="v1/insights/droplet/cpu", percent=limits.cpu),
        DropletAlert(key="memory", type="v1/insights/droplet/memory_utilization_percent", percent=limits.memory),
        DropletAlert(key="disk", type="v1/insights/droplet/disk_utilization_percent", percent=limits.disk),
    ]


class Monitoring(AnclaComponent):
    """Alerts and checks.

    With no channel there are checks and no alerts: the provider crashes on an alert that has none.
    """

    def __init__(self, name: str, args: MonitoringArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("ancla:index:Monitoring", name, opts)
        settings = args.settings
        has_channel = bool(settings.emails or settings.slack)
        if has_channel:
            for alert in build_droplet_alerts(settings.limits):
                self._droplet_alert(name, args, alert)
        if settings.uptime.regions:
            check = digitalocean.UptimeCheck(
                f"{name}-uptime",
                name=args.name,
                target=f"{_SCHEME}://{args.domain}{settings.uptime.path}",
                type=_SCHEME,
                regions=list(settings.uptime.regions),
                enabled=True,
                opts=self._child(),
            )
            if has_channel:
                self._uptime_alerts(name, args, check)
        self.register_outputs({})

    def _droplet_alert(self, name: str, args: MonitoringArgs, alert: DropletAlert) -> None:
        settings = args.settings
        digitalocean.MonitorAlert(
            f"{name}-{alert.key}",
            type=alert.type,
            description=f"{args.name}: {alert.key} above {alert.percent} %",
            compare="GreaterThan",
            value=alert.percent,
            window=settings.window,
            tags=[args.tag],
            enabled=True,
            alerts=digitalocean.MonitorAlertAlertsArgs(
                emails=list(settings.emails) or None,
                slacks=[
                    digitalocean.MonitorAlertAlertsSlackArgs(channel=channel, url=_webhook(args, key))
                    for key, channel in settings.slack.items()
                ]
                or None,
            ),
            opts=self._child(),
        )

    def _uptime_alerts(self, name: str, args: MonitoringArgs, check: digitalocean.UptimeCheck) -> None:
        settings = args.settings
        notifications = [
            digitalocean.UptimeAlertNotificationArgs(
                emails=list(settings.emails) or None,
                slacks=[
                    digitalocean.UptimeAlertNotificationSlackArgs(channel=channel, url=_webhook(args, key))
                    for key, channel in settings.slack.items()
                ]
                or None,
            )
        ]
        options = self._child(deleted_with=check)
        digitalocean.UptimeAlert(
            f"{name}-down",
            name=f"{args.name} is down",
            check_id=check.id,
            type="down_global",
            period=settings.uptime.period,
            notifications=notifications,
            opts=options,
        )
        digitalocean.UptimeAlert(
            f"{name}-latency",
            name=f"{args.name} is slow",
            check_id=check.id,
            type="latency",
            comparison="greater_than",
            threshold=settings.limits.latency,
            period=settings.uptime.period,
            notifications=notifications,
            opts=options,
        )


def _webhook(args: MonitoringArgs, channel: str) -> pulumi.Output[str]:
    return pulumi.Output.secret(args.webhooks.get(channel, ""))
