"""The alerts and the dashboard: each alert is proven with promtool, and each metric exists."""

import json
import re
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml  # type: ignore[import-untyped]
from prometheus_client import REGISTRY

from app import metrics
from app.settings import ROOT

PROMETHEUS = ROOT / "deploy" / "prometheus"
DASHBOARD = ROOT / "deploy" / "grafana" / "orders.json"
PROOFS = Path(__file__).with_name("alerts.yml")
MISSING = "promtool is missing: run `apt-get install -y prometheus`, or `tests/run`"

# Prometheus's own.
_OF_PROMETHEUS = {"up"}
_NAME = re.compile(r"\b([a-z][a-z0-9]*(?:_[a-z0-9]+)+|up)\b(?!\s*\()")
_LABELS = re.compile(r"\{[^}]*\}|\b(?:by|without|on|ignoring) ?\([^)]*\)|\[[^]]*\]|\"[^\"]*\"")


def promtool(*arguments: str | Path) -> str:
    assert shutil.which("promtool"), MISSING
    done = subprocess.run(
        ["promtool", *arguments], capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def alerts() -> list[dict[str, Any]]:
    groups = yaml.safe_load((PROMETHEUS / "alerts.yml").read_text("utf-8"))["groups"]
    return [rule for group in groups for rule in group["rules"]]


def dashboard() -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads(DASHBOARD.read_text("utf-8"))
    return loaded


def panels() -> list[dict[str, Any]]:
    return [panel for panel in dashboard()["panels"] if panel["type"] != "row"]


def expressions() -> Iterator[tuple[str, str]]:
    """Each with the name of its alert or the title of its panel."""
    for alert in alerts():
        yield alert["alert"], alert["expr"]
    for panel in panels():
        for target in panel["targets"]:
            yield panel["title"], target["expr"]


def known() -> set[str]:
    """The names of all series that the service may show."""
    found = set()
    for family in REGISTRY.collect():
        found.add(family.name)
        suffixes = {"counter": ["_total"], "histogram": ["_bucket", "_count", "_sum"]}
        found |= {family.name + suffix for suffix in suffixes.get(family.type, [])}
    return found


def test_promtool_proves_each_alert() -> None:
    promtool("check", "config", PROMETHEUS / "prometheus.yml")
    promtool("test", "rules", PROOFS)


def test_each_alert_is_proven_to_come_and_to_stay_away() -> None:
    cases = [
        case
        for test in yaml.safe_load(PROOFS.read_text("utf-8"))["tests"]
        for case in test["alert_rule_test"]
    ]
    for alert in alerts():
        own = [case["exp_alerts"] for case in cases if case["alertname"] == alert["alert"]]
        assert any(own) and not all(own), alert["alert"]


def test_each_text_is_one_line_with_the_cure() -> None:
    for alert in alerts():
        text = alert["annotations"]["summary"]
        what, _, cure = text.partition(": ")
        assert what and cure and "\n" not in text, alert["alert"]


@pytest.mark.parametrize(("where", "expression"), list(expressions()))
def test_every_metric_exists(where: str, expression: str) -> None:
    names = set(_NAME.findall(_LABELS.sub("", expression)))
    assert names and names <= known() | _OF_PROMETHEUS, where


def test_prometheus_understands_every_panel(tmp_path: Path) -> None:
    variables = {"$__rate_interval": "5m", "$__range": "1h"}
    rules = []
    for number, (_, expression) in enumerate(expressions()):
        for name, value in variables.items():
            expression = expression.replace(name, value)
        rules.append({"record": f"panel:{number}", "expr": expression})
    file = tmp_path / "panels.yml"
    file.write_text(yaml.safe_dump({"groups": [{"name": "panels", "rules": rules}]}))
    promtool("check", "rules", file)


def test_panels_do_not_overlap() -> None:
    taken: set[tuple[int, int]] = set()
    for panel in dashboard()["panels"]:
        at = panel["gridPos"]
        cells = {(at["x"] + x, at["y"] + y) for x in range(at["w"]) for y in range(at["h"])}
        assert not cells & taken and at["x"] + at["w"] <= 24, panel["title"]
        taken |= cells
    ids = [panel["id"] for panel in dashboard()["panels"]]
    assert len(ids) == len(set(ids))


def test_the_documentation_has_every_metric() -> None:
    page = (ROOT / "docs" / "monitoring.md").read_text("utf-8")
    documented = set(re.findall(r"^\| `([a-z_]+)(?:\{\w+(?:, \w+)*\})?`", page, re.M))
    own = {
        family.name + ("_total" if family.type == "counter" else "")
        for family in REGISTRY.collect()
        if not family.name.startswith(("python_", "process_"))
    }
    assert documented == own
    assert {alert["alert"] for alert in alerts()} == set(
        re.findall(r"^\| ([A-Z]\w+) \|", page, re.M)
    )


def test_a_figure_without_a_fresh_look_is_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    figures = metrics.Figures()

    def shown() -> list[tuple[str, dict[str, str], float]]:
        return [(s.name, s.labels, s.value) for f in figures.collect() for s in f.samples]

    assert not shown()
    figures.show({"outbox_messages": {"": 3}, "dead_letters": {"order": 2}})
    assert shown() == [("dead_letters", {"queue": "order"}, 2), ("outbox_messages", {}, 3)]
    now = time.monotonic()
    monkeypatch.setattr(time, "monotonic", lambda: now + 31)
    assert not shown()


def test_what_is_held_is_counted_for_as_long_as_it_is() -> None:
    held = metrics.Held()

    def counts() -> dict[str, float]:
        return {s.labels["queue"]: s.value for s in next(held.collect()).samples}

    with held.hold("order"):
        with held.hold("order"), held.hold("product"):
            assert counts() == {"order": 2, "product": 1}
        assert counts() == {"order": 1}
    assert not counts()
