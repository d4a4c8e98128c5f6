from .grafana import Dashboard, Panel, Row
from .queries import BURN, GOOD_AT_ZERO, R, quantiles, rate, stat

DASHBOARD = Dashboard(
    "overview",
    "Overview",
    "Whether messages arrive: objectives, traffic, and what is lost.",
    [
        Row(
            "Now",
            [
                stat(
                    "Gateways delivering",
                    "Gateways whose canary, a message to itself through the bus, comes back.",
                    "percentunit",
                    "avg(fanfare_canary_up)",
                    colours=[(0, "red"), (0.75, "orange"), (1, "green")],
                    decimals=0,
                ),
                stat("Connections", "Open connections of clients.", "short", "sum(fanfare_connections)"),
                stat("Deliveries", "Messages handed to connections.", "ops", rate("fanfare_messages_out_total")),
                stat(
                    "Publishes",
                    "Messages that gateways handed to the bus; what services publish to NATS is not among them.",
                    "ops",
                    rate("fanfare_messages_in_total"),
                ),
                stat(
                    "p99 latency",
                    "From publish to the last socket of a gateway; in the last five minutes.",
                    "s",
                    "histogram_quantile(0.99, sum by (le) (rate(fanfare_delivery_latency_seconds_bucket[5m])))",
                    colours=[(0, "green"), (0.25, "orange"), (1, "red")],
                ),
                stat(
                    "Gaps in the last hour",
                    "Times that subscribers were told that messages may be missing.",
                    "short",
                    "sum(increase(fanfare_gaps_total[1h]))",
                    colours=GOOD_AT_ZERO,
                    decimals=0,
                ),
            ],
        ),
        Row(
            "Objectives",
            [
                Panel(
                    "Error budget left",
                    "What is left of the budget of 30 days; below 0 the objective is missed (-100 % "
                    "is the worst that is shown).",
                    "percentunit",
                    [("clamp_min(1 - fanfare:slo_burn:ratio_30d, -1)", "{{slo}}")],
                    kind="bargauge",
                    top=1,
                    colours=[(0, "red"), (0.1, "orange"), (0.5, "green")],
                ),
                Panel(
                    "Burn rate, one hour",
                    "1: the budget is just used up at the end of 30 days. 14.4 pages.",
                    "short",
                    [("fanfare:slo_burn:ratio_1h", "{{slo}}")],
                    colours=BURN,
                ),
                Panel(
                    "Alerts",
                    "What Prometheus fires of Fanfare's alerts.",
                    "short",
                    [
                        (
                            'sum by (alertname, severity) (ALERTS{alertname=~"Fanfare.*", alertstate="firing"})',
                            "{{alertname}} ({{severity}})",
                        )
                    ],
                    stacked=True,
                ),
            ],
        ),
        Row(
            "Traffic",
            [
                Panel(
                    "Deliveries by namespace",
                    "Messages handed to connections, by the namespace of their channel.",
                    "ops",
                    [(rate("fanfare_messages_out_total", "channel_namespace"), "{{channel_namespace}}")],
                    stacked=True,
                ),
                Panel(
                    "Publishes by result",
                    "Messages handed to the bus by gateways; all but `ok` were answered with an error.",
                    "ops",
                    [(rate("fanfare_messages_in_total", "result"), "{{result}}")],
                    stacked=True,
                ),
                Panel(
                    "Delivery latency",
                    "From publish to the last socket of a gateway. The objectives are 250 ms and 1 s.",
                    "s",
                    quantiles("fanfare_delivery_latency_seconds"),
                ),
            ],
        ),
        Row(
            "Trouble",
            [
                Panel(
                    "Drops by reason",
                    "Deliveries that did not happen. `expired` and `unwanted` are as they should be.",
                    "ops",
                    [(rate("fanfare_messages_dropped_total", "reason"), "{{reason}}")],
                    stacked=True,
                ),
                Panel(
                    "Gaps by reason",
                    "Times that messages may have been lost on the way to a gateway; subscribers were told.",
                    "short",
                    [(f"sum by (reason) (increase(fanfare_gaps_total[{R}]))", "{{reason}}")],
                    stacked=True,
                ),
                Panel(
                    "Errors by code",
                    "Errors told to clients.",
                    "ops",
                    [(rate("fanfare_errors_total", "code"), "{{code}}")],
                    stacked=True,
                ),
            ],
        ),
        Row(
            "Seen from outside (needs `fanfare probe`)",
            [
                Panel(
                    "Probe",
                    "Whether what the probe publishes comes back to it.",
                    "short",
                    [("min by (pod) (fanfare_probe_up)", "{{pod}}")],
                    top=1,
                    decimals=0,
                ),
                Panel(
                    "Messages of the probe",
                    "What became of them; all but `ok` count against the objective.",
                    "ops",
                    [(rate("fanfare_probe_messages_total", "result"), "{{result}}")],
                    stacked=True,
                ),
                Panel(
                    "Latency of the probe",
                    "From its publish to its receiving, through the whole cluster.",
                    "s",
                    quantiles("fanfare_probe_latency_seconds"),
                ),
            ],
        ),
        Row(
            "Rollouts",
            [
                Panel(
                    "Versions",
                    "Gateways by version.",
                    "short",
                    [("count by (version) (fanfare_build_info)", "{{version}}")],
                    stacked=True,
                    decimals=0,
                ),
                Panel(
                    "Going away", "Gateways that drain.", "short", [("sum(fanfare_draining)", "draining")], decimals=0
                ),
                Panel(
                    "Connections by gateway",
                    "After a rollout they level out only as clients come and go.",
                    "short",
                    [("sum by (pod) (fanfare_connections)", "{{pod}}")],
                    stacked=True,
                ),
            ],
        ),
    ],
)
