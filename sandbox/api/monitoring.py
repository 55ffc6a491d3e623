"""Alert policies and uptime checks. They are kept and answered; nothing here measures or notifies."""

from __future__ import annotations

import re
from typing import Any

from sandbox.api.context import Body, Call, invalid, list_of, new_uuid, not_found, now, operation
from sandbox.store import Record

_COMPARE = ("GreaterThan", "LessThan")
_WINDOWS = ("5m", "10m", "30m", "1h")
_TYPE = re.compile(r"v1/(insights/(droplet|lbaas)|dbaas/alerts|droplet/autoscale_alerts)/[a-z0-9_]+")


def _notifications(given: Any) -> Record:
    if not isinstance(given, dict):
        raise invalid("alerts is required")
    emails, slack = list_of(str, given.get("email"), "email"), list_of(dict, given.get("slack"), "slack")
    if not emails and not slack:
        raise invalid("at least one email or slack channel is required")
    for channel in slack:
        if not str(channel.get("url", "")).startswith("https://") or not channel.get("channel"):
            raise invalid("slack notifications need a channel and an https url")
    return {"email": emails, "slack": slack}


# --- alert policies --------------------------------------------------------------------------------------------------


def _policy_fields(call: Call) -> Record:
    kind = call.text("type", pattern=_TYPE.pattern, message="invalid alert type")
    value = call.body.get("value")
    if not isinstance(value, (int, float)) or isinstance(value, bool):
        raise invalid("value is required")
    if kind.endswith("_percent") and not 0 <= value <= 100:
        raise invalid("value must be between 0 and 100 for percentages")
    entities = call.texts("entities")
    for entity in entities:
        if "/droplet/" in kind and call.store.get("droplet", entity) is None:
            raise invalid(f"entity {entity} not found")
    return {
        "alerts": _notifications(call.body.get("alerts")),
        "compare": call.one_of("compare", _COMPARE, "invalid compare"),
        "description": str(call.body.get("description") or ""),
        "enabled": call.body.get("enabled") is not False,
        "entities": entities,
        "tags": call.texts("tags"),
        "type": kind,
        "value": value,
        "window": call.one_of("window", _WINDOWS, "invalid window"),
    }


def _policy(call: Call) -> Record:
    policy = call.store.get("alert", call.params["alert_uuid"])
    if policy is None:
        raise not_found("alert policy not found")
    return policy


@operation("monitoring_list_alertPolicy")
def list_policies(call: Call) -> Body:
    """List the alert policies."""
    return call.page("policies", call.store.list("alert"))


@operation("monitoring_create_alertPolicy")
def create_policy(call: Call) -> Body:
    """Keep an alert policy."""
    policy = {**_policy_fields(call), "uuid": new_uuid()}
    return {"policy": call.store.put("alert", policy["uuid"], policy)}


@operation("monitoring_get_alertPolicy")
def get_policy(call: Call) -> Body:
    """Return one alert policy."""
    return {"policy": _policy(call)}


@operation("monitoring_update_alertPolicy")
def update_policy(call: Call) -> Body:
    """Replace an alert policy."""
    policy = {**_policy(call), **_policy_fields(call)}
    return {"policy": call.store.put("alert", policy["uuid"], policy)}


@operation("monitoring_delete_alertPolicy")
def delete_policy(call: Call) -> None:
    """Remove an alert policy."""
    call.store.delete("alert", _policy(call)["uuid"])


# --- uptime ----------------------------------------------------------------------------------------------------------

_CHECK_TYPES = ("ping", "http", "https")
_CHECK_REGIONS = ("us_east", "us_west", "eu_west", "se_asia")
_ALERT_TYPES = ("latency", "down", "down_global", "ssl_expiry")
_COMPARISONS = ("greater_than", "less_than")
_PERIODS = ("2m", "3m", "5m", "10m", "15m", "30m", "1h")


def _check_fields(call: Call) -> Record:
    target = call.text("target", message="target is required")
    kind = call.one_of("type", _CHECK_TYPES, "invalid check type", default=target.partition("://")[0])
    if kind != "ping" and not target.startswith(f"{kind}://"):
        raise invalid(f"target must be a URL that starts with {kind}://")
    regions = call.texts("regions") or list(_CHECK_REGIONS)
    if not set(regions) <= set(_CHECK_REGIONS):
        raise invalid(f"regions must be among: {', '.join(_CHECK_REGIONS)}")
    return {
        "name": call.text("name", message="name is required"),
        "type": kind,
        "target": target,
        "regions": regions,
        "enabled": call.body.get("enabled") is not False,
    }


def _check(call: Call) -> Record:
    check = call.store.get("check", call.params["check_id"])
    if check is None:
        raise not_found("check not found")
    return check


def _shown(check: Record) -> Body:
    return {name: check[name] for name in ("id", "name", "type", "target", "regions", "enabled")}


@operation("uptime_list_checks")
def list_checks(call: Call) -> Body:
    """List the uptime checks."""
    return call.page("checks", call.store.list("check"), _shown)


@operation("uptime_create_check")
def create_check(call: Call) -> Body:
    """Keep an uptime check."""
    check = {"id": new_uuid(), **_check_fields(call), "since": now()}
    return {"check": _shown(call.store.put("check", check["id"], check))}


@operation("uptime_get_check")
def get_check(call: Call) -> Body:
    """Return one uptime check."""
    return {"check": _shown(_check(call))}


@operation("uptime_update_check")
def update_check(call: Call) -> Body:
    """Replace an uptime check."""
    check = {**_check(call), **_check_fields(call)}
    return {"check": _shown(call.store.put("check", check["id"], check))}


@operation("uptime_delete_check")
def delete_check(call: Call) -> None:
    """Remove an uptime check with its alerts."""
    check = _check(call)
    call.store.delete("check", check["id"])
    call.store.delete_children("check_alert", check["id"])


@operation("uptime_get_checkState")
def get_state(call: Call) -> Body:
    """Answer `CHECKING` for every region: nothing here measures."""
    check = _check(call)
    state = {"status": "CHECKING", "status_changed_at": check["since"], "thirty_day_uptime_percentage": 0.0}
    return {"state": {"regions": dict.fromkeys(check["regions"], state)}}


def _alert_fields(call: Call) -> Record:
    kind = call.one_of("type", _ALERT_TYPES, "invalid alert type")
    fields: Record = {
        "name": call.text("name", message="name is required"),
        "type": kind,
        "notifications": _notifications(call.body.get("notifications")),
        "period": call.one_of("period", _PERIODS, "invalid period"),
    }
    if kind in ("latency", "ssl_expiry"):
        fields["comparison"] = call.one_of("comparison", _COMPARISONS, "invalid comparison")
        threshold = call.body.get("threshold")
        if not isinstance(threshold, int) or isinstance(threshold, bool):
            raise invalid("threshold is required")
        fields["threshold"] = threshold
    return fields


def _alert(call: Call) -> Record:
    alert = call.store.get("check_alert", call.params["alert_id"], parent=_check(call)["id"])
    if alert is None:
        raise not_found("alert not found")
    return alert


@operation("uptime_list_alerts")
def list_alerts(call: Call) -> Body:
    """List the alerts of an uptime check."""
    return call.page("alerts", call.store.list("check_alert", parent=_check(call)["id"]))


@operation("uptime_create_alert")
def create_alert(call: Call) -> Body:
    """Keep an alert of an uptime check."""
    alert = {"id": new_uuid(), **_alert_fields(call)}
    return {"alert": call.store.put("check_alert", alert["id"], alert, parent=_check(call)["id"])}


@operation("uptime_get_alert")
def get_alert(call: Call) -> Body:
    """Return one alert of an uptime check."""
    return {"alert": _alert(call)}


@operation("uptime_update_alert")
def update_alert(call: Call) -> Body:
    """Replace an alert of an uptime check."""
    alert = {"id": _alert(call)["id"], **_alert_fields(call)}
    return {"alert": call.store.put("check_alert", alert["id"], alert, parent=_check(call)["id"])}


@operation("uptime_delete_alert")
def delete_alert(call: Call) -> None:
    """Remove an alert of an uptime check."""
    call.store.delete("check_alert", _alert(call)["id"], parent=_check(call)["id"])
