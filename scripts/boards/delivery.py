from .grafana import Dashboard, Panel, Row
from .queries import R, quantiles, rate, share

DASHBOARD = Dashboard(
    "delivery",
    "Delivery",
    "The way of messages through the gateways, and everything that can end it.",
    [
        Row(
            "Latency",
            [
                Panel(
                    "Latency of deliveries",
                    "How many messages took how long from publish to the last socket of a gateway.",
                    "s",
                    [(f"sum by (le) (increase(fanfare_delivery_latency_seconds_bucket[{R}]))", "{{le}}")],
                    kind="heatmap",
                    width=12,
                    height=8,
                ),
                Panel(
                    "Quantiles",
                    "From publish to the last socket of a gateway.",
                    "s",
                    quantiles("fanfare_delivery_latency_seconds"),
                    width=12,
                    height=8,
                ),
                Panel(
                    "In time",
                    "Share of deliveries within the two objectives: 99 % in 250 ms, 99.9 % in 1 s.",
                    "percentunit",
                    [
                        (
                            share(
                                'fanfare_delivery_latency_seconds_bucket{le="0.25"}',
                                "fanfare_delivery_latency_seconds_count",
                            ),
                            "250 ms",
                        ),
                        (
                            share(
                                'fanfare_delivery_latency_seconds_bucket{le=~"1|1.0"}',
                                "fanfare_delivery_latency_seconds_count",
                            ),
                            "1 s",
                        ),
                    ],
                ),
                Panel(
                    "p99 by gateway",
                    "One that is slower than the others has too much to do, or a slow way to NATS.",
                    "s",
                    [
                        (
                            f"histogram_quantile(0.99, sum by (le, pod) (rate(fanfare_delivery_latency_seconds_bucket[{R}])))",
                            "{{pod}}",
                        )
                    ],
                ),
                Panel(
                    "Waiting to be written",
                    "Bytes on the queues of connections whose sockets are full.",
                    "bytes",
                    [("sum by (pod) (fanfare_egress_buffered_bytes)", "{{pod}}")],
                    stacked=True,
                ),
            ],
        ),
        Row(
            "Rates",
            [
                Panel(
                    "Deliveries",
                    "Messages handed to connections, by the namespace of their channel.",
                    "ops",
                    [(rate("fanfare_messages_out_total", "channel_namespace"), "{{channel_namespace}}")],
                    stacked=True,
                ),
                Panel(
                    "Publishes",
                    "Messages handed to the bus by gateways, by what became of that.",
                    "ops",
                    [(rate("fanfare_messages_in_total", "result"), "{{result}}")],
                    stacked=True,
                ),
                Panel(
                    "Fan-out",
                    "Deliveries for each message that came from the bus.",
                    "short",
                    [
                        (
                            share("fanfare_messages_out_total", "fanfare_bus_messages_received_total"),
                            "deliveries per message",
                        )
                    ],
                ),
                Panel(
                    "Bytes",
                    "Bytes of message frames handed to connections.",
                    "Bps",
                    [(rate("fanfare_message_bytes_out_total", "pod"), "{{pod}}")],
                    stacked=True,
                ),
                Panel(
                    "Compression",
                    "What is left of compressed messages; below 1 it saves. Nothing where no client negotiates it.",
                    "percentunit",
                    [
                        (
                            f"{share('fanfare_compression_after_bytes_total', 'fanfare_compression_before_bytes_total')} > 0",
                            "after / before",
                        )
                    ],
                ),
                Panel(
                    "HTTP API",
                    "Requests by class of status.",
                    "reqps",
                    [(rate("fanfare_http_requests_total", "status"), "{{status}}")],
                    stacked=True,
                ),
            ],
        ),
        Row(
            "Loss",
            [
                Panel(
                    "Drops by reason",
                    "Deliveries that did not happen. `expired` and `unwanted` are as they should be.",
                    "ops",
                    [(rate("fanfare_messages_dropped_total", "reason"), "{{reason}}")],
                    stacked=True,
                ),
                Panel(
                    "Share of drops",
                    "Dropped because a client was slow or gone. 0.1 % pages.",
                    "percentunit",
                    [
                        (
                            share(
                                'fanfare_messages_dropped_total{reason=~"queue_full|connection_lost"}',
                                "fanfare_messages_out_total",
                            ),
                            "dropped",
                        )
                    ],
                ),
                Panel(
                    "Slow clients",
                    "Connections that were closed because their queue was full.",
                    "ops",
                    [(rate("fanfare_slow_client_disconnects_total", "pod"), "{{pod}}")],
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
                    "Malformed",
                    "Messages on the bus that are of no form that can be delivered.",
                    "ops",
                    [(rate("fanfare_bus_malformed_total", "pod"), "{{pod}}")],
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
            "History",
            [
                Panel(
                    "From the log",
                    "Messages that filled a hole, and those that new subscriptions began with.",
                    "ops",
                    [
                        (rate("fanfare_history_filled_messages_total"), "filled"),
                        (rate("fanfare_history_replayed_messages_total"), "replayed"),
                    ],
                ),
                Panel(
                    "Holes",
                    "Times that a live message did not follow the one before it, so that the log was read.",
                    "ops",
                    [(rate("fanfare_history_holes_total", "pod"), "{{pod}}")],
                    stacked=True,
                ),
                Panel(
                    "Recoveries",
                    "Subscriptions from a position: `lost` were told that not everything since is left.",
                    "ops",
                    [(rate("fanfare_recoveries_total", "result"), "{{result}}")],
                    stacked=True,
                ),
                Panel(
                    "Retained channels",
                    "Newest messages that gateways have at hand for snapshots, on one gateway.",
                    "short",
                    [("max by (channel_namespace) (fanfare_retained_channels)", "{{channel_namespace}}")],
                ),
                Panel(
                    "Retained bytes",
                    "What these messages take, on one gateway.",
                    "bytes",
                    [("max by (channel_namespace) (fanfare_retained_bytes)", "{{channel_namespace}}")],
                ),
                Panel(
                    "Snapshots refused",
                    "Snapshots that were asked for and not given.",
                    "ops",
                    [(rate("fanfare_snapshots_refused_total", "reason"), "{{reason}}")],
                    stacked=True,
                ),
            ],
        ),
        Row(
            "Requests",
            [
                Panel(
                    "Asked of clients",
                    "What services asked single clients, by what came of it.",
                    "ops",
                    [(rate("fanfare_client_requests_total", "outcome"), "{{outcome}}")],
                    stacked=True,
                ),
                Panel(
                    "Webhooks",
                    "Requests to webhooks by outcome. Nothing where none is configured.",
                    "ops",
                    [(rate("fanfare_webhook_requests_total", "webhook, result"), "{{webhook}} {{result}}")],
                    stacked=True,
                ),
                Panel(
                    "Duration of webhooks",
                    "How long they took, whatever became of them.",
                    "s",
                    quantiles("fanfare_webhook_duration_seconds")[:3],
                ),
            ],
        ),
    ],
)
