"""Alerts on what droplets do, and checks from outside."""

from __future__ import annotations

from sandbox.plugins.fields import (
    Field,
    boolean,
    integer,
    list_of,
    number,
    one_of,
    ordered,
    record,
    set_of,
    string,
    tags,
)
from sandbox.plugins.resource import Cloud, Resource
from sandbox.plugins.resources.common import (
    NOTIFICATIONS,
    Endpoint,
    in_32_bits,
    name,
    notification_body,
    notification_state,
    sent,
    shortest_in_32_bits,
    shown,
    tag_list,
    two_parts,
)
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
_STRINGS = set_of(string())


def _alert_body(new: Values) -> Values:
    return {
        **sent(new, "type", "description", "compare"),
        "value": shortest_in_32_bits(new["value"]),
        "window": new["window"],
        "entities": ordered(new.get("entities") or [], _STRINGS),
        "tags": tag_list(new),
        "alerts": notification_body(new["alerts"]),
        "enabled": bool(new.get("enabled")),
    }


def _alert_state(policy: Values) -> Values:
    return {
        **shown(policy, "type", "description", "compare"),
        "value": in_32_bits(policy["value"]),
        "window": policy["window"],
        "entities": policy.get("entities") or [],
        "tags": policy.get("tags") or [],
        "alerts": notification_state(policy["alerts"]),
        "enabled": policy["enabled"],
    }


_ALERTS = Endpoint("/v2/monitoring/alerts", "policy", _alert_state, _alert_body, id="uuid")
MONITOR_ALERT = Resource(
    name="MonitorAlert",
    fields={
        "type": string(required=True, check=one_of(*_TYPES)),
        "compare": string(required=True, check=one_of("GreaterThan", "LessThan")),
        "description": string(required=True),
        "enabled": boolean(default=True),
        "value": number(required=True, check=lambda value: None if value >= 0 else "must not be negative"),
        "window": string(required=True, check=one_of("5m", "10m", "30m", "1h")),
        "entities": set_of(string(), check=lambda value: None if value else "must name at least one, or be left out"),
        "tags": tags(),
        "alerts": record(NOTIFICATIONS, required=True),
        "uuid": string(output_only=True),
    },
    create=_ALERTS.create,
    read=_ALERTS.read,
    update=_ALERTS.update,
    delete=_ALERTS.delete,
)


def _check_body(new: Values) -> Values:
    return {
        **sent(new, "name", "type", "target"),
        "regions": ordered(new.get("regions") or [], _STRINGS) or None,
        "enabled": bool(new.get("enabled")),
    }


def _check_state(check: Values) -> Values:
    keys = ("name", "type", "target", "enabled")
    return {key: check[key] for key in keys} | {"regions": check.get("regions") or []}


_CHECKS = Endpoint("/v2/uptime/checks", "check", _check_state, _check_body)
UPTIME_CHECK = Resource(
    name="UptimeCheck",
    fields={
        "name": name(),
        "target": string(required=True),
        "type": string(default="https", check=one_of("ping", "http", "https")),
        "regions": set_of(string()),
        "enabled": boolean(default=True),
    },
    create=_CHECKS.create,
    read=_CHECKS.read,
    update=_CHECKS.update,
    delete=_CHECKS.delete,
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


_NOTIFICATION: Field = record(NOTIFICATIONS)

_UPTIME_ALERTS = Endpoint("/v2/uptime/checks/{checkId}/alerts", "alert", _uptime_alert_state, _uptime_alert_body)
UPTIME_ALERT = Resource(
    name="UptimeAlert",
    fields={
        "name": name(),
        "checkId": string(required=True),
        "type": string(required=True, check=one_of("latency", "down", "down_global", "ssl_expiry")),
        "threshold": integer(),
        "comparison": string(check=one_of("greater_than", "less_than")),
        "period": string(check=one_of("2m", "3m", "5m", "10m", "15m", "30m", "1h")),
        "notifications": list_of(
            _NOTIFICATION, required=True, check=lambda value: None if value else "must have one entry"
        ),
    },
    create=_UPTIME_ALERTS.create,
    read=_UPTIME_ALERTS.read,
    update=_UPTIME_ALERTS.update,
    delete=_UPTIME_ALERTS.delete,
    find=_find_uptime_alert,
)

RESOURCES = (MONITOR_ALERT, UPTIME_CHECK, UPTIME_ALERT)
