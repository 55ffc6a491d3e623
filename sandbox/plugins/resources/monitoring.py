"""Alerts on what droplets do, and checks from outside."""

from __future__ import annotations

from sandbox.plugins.errors import ProviderError
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
from sandbox.plugins.resource import Change, Cloud, Made, Resource
from sandbox.plugins.resources.common import (
    NOTIFICATIONS,
    in_32_bits,
    name,
    notification_body,
    notification_state,
    shortest_in_32_bits,
    tag_list,
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
        "type": new["type"],
        "description": new["description"],
        "compare": new["compare"],
        "value": shortest_in_32_bits(new["value"]),
        "window": new["window"],
        "entities": ordered(new.get("entities") or [], _STRINGS),
        "tags": tag_list(new),
        "alerts": notification_body(new["alerts"]),
        "enabled": bool(new.get("enabled")),
    }


def _read_alert(cloud: Cloud, id_: str, _: Values) -> Values | None:
    answer = cloud.rest.find(f"/v2/monitoring/alerts/{id_}")
    if answer is None:
        return None
    policy = answer["policy"]
    return {
        "type": policy["type"],
        "description": policy["description"],
        "compare": policy["compare"],
        "value": in_32_bits(policy["value"]),
        "window": policy["window"],
        "entities": policy.get("entities") or [],
        "tags": policy.get("tags") or [],
        "alerts": notification_state(policy["alerts"]),
        "enabled": policy["enabled"],
    }


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
    create=lambda cloud, new: Made(cloud.rest.post("/v2/monitoring/alerts", _alert_body(new))["policy"]["uuid"]),
    read=_read_alert,
    update=lambda cloud, change: cloud.rest.put(f"/v2/monitoring/alerts/{change.id}", _alert_body(change.new)),
    delete=lambda cloud, id_, _: cloud.rest.delete(f"/v2/monitoring/alerts/{id_}"),
)


def _check_body(new: Values) -> Values:
    return {
        "name": new["name"],
        "type": new["type"],
        "target": new["target"],
        "regions": ordered(new.get("regions") or [], _STRINGS) or None,
        "enabled": bool(new.get("enabled")),
    }


def _read_check(cloud: Cloud, id_: str, _: Values) -> Values | None:
    answer = cloud.rest.find(f"/v2/uptime/checks/{id_}")
    if answer is None:
        return None
    check = answer["check"]
    keys = ("name", "type", "target", "enabled")
    return {key: check[key] for key in keys} | {"regions": check.get("regions") or []}


UPTIME_CHECK = Resource(
    name="UptimeCheck",
    fields={
        "name": name(),
        "target": string(required=True),
        "type": string(default="https", check=one_of("ping", "http", "https")),
        "regions": set_of(string()),
        "enabled": boolean(default=True),
    },
    create=lambda cloud, new: Made(cloud.rest.post("/v2/uptime/checks", _check_body(new))["check"]["id"]),
    read=_read_check,
    update=lambda cloud, change: cloud.rest.put(f"/v2/uptime/checks/{change.id}", _check_body(change.new)),
    delete=lambda cloud, id_, _: cloud.rest.delete(f"/v2/uptime/checks/{id_}"),
)


def _uptime_alert_body(new: Values) -> Values:
    return {
        "name": new["name"],
        "type": new["type"],
        "threshold": new.get("threshold") or 0,
        "comparison": new.get("comparison") or "",
        "notifications": notification_body(new["notifications"][0]),
        "period": new.get("period") or "",
    }


def _create_uptime_alert(cloud: Cloud, new: Values) -> Made:
    return Made(cloud.rest.post(f"/v2/uptime/checks/{new['checkId']}/alerts", _uptime_alert_body(new))["alert"]["id"])


def _read_uptime_alert(cloud: Cloud, id_: str, known: Values) -> Values | None:
    answer = cloud.rest.find(f"/v2/uptime/checks/{known['checkId']}/alerts/{id_}")
    if answer is None:
        return None
    alert = answer["alert"]
    return {
        "name": alert["name"],
        "type": alert["type"],
        "threshold": alert.get("threshold") or 0,
        "comparison": alert.get("comparison") or "",
        "period": alert.get("period") or "",
        "notifications": [notification_state(alert["notifications"])],
    }


def _update_uptime_alert(cloud: Cloud, change: Change) -> None:
    cloud.rest.put(f"/v2/uptime/checks/{change.new['checkId']}/alerts/{change.id}", _uptime_alert_body(change.new))


def _find_uptime_alert(_: Cloud, id_: str) -> tuple[str, Values]:
    check, comma, alert = id_.partition(",")
    if not comma:
        raise ProviderError(f"uptime alert {id_}: import needs <check id>,<alert id>")
    return alert, {"checkId": check}


_NOTIFICATION: Field = record(NOTIFICATIONS)

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
    create=_create_uptime_alert,
    read=_read_uptime_alert,
    update=_update_uptime_alert,
    delete=lambda cloud, id_, known: cloud.rest.delete(f"/v2/uptime/checks/{known['checkId']}/alerts/{id_}"),
    find=_find_uptime_alert,
)

RESOURCES = (MONITOR_ALERT, UPTIME_CHECK, UPTIME_ALERT)
