"""The dashboard, judged by what Grafana's documentation says of its model, and by a real Prometheus server."""

from __future__ import annotations

import json
import re
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from itertools import combinations
from typing import Any

import pytest

from resilience.errors import ConfigError
from resilience.telemetry.grafana import dashboard, grafana
from resilience.telemetry.table import METRICS
from telemetry.servers import Prometheus, eventually

Json = dict[str, Any]

BOARD = dashboard()
PANELS: list[Json] = [panel for panel in BOARD["panels"] if panel["type"] != "row"]
TARGETS = [(panel, target) for panel in PANELS for target in panel["targets"]]
KNOWN = {metric.name: metric for metric in METRICS}
NAME = re.compile(r"resilience_\w+")


def whole(name: str) -> str:
    """The name of the metric that a series belongs to."""
    return name if name in KNOWN else re.sub(r"_(bucket|count|sum)$", "", name)


def asked(panel: Json) -> set[str]:
    """The metrics in the questions of a panel."""
    return {whole(name) for target in panel["targets"] for name in NAME.findall(target["expr"])}


def filled(expression: str) -> str:
    """A question as Grafana sends it."""
    for name, value in (("$__rate_interval", "3s"), ("$job", ".+"), ("$policy", ".+")):
        expression = expression.replace(name, value)
    assert "$" not in expression
    return expression


# -- a process that has every metric -----------------------------------------------------------------------------------


def exposition(since: float) -> str:
    """Every number of the table, as Prometheus reads it: counters grow, gauges stand."""
    lines = []
    for metric in METRICS:
        lines.append(f"# TYPE {metric.name.removesuffix('_total')} {metric.kind}")
        value = 0.5 if metric.kind == "gauge" else 100 * (time.monotonic() - since)
        for cell in metric.cells:
            pairs = zip(("policy", *metric.labels), ("payments", *cell.labels), strict=True)
            labels = ",".join(f'{label}="{text}"' for label, text in pairs)
            if metric.kind == "histogram":
                ends = ("0.1", "1.0", "+Inf")
                lines += [f'{metric.name}_bucket{{{labels},le="{end}"}} {value:.6f}' for end in ends]
                lines += [f"{metric.name}_{end}{{{labels}}} {value:.6f}" for end in ("count", "sum")]
            else:
                lines.append(f"{metric.name}{{{labels}}} {value:.6f}")
    return "\n".join([*lines, "# EOF", ""])


@pytest.fixture
def target() -> Iterator[str]:
    """Serves the exposition; where."""
    since = time.monotonic()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = exposition(since).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/openmetrics-text; version=1.0.0; charset=utf-8")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *args: Any) -> None:
            """Not on the error output."""

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def test_every_question_is_answered(prometheus: Callable[..., Prometheus], target: str) -> None:
    """A real server understands each expression, and finds something where a process has every metric."""
    server = prometheus([target])
    eventually(lambda: server.query("count_over_time(up[1m]) > 5"))
    empty = [target["expr"] for _, target in TARGETS if not server.query(filled(target["expr"]))]
    assert empty == []
    (alerts,) = BOARD["annotations"]["list"]
    assert server.query(filled(alerts["expr"])) == []  # understood; nothing fires
    for variable in BOARD["templating"]["list"][1:]:
        match = re.fullmatch(r"label_values\((.*), (\w+)\)", filled(variable["query"]["query"]))
        assert match is not None
        found = {labels[match[2]] for labels, _ in server.query(match[1])}
        assert found == {"job": {"test"}, "policy": {"payments"}}[variable["name"]]


# -- the table ---------------------------------------------------------------------------------------------------------


def test_every_metric_is_shown() -> None:
    """Whatever is in the table is in some panel, and nothing else is."""
    shown = set().union(*map(asked, PANELS))
    assert shown == set(KNOWN)


def test_panels_say_what_they_show() -> None:
    """The description has the table's words for each metric, so nobody has to guess."""
    for panel in PANELS:
        for name in asked(panel):
            assert f"`{name}`: {KNOWN[name].words}." in panel["description"], panel["title"]


def units(panel: Json) -> Iterator[tuple[str, str]]:
    """Each question and the unit of its answer."""
    default = panel["fieldConfig"]["defaults"].get("unit") or panel["options"]["yAxis"]["unit"]
    columns = iter(panel["fieldConfig"]["overrides"])
    for target in panel["targets"]:
        if panel["type"] == "table":
            default = next(value["value"] for value in next(columns)["properties"] if value["id"] == "unit")
        yield target["expr"], default


def test_units_are_those_of_the_table() -> None:
    """Seconds are shown as seconds, ratios as percentages, rates per second, and counts as numbers."""
    seen = set()
    for panel in PANELS:
        for expression, unit in units(panel):
            names = [KNOWN[whole(name)] for name in NAME.findall(expression)]
            first = names[0]
            if "\n/\n" in expression:
                allowed = {"s"} if first.unit == "seconds" or first.kind == "histogram" else {"percentunit", "short"}
            elif "histogram_quantile" in expression or panel["type"] == "heatmap":
                allowed = {"s"}
            elif "rate(" in expression:
                allowed = {"short"} if first.unit == "seconds" else {"ops"}
            else:
                allowed = {{"seconds": "s", "ratio": "percentunit", "": "short"}[first.unit]}
            assert unit in allowed, (panel["title"], expression, unit)
            seen.add(unit)
    assert seen == {"s", "percentunit", "ops", "short"}


# -- Grafana's model ---------------------------------------------------------------------------------------------------


def test_the_fields_are_those_of_the_documented_model() -> None:
    """What a new dashboard has, by the documentation, it has, in the types given there."""
    types = {
        "uid": str, "title": str, "tags": list, "timezone": str, "editable": bool, "graphTooltip": int, "panels": list,
        "time": dict, "timepicker": dict, "templating": dict, "annotations": dict, "refresh": str, "schemaVersion": int,
        "links": list,
    }  # fmt: skip
    for field, kind in types.items():
        assert type(BOARD[field]) is kind, field
    assert set(BOARD) - set(types) == {"description"}
    assert "id" not in BOARD  # an id belongs to one Grafana; with one, importing could overwrite another dashboard
    assert 36 <= BOARD["schemaVersion"] <= 41  # Grafana 10 to 12
    assert BOARD["time"] == {"from": "now-1h", "to": "now"}


def test_panels_lie_on_the_grid() -> None:
    """24 columns wide, no two on the same place, each with an id of its own, and rows are headings over all."""
    everything = BOARD["panels"]
    assert [panel["id"] for panel in everything] == list(range(1, len(everything) + 1))
    for panel in everything:
        at = panel["gridPos"]
        assert set(at) == {"h", "w", "x", "y"}
        assert at["x"] >= 0
        assert at["w"] > 0
        assert at["x"] + at["w"] <= 24
        if panel["type"] == "row":
            assert (at["x"], at["w"], at["h"], panel["panels"], panel["collapsed"]) == (0, 24, 1, [], False)
    for one, other in combinations((panel["gridPos"] for panel in everything), 2):
        beside = one["x"] + one["w"] <= other["x"] or other["x"] + other["w"] <= one["x"]
        below = one["y"] + one["h"] <= other["y"] or other["y"] + other["h"] <= one["y"]
        assert beside or below, (one, other)


def test_rows_lead_from_the_question_to_the_cause() -> None:
    """First which dependency is in trouble; budget and objectives are there too."""
    rows = [panel["title"] for panel in BOARD["panels"] if panel["type"] == "row"]
    assert rows == [
        "Which dependency is in trouble", "Traffic and outcomes", "Latency and timeouts", "Retries and hedges",
        "Circuits", "Limiters and bulkheads", "Service level objectives",
    ]  # fmt: skip


def test_targets_are_as_the_prometheus_source_wants_them() -> None:
    """Letters of their own, the chosen data source, and the form that the panel needs."""
    for panel in PANELS:
        letters = [target["refId"] for target in panel["targets"]]
        assert letters == sorted(set(letters))
        for target in panel["targets"]:
            assert target["datasource"] == panel["datasource"] == {"type": "prometheus", "uid": "${datasource}"}
            assert 'job=~"$job", policy=~"$policy"' in target["expr"]
            instant = panel["type"] == "table"
            assert target.get("instant", False) is instant
            assert target["range"] is not instant
            assert target.get("format", "time_series") == {"table": "table", "heatmap": "heatmap"}.get(
                panel["type"], "time_series"
            )


def test_the_kinds_of_panels_have_their_options() -> None:
    """Each kind is one that Grafana has, with the options it cannot do without."""
    needed = {
        "timeseries": {"legend", "tooltip"},
        "stat": {"graphMode", "colorMode", "justifyMode", "textMode", "reduceOptions", "orientation"},
        "table": {"frameIndex", "showHeader"},
        "heatmap": {"calculate", "color", "showValue", "yAxis", "legend", "tooltip", "exemplars"},
        "state-timeline": {"showValue", "rowHeight", "legend", "tooltip"},
    }
    assert {panel["type"] for panel in PANELS} == set(needed)
    for panel in PANELS:
        assert needed[panel["type"]] <= set(panel["options"]), panel["title"]
        assert set(panel["fieldConfig"]) == {"defaults", "overrides"}


def thresholds(node: Any) -> Iterator[Json]:
    """Every set of thresholds in a piece of the model."""
    if isinstance(node, dict):
        if "steps" in node and "mode" in node and isinstance(node["steps"], list):
            yield node
        for value in node.values():
            yield from thresholds(value)
    elif isinstance(node, list):
        for value in node:
            yield from thresholds(value)


def test_colours_begin_at_minus_infinity_and_rise() -> None:
    """As the model wants it: the first step has no value, the others grow."""
    found = list(thresholds(PANELS))
    assert len(found) > 5
    for each in found:
        first, *values = [step["value"] for step in each["steps"]]
        assert first is None
        assert values == sorted(values)
        assert all(step["color"] for step in each["steps"])


def test_the_table_names_its_columns() -> None:
    """Each question's answer has a head, and the colours are those of that column."""
    (panel,) = [panel for panel in PANELS if panel["type"] == "table"]
    merge, organize = panel["transformations"]
    assert merge == {"id": "merge", "options": {}}
    names = organize["options"]["renameByName"]
    assert set(names) == {"policy", *(f"Value #{target['refId']}" for target in panel["targets"])}
    heads = [override["matcher"]["options"] for override in panel["fieldConfig"]["overrides"]]
    assert list(names.values()) == ["policy", *heads]
    assert len(set(heads)) == len(heads)


def test_variables_choose_source_job_and_policy() -> None:
    """All jobs and policies at first, several may be chosen."""
    source, job, policy = BOARD["templating"]["list"]
    assert (source["name"], source["type"], source["query"]) == ("datasource", "datasource", "prometheus")
    for variable in (job, policy):
        assert variable["type"] == "query"
        assert variable["multi"] is variable["includeAll"] is True
        assert variable["current"]["value"] == ["$__all"]


def test_it_is_json_with_a_name_of_ones_own() -> None:
    """What is written is what is built."""
    assert json.loads(grafana()) == BOARD
    named = json.loads(grafana(title="Ours", uid="team-a_1"))
    assert (named["title"], named["uid"]) == ("Ours", "team-a_1")


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ({"uid": ""}, ConfigError),
        ({"uid": "a" * 41}, ConfigError),
        ({"uid": "a/b"}, ConfigError),
        ({"uid": 1}, TypeError),
        ({"title": ""}, ConfigError),
    ],
)
def test_bad_names_are_refused(arguments: Json, error: type[Exception]) -> None:
    """With an error that names the argument."""
    with pytest.raises(error, match=next(iter(arguments))):
        grafana(**arguments)
