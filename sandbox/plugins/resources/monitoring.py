"""Alerts on what droplets do, and checks from outside."""

from __future__ import annotations

from sandbox.plugins.fields import one_of, ordered
from sandbox.plugins.resource import Cloud
from sandbox.plugins.resources.common import (
    NOTIFICATIONS,
    Endpoint,
    camelled,
    in_32_bits,
    name,
    notification_body,
    notification_state,
    sent,
    shortest_in_32_bits,
    shown,
    tag_list,
    tags,
    two_parts,
)
from sandbox.plugins.schema import how
from sandbox.plugins.values import Values

_PREFIX = "v1/insights"
_TYPES = tuple(
    f"{_PREFIX}/{kind}"
    for kind in (
        "droplet/cpu",
        "droplet/memory_utilization_percent",
        "droplet/disk_utilization_percent",
        "droplet/public_outbound_bandwidth",
        "droplet/public_inbound_bandwidth",
        "droplet/private_outbound_bandwidth",
        "droplet/private_inbound_bandwidth",
        "droplet/disk_read",
        "droplet/disk_write",
        "droplet/load_1",
        "droplet/load_5",
        "droplet/load_15",
        "lbaas/avg_cpu_utilization_percent",
        "lbaas/connection_utilization_percent",
        "lbaas/droplet_health",
        "lbaas/tls_connections_per_second_utilization_percent",
        "lbaas/increase_in_http_error_rate_percentage_4xx",
        "lbaas/increase_in_http_error_rate_percentage_5xx",
        "lbaas/increase_in_http_error_rate_count_4xx",
        "lbaas/increase_in_http_error_rate_count_5xx",
        "lbaas/high_http_request_response_time",
        "lbaas/high_http_request_response_time_50p",
        "lbaas/high_http_request_response_time_95p",
        "lbaas/high_http_request_response_time_99p",
    )
) + tuple(f"v1/dbaas/alerts/{kind}_alerts" for kind in ("load_15", "memory_utilization", "disk_utilization", "cpu"))


def _alert_body(new: Values) -> Values:
    return {
        **sent(new, "type", "description", "compare"),
        "value": shortest_in_32_bits(new["value"]),
        "window": new["window"],
        "entities": ordered(new.get("entities") or []),
        "tags": tag_list(new),
        "alerts": notification_body(new["alerts"]),
        "enabled": bool(new.get("enabled")),
    }


def _alert_state(policy: Values) -> Values:
    return {
        **camelled(policy),
        "value": in_32_bits(policy["value"]),
        "alerts": notification_state(policy["alerts"]),
    }


MONITOR_ALERT = Endpoint("/v2/monitoring/alerts", "policy", _alert_body, _alert_state, id="uuid").resource(
    "MonitorAlert",
    {
        "type": how(check=one_of(*_TYPES)),
        "compare": how(check=one_of("GreaterThan", "LessThan")),
        "enabled": how(default=True),
        "value": how(check=lambda value: None if value >= 0 else "must not be negative"),
        "window": how(check=one_of("5m", "10m", "30m", "1h")),
        "entities": how(
            unordered=True, check=lambda value: None if value else "must name at least one, or be left out"
        ),
        "tags": tags(),
        "alerts": how(inner=NOTIFICATIONS),
    },
)


def _check_body(new: Values) -> Values:
    return {
        **sent(new, "name", "type", "target"),
        "regions": ordered(new.get("regions") or []) or None,
        "enabled": bool(new.get("enabled")),
    }


UPTIME_CHECK = Endpoint("/v2/uptime/checks", "check", _check_body).resource(
    "UptimeCheck",
    {
        "name": name(),
        "type": how(default="https", check=one_of("ping", "http", "https")),
        "regions": how(unordered=True),
        "enabled": how(default=True),
    },
)


def _uptime_alert_body(new: Values) -> Values:
    return {
        **sent(new, "name", "type"),
        "threshold": new.get("threshold") or 0,
        "comparison": new.get("comparison") or "",
        "notifications": notification_body(new["notifications"][0]),
        "period": new.get("period") or "",
    }


def _uptime_alert_state(alert: Values) -> Values:
    return {
        **shown(alert, "name", "type"),
        "threshold": alert.get("threshold") or 0,
        "comparison": alert.get("comparison") or "",
        "period": alert.get("period") or "",
        "notifications": [notification_state(alert["notifications"])],
    }


def _find_uptime_alert(_: Cloud, id_: str) -> tuple[str, Values]:
    check, alert = two_parts("uptime alert ", "<check id>,<alert id>", id_)
    return alert, {"checkId": check}


_UPTIME_ALERTS = Endpoint("/v2/uptime/checks/{checkId}/alerts", "alert", _uptime_alert_body, _uptime_alert_state)
UPTIME_ALERT = _UPTIME_ALERTS.resource(
    "UptimeAlert",
    {
        "name": name(),
        "type": how(check=one_of("latency", "down", "down_global", "ssl_expiry")),
        "comparison": how(check=one_of("greater_than", "less_than")),
        "period": how(check=one_of("2m", "3m", "5m", "10m", "15m", "30m", "1h")),
        "notifications": how(check=lambda value: None if value else "must have one entry", inner=NOTIFICATIONS),
    },
    find=_find_uptime_alert,
)

RESOURCES = (MONITOR_ALERT, UPTIME_CHECK, UPTIME_ALERT)
