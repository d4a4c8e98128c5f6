"""Makes dashboards of Grafana's classic form out of panels and queries."""

import dataclasses
import json
import re

WIDTH = 24
SOURCE = {"type": "prometheus", "uid": "${datasource}"}
CHOSEN = 'namespace=~"$namespace", job=~"$job"'

# A gateway's own series, those every process has, and what the rules record of all gateways.
OWN = re.compile(r"(?<![\w:])((?:fanfare_|process_)\w+)(?:\{([^}]*)\})?")
RECORDED = re.compile(r"(?<![\w:])(fanfare:[\w:]+)(?:\{([^}]*)\})?")
PROBE = re.compile(r"(?<![\w:])(fanfare_probe_\w+)(?:\{([^}]*)\})?")
NATS = re.compile(r"(?<![\w:])(nats_\w+)(?:\{([^}]*)\})?")
REDIS = re.compile(r"(?<![\w:])(redis_\w+)(?:\{([^}]*)\})?")
KINDS = [
    (PROBE, 'namespace=~"$namespace"'),
    (OWN, f'{CHOSEN}, pod=~"$pod"'),
    (RECORDED, 'namespace=~"$namespace"'),
    (NATS, 'job=~"$nats_job"'),
    (REDIS, 'job=~"$redis_job"'),
]


def select(expression):
    """Narrows every series of a query to what is chosen above the dashboard."""
    for pattern, chosen in KINDS:

        def narrow(found, chosen=chosen):
            name, own = found.groups()
            if 'namespace=~"$namespace"' in (own or "") or name == "fanfare:slo_objective:ratio":
                return found.group()
            return f"{name}{{{', '.join(filter(None, [chosen, own]))}}}"

        expression = pattern.sub(narrow, expression)
    return expression


@dataclasses.dataclass
class Panel:
    """One figure or picture; `queries` are pairs of an expression and its legend."""

    title: str
    description: str
    unit: str
    queries: list
    kind: str = "timeseries"
    width: int = 8
    height: int = 7
    stacked: bool = False
    top: float | None = None
    decimals: int | None = None
    # Value from which on it is so coloured; the first one's is the colour below all.
    colours: list = dataclasses.field(default_factory=list)
    columns: list = dataclasses.field(default_factory=list)

    def targets(self):
        shape = {"heatmap": "heatmap", "table": "table"}.get(self.kind, "time_series")
        instant = self.kind in ("stat", "table", "bargauge")
        for letter, (expression, legend) in zip("ABCDEFGHIJ", self.queries, strict=False):
            yield {
                "refId": letter,
                "datasource": SOURCE,
                "expr": select(expression),
                "legendFormat": legend,
                "format": shape,
                "instant": instant,
                "range": not instant,
            }

    def field_config(self):
        defaults = {"unit": self.unit, "noValue": "–"}
        if self.top is not None:
            defaults |= {"min": 0, "max": self.top}
        elif self.kind == "timeseries":
            defaults |= {"min": 0}
        if self.decimals is not None:
            defaults["decimals"] = self.decimals
        if self.colours:
            steps = [
                {"color": colour, "value": None if n == 0 else value} for n, (value, colour) in enumerate(self.colours)
            ]
            defaults["thresholds"] = {"mode": "absolute", "steps": steps}
            defaults["color"] = {"mode": "thresholds"}
        if self.kind == "timeseries":
            stacking = {"mode": "normal" if self.stacked else "none", "group": "A"}
            defaults["custom"] = {
                "drawStyle": "line",
                "fillOpacity": 30 if self.stacked else 8,
                "lineWidth": 1,
                "showPoints": "never",
                "stacking": stacking,
            }
            if self.colours:
                defaults["color"] = {"mode": "palette-classic"}
                defaults["custom"]["thresholdsStyle"] = {"mode": "line"}
        overrides = [
            {
                "matcher": {"id": "byName", "options": name},
                "properties": [{"id": "unit", "value": unit}],
            }
            for name, _, unit in self.columns
        ]
        return {"defaults": defaults, "overrides": overrides}

    def options(self):
        last = {"calcs": ["lastNotNull"], "fields": "", "values": False}
        match self.kind:
            case "timeseries":
                legend = {"displayMode": "list", "placement": "bottom", "showLegend": True}
                return {"legend": legend, "tooltip": {"mode": "multi", "sort": "desc"}}
            case "stat":
                mode = "background" if self.colours else "value"
                return {"reduceOptions": last, "colorMode": mode, "graphMode": "none"}
            case "bargauge":
                return {"reduceOptions": last, "orientation": "horizontal", "displayMode": "lcd"}
            case "heatmap":
                scheme = {"mode": "scheme", "scheme": "Oranges", "steps": 64, "exponent": 0.5}
                return {"calculate": False, "color": scheme, "yAxis": {"unit": self.unit}}
            case _:
                return {"showHeader": True, "footer": {"show": False}}

    def transformations(self):
        """A table has one row for each pod and one column for each query."""
        if self.kind != "table":
            return []
        names = {column: name for name, column, _ in self.columns}
        order = {column: n for n, column in enumerate(names)}
        rename = {
            "includeByName": dict.fromkeys(names, True),
            "indexByName": order,
            "renameByName": names,
        }
        join = {"id": "joinByField", "options": {"byField": "pod", "mode": "outer"}}
        return [join, {"id": "organize", "options": rename}]

    def json(self, number, x, y):
        return {
            "id": number,
            "type": self.kind,
            "title": self.title,
            "description": self.description,
            "datasource": SOURCE,
            "gridPos": {"x": x, "y": y, "w": self.width, "h": self.height},
            "targets": list(self.targets()),
            "fieldConfig": self.field_config(),
            "options": self.options(),
            "transformations": self.transformations(),
        }


@dataclasses.dataclass
class Row:
    """Panels below a heading, from left to right."""

    title: str
    panels: list


def variable(name, label, query, everything=".*"):
    """A choice of the values of a label, all of them at first.

    `everything` also takes what has no such label; None: the values that the query finds.
    """
    return {
        "name": name,
        "label": label,
        "type": "query",
        "datasource": SOURCE,
        "query": {"query": query, "refId": name},
        "definition": query,
        "refresh": 2,
        "sort": 1,
        "multi": True,
        "includeAll": True,
        "allValue": everything,
        "current": {"selected": True, "text": ["All"], "value": ["$__all"]},
    }


SOURCE_VARIABLE = {
    "name": "datasource",
    "label": "Data source",
    "type": "datasource",
    "query": "prometheus",
    "refresh": 1,
    "current": {},
}
POD_VARIABLES = [
    variable("namespace", "Namespace", "label_values(fanfare_build_info, namespace)"),
    # Jobs by name: `process_*` has every process.
    variable("job", "Job", 'label_values(fanfare_build_info{namespace=~"$namespace"}, job)', None),
    variable("pod", "Pod", f"label_values(fanfare_build_info{{{CHOSEN}}}, pod)"),
]
DRAINS = {
    "name": "Drains",
    "datasource": SOURCE,
    "enable": True,
    "iconColor": "orange",
    "expr": select("fanfare_draining == 1"),
    "titleFormat": "{{pod}} goes away",
}


@dataclasses.dataclass
class Dashboard:
    """One file: `name` ends its address in Grafana."""

    name: str
    title: str
    description: str
    rows: list
    variables: list = dataclasses.field(default_factory=list)

    def panels(self):
        number, y = 0, 0
        for row in self.rows:
            number += 1
            place = {"x": 0, "y": y, "w": WIDTH, "h": 1}
            yield {"id": number, "type": "row", "title": row.title, "collapsed": False, "gridPos": place, "panels": []}
            x, y, tallest = 0, y + 1, 0
            for panel in row.panels:
                if x + panel.width > WIDTH:
                    x, y, tallest = 0, y + tallest, 0
                number += 1
                yield panel.json(number, x, y)
                x, tallest = x + panel.width, max(tallest, panel.height)
            y += tallest

    def text(self):
        links = {
            "type": "dashboards",
            "title": "Fanfare",
            "tags": ["fanfare"],
            "asDropdown": True,
            "includeVars": True,
            "keepTime": True,
        }
        dashboard = {
            "id": None,
            "uid": f"fanfare-{self.name}",
            "title": f"Fanfare / {self.title}",
            "description": self.description,
            "tags": ["fanfare"],
            "schemaVersion": 39,
            "version": 1,
            "editable": False,
            "graphTooltip": 1,
            "refresh": "30s",
            "timezone": "browser",
            "time": {"from": "now-1h", "to": "now"},
            "annotations": {"list": [DRAINS]},
            "links": [links],
            "templating": {"list": [SOURCE_VARIABLE, *POD_VARIABLES, *self.variables]},
            "panels": list(self.panels()),
        }
        return json.dumps(dashboard, indent=1, ensure_ascii=False) + "\n"
