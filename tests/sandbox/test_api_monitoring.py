from __future__ import annotations

import pytest

from tests.sandbox.conftest import Sandbox

NOTICE = {"email": ["ops@nextgentech.mx"], "slack": []}
POLICY = {
    "alerts": NOTICE,
    "compare": "GreaterThan",
    "description": "CPU",
    "enabled": True,
    "entities": [],
    "tags": ["app"],
    "type": "v1/insights/droplet/cpu",
    "value": 70,
    "window": "5m",
}
CHECK = {"name": "page", "type": "https", "target": "https://example.org/health", "regions": ["us_east"]}
ALERT = {
    "name": "slow",
    "type": "latency",
    "threshold": 500,
    "comparison": "greater_than",
    "period": "5m",
    "notifications": NOTICE,
}


def test_an_alert_policy_is_kept_as_given(sandbox: Sandbox):
    made = sandbox.post("/v2/monitoring/alerts", POLICY)["policy"]
    assert made == POLICY | {"uuid": made["uuid"]}
    path = f"/v2/monitoring/alerts/{made['uuid']}"
    assert sandbox.put(path, POLICY | {"value": 90})["policy"]["value"] == 90
    assert sandbox.get("/v2/monitoring/alerts")["policies"][0]["value"] == 90
    sandbox.delete(path)
    assert sandbox.refused("GET", path)[0] == 404


@pytest.mark.parametrize(
    "change",
    [
        {"compare": "Above"},
        {"window": "7m"},
        {"type": "v1/insights/toaster/heat"},
        {"value": "high"},
        {"type": "v1/insights/droplet/memory_utilization_percent", "value": 101},
        {"alerts": {"email": [], "slack": []}},
        {"alerts": {"email": [], "slack": [{"channel": "#a", "url": "http://x"}]}},
        {"entities": ["1"]},
    ],
)
def test_a_wrong_alert_policy_is_refused(shared: Sandbox, change):
    assert shared.refused("POST", "/v2/monitoring/alerts", POLICY | change)[0] == 422


def test_an_uptime_check_has_alerts_and_a_state(sandbox: Sandbox):
    made = sandbox.post("/v2/uptime/checks", CHECK)["check"]
    assert made == CHECK | {"id": made["id"], "enabled": True}
    path = f"/v2/uptime/checks/{made['id']}"
    assert sandbox.get(f"{path}/state")["state"]["regions"]["us_east"]["status"] == "CHECKING"
    alert = sandbox.post(f"{path}/alerts", ALERT)["alert"]
    assert alert == ALERT | {"id": alert["id"]}
    down = {"name": "down", "type": "down", "period": "2m", "notifications": NOTICE}
    assert "threshold" not in sandbox.post(f"{path}/alerts", down)["alert"]
    changed = sandbox.put(f"{path}/alerts/{alert['id']}", ALERT | {"threshold": 900})["alert"]
    assert (changed["threshold"], changed["id"]) == (900, alert["id"])
    assert len(sandbox.get(f"{path}/alerts")["alerts"]) == 2
    sandbox.delete(f"{path}/alerts/{alert['id']}")
    assert sandbox.put(path, CHECK | {"enabled": False})["check"]["enabled"] is False
    sandbox.delete(path)
    assert sandbox.refused("GET", f"{path}/alerts")[0] == 404


@pytest.mark.parametrize(
    "change", [{"type": "smtp"}, {"target": "http://example.org"}, {"regions": ["mars"]}, {"name": ""}]
)
def test_a_wrong_check_is_refused(shared: Sandbox, change):
    assert shared.refused("POST", "/v2/uptime/checks", CHECK | change)[0] == 422


@pytest.mark.parametrize("change", [{"type": "up"}, {"period": "7m"}, {"threshold": None}, {"comparison": "equal"}])
def test_a_wrong_uptime_alert_is_refused(shared: Sandbox, change):
    path = "/v2/uptime/checks/" + shared.post("/v2/uptime/checks", CHECK)["check"]["id"]
    assert shared.refused("POST", f"{path}/alerts", ALERT | change)[0] == 422
