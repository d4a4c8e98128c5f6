from .grafana import Dashboard, Panel, Row
from .queries import R, rate, share

DASHBOARD = Dashboard(
    "pods",
    "Gateways",
    "Each gateway: what it holds and what it costs.",
    [
        Row(
            "Now",
            [
                Panel(
                    "Gateways",
                    "Each gateway at this moment.",
                    "short",
                    [
                        ("sum by (pod) (fanfare_connections)", ""),
                        ("sum by (pod) (rate(fanfare_messages_out_total[5m]))", ""),
                        ("sum by (pod) (rate(process_cpu_seconds_total[5m]))", ""),
                        ("sum by (pod) (process_resident_memory_bytes)", ""),
                        ("sum by (pod) (process_open_fds)", ""),
                        ("time() - max by (pod) (process_start_time_seconds)", ""),
                    ],
                    kind="table",
                    width=24,
                    height=6,
                    columns=[
                        ("Gateway", "pod", "string"),
                        ("Connections", "Value #A", "short"),
                        ("Deliveries", "Value #B", "ops"),
                        ("CPU cores", "Value #C", "short"),
                        ("Memory", "Value #D", "bytes"),
                        ("Open files", "Value #E", "short"),
                        ("Up for", "Value #F", "s"),
                    ],
                ),
            ],
        ),
        Row(
            "Work",
            [
                Panel("CPU", "Cores in use.", "short", [(rate("process_cpu_seconds_total", "pod"), "{{pod}}")]),
                Panel(
                    "Busy",
                    "Share of the worker threads' time that is used; near 1 everything waits. Far "
                    "above the CPU in use, the process waits for CPU: it is throttled, or the node is "
                    "crowded.",
                    "percentunit",
                    [
                        (
                            f"sum by (pod) (rate(fanfare_worker_busy_seconds_total[{R}])) / sum by (pod) (fanfare_workers)",
                            "{{pod}}",
                        )
                    ],
                    top=1,
                    colours=[(0, "green"), (0.85, "red")],
                ),
                Panel(
                    "Deliveries per CPU second",
                    "Messages handed to connections for a second of CPU.",
                    "short",
                    [(share("fanfare_messages_out_total", "process_cpu_seconds_total", "pod"), "{{pod}}")],
                ),
                Panel(
                    "Deliveries",
                    "Messages handed to connections.",
                    "ops",
                    [(rate("fanfare_messages_out_total", "pod"), "{{pod}}")],
                ),
                Panel(
                    "Canary p99",
                    "How long a gateway's message to itself takes: what everything else waits, too.",
                    "s",
                    [
                        (
                            "histogram_quantile(0.99, sum by (le, pod) "
                            "(rate(fanfare_canary_latency_seconds_bucket[5m])))",
                            "{{pod}}",
                        )
                    ],
                ),
                Panel(
                    "Delivering",
                    "Whether the last canary came back.",
                    "short",
                    [("min by (pod) (fanfare_canary_up)", "{{pod}}")],
                    top=1,
                    decimals=0,
                ),
            ],
        ),
        Row(
            "Room",
            [
                Panel(
                    "Memory", "Resident memory.", "bytes", [("sum by (pod) (process_resident_memory_bytes)", "{{pod}}")]
                ),
                Panel(
                    "Memory per connection",
                    "Resident memory by open connections; what a gateway takes without any is in it.",
                    "bytes",
                    [
                        (
                            "sum by (pod) (process_resident_memory_bytes) / (sum by (pod) (fanfare_connections) > 100)",
                            "{{pod}}",
                        )
                    ],
                ),
                Panel(
                    "Waiting to be written",
                    "Bytes on the queues of connections whose sockets are full.",
                    "bytes",
                    [("sum by (pod) (fanfare_egress_buffered_bytes)", "{{pod}}")],
                ),
                Panel("Connections", "Open connections.", "short", [("sum by (pod) (fanfare_connections)", "{{pod}}")]),
                Panel(
                    "Open files",
                    "Share of those that the process may have; a connection takes one. 80 % is a ticket.",
                    "percentunit",
                    [("sum by (pod) (process_open_fds) / sum by (pod) (process_max_fds)", "{{pod}}")],
                    top=1,
                    colours=[(0, "green"), (0.8, "red")],
                ),
                Panel(
                    "Threads",
                    "Threads of the process.",
                    "short",
                    [("sum by (pod) (process_threads)", "{{pod}}")],
                    decimals=0,
                ),
            ],
        ),
        Row(
            "State",
            [
                Panel(
                    "Starts",
                    "Times that the process was started anew.",
                    "short",
                    [("sum by (pod) (changes(process_start_time_seconds[15m]))", "{{pod}}")],
                    stacked=True,
                    decimals=0,
                ),
                Panel(
                    "Configuration reloads",
                    "Reloads by result; after `refused` the old configuration stays in force.",
                    "short",
                    [(f"sum by (pod, result) (increase(fanfare_config_reloads_total[{R}]))", "{{pod}} {{result}}")],
                    stacked=True,
                    decimals=0,
                ),
                Panel(
                    "Spans",
                    "Spans of traces, by what became of them. Nothing where traces are not exported.",
                    "ops",
                    [(rate("fanfare_trace_spans_total", "result"), "{{result}}")],
                    stacked=True,
                ),
            ],
        ),
    ],
)
