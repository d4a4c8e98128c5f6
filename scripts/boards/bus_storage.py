from .grafana import Dashboard, Panel, Row, variable
from .queries import R, quantiles, rate

NATS_NOTE = " Needs prometheus-nats-exporter with `-prefix=nats`."
REDIS_NOTE = " Needs redis_exporter."
DASHBOARD = Dashboard(
    "bus-storage",
    "Bus and storage",
    "NATS and Redis, as the gateways see them and as they see themselves.",
    [
        Row(
            "The bus, from the gateways",
            [
                Panel(
                    "Connected",
                    "Whether each gateway reaches NATS.",
                    "short",
                    [("min by (pod) (fanfare_bus_connected)", "{{pod}}")],
                    top=1,
                    decimals=0,
                ),
                Panel(
                    "Canary",
                    "How long a gateway's message to itself takes through NATS and its own fan-out.",
                    "s",
                    quantiles("fanfare_canary_latency_seconds")[:3],
                ),
                Panel(
                    "Received",
                    "Messages that came from NATS.",
                    "ops",
                    [(rate("fanfare_bus_messages_received_total", "pod"), "{{pod}}")],
                    stacked=True,
                ),
                Panel(
                    "Reconnects",
                    "Times that a connection to NATS was made anew.",
                    "short",
                    [(f"sum by (pod) (increase(fanfare_bus_reconnects_total[{R}]))", "{{pod}}")],
                    stacked=True,
                ),
                Panel(
                    "Lost, malformed, denied",
                    "Messages that came too fast, messages of no known form, subscriptions that NATS "
                    "does not permit, dropped questions.",
                    "ops",
                    [
                        (rate("fanfare_bus_slow_consumer_total"), "too fast"),
                        (rate("fanfare_bus_malformed_total"), "malformed"),
                        (rate("fanfare_bus_subscribes_denied_total"), "denied"),
                        (rate("fanfare_bus_questions_dropped_total"), "questions dropped"),
                    ],
                ),
                Panel(
                    "Interests",
                    "Channels and patterns that NATS is asked for.",
                    "short",
                    [("sum by (pod) (fanfare_bus_interests)", "{{pod}}")],
                    stacked=True,
                ),
            ],
        ),
        Row(
            "NATS (needs prometheus-nats-exporter)",
            [
                Panel(
                    "Messages",
                    "What clients of NATS sent to it and got from it." + NATS_NOTE,
                    "ops",
                    [(f"sum(rate(nats_varz_in_msgs[{R}]))", "in"), (f"sum(rate(nats_varz_out_msgs[{R}]))", "out")],
                ),
                Panel(
                    "Connections and subscriptions",
                    "Those of all clients." + NATS_NOTE,
                    "short",
                    [("sum(nats_varz_connections)", "connections"), ("sum(nats_varz_subscriptions)", "subscriptions")],
                ),
                Panel(
                    "Pending",
                    "Bytes that wait for clients of NATS to read them; at 64 MiB one is cut off." + NATS_NOTE,
                    "bytes",
                    [("sum by (pod) (nats_connz_pending_bytes)", "{{pod}}")],
                ),
                Panel(
                    "Slow consumers",
                    "Connections that NATS cut off." + NATS_NOTE,
                    "short",
                    [(f"sum by (pod) (increase(nats_varz_slow_consumers[{R}]))", "{{pod}}")],
                    stacked=True,
                ),
                Panel("Memory", "Resident memory." + NATS_NOTE, "bytes", [("max by (pod) (nats_varz_mem)", "{{pod}}")]),
                Panel(
                    "CPU", "Share of one core." + NATS_NOTE, "percent", [("max by (pod) (nats_varz_cpu)", "{{pod}}")]
                ),
            ],
        ),
        Row(
            "JetStream (needs prometheus-nats-exporter with -jsz=all)",
            [
                Panel(
                    "Streams",
                    "Messages in each stream: the history of a namespace." + NATS_NOTE,
                    "short",
                    [("max by (stream_name) (nats_stream_total_messages)", "{{stream_name}}")],
                ),
                Panel(
                    "Bytes",
                    "Bytes in each stream." + NATS_NOTE,
                    "bytes",
                    [("max by (stream_name) (nats_stream_total_bytes)", "{{stream_name}}")],
                    stacked=True,
                ),
                Panel(
                    "Subjects",
                    "Subjects in each stream; NATS keeps some 120 bytes in memory for each." + NATS_NOTE,
                    "short",
                    [("max by (stream_name) (nats_stream_subject_count)", "{{stream_name}}")],
                ),
                Panel(
                    "Storage used",
                    "Share of what JetStream may store." + NATS_NOTE,
                    "percentunit",
                    [
                        (
                            "nats_varz_jetstream_stats_storage / (nats_varz_jetstream_config_max_storage > 0)",
                            "disk {{pod}}",
                        ),
                        (
                            "nats_varz_jetstream_stats_memory / (nats_varz_jetstream_config_max_memory > 0)",
                            "memory {{pod}}",
                        ),
                    ],
                    top=1,
                    colours=[(0, "green"), (0.8, "red")],
                ),
                Panel(
                    "Waiting for consumers",
                    "Messages that consumers have not been given." + NATS_NOTE,
                    "short",
                    [("max by (consumer_name) (nats_consumer_num_pending)", "{{consumer_name}}")],
                ),
                Panel(
                    "Not acknowledged",
                    "Messages that consumers have been given and have not acknowledged." + NATS_NOTE,
                    "short",
                    [("max by (consumer_name) (nats_consumer_num_ack_pending)", "{{consumer_name}}")],
                ),
            ],
        ),
        Row(
            "Redis, from the gateways",
            [
                Panel(
                    "In reach",
                    "Whether the last call of each gateway succeeded.",
                    "short",
                    [("min by (pod) (fanfare_store_up)", "{{pod}}")],
                    top=1,
                    decimals=0,
                    width=12,
                ),
                Panel(
                    "Failed calls",
                    "Calls that failed.",
                    "ops",
                    [(rate("fanfare_store_errors_total", "pod"), "{{pod}}")],
                    stacked=True,
                    width=12,
                ),
            ],
        ),
        Row(
            "Redis (needs redis_exporter)",
            [
                Panel(
                    "Up",
                    "Whether the exporter reaches each server, and whether its append-only file can be written."
                    + REDIS_NOTE,
                    "short",
                    [("redis_up", "{{pod}} up"), ("redis_aof_last_write_status", "{{pod}} append-only file")],
                    top=1,
                    decimals=0,
                ),
                Panel(
                    "Memory",
                    "Used memory; at its limit Redis refuses to write, or throws keys away." + REDIS_NOTE,
                    "bytes",
                    [("redis_memory_used_bytes", "{{pod}} used"), ("redis_memory_max_bytes > 0", "{{pod}} limit")],
                ),
                Panel(
                    "Evicted keys",
                    "Keys that Redis threw away: offline queues and sessions among them." + REDIS_NOTE,
                    "ops",
                    [(f"sum by (pod) (rate(redis_evicted_keys_total[{R}]))", "{{pod}}")],
                ),
                Panel(
                    "Commands",
                    "Commands by name." + REDIS_NOTE,
                    "ops",
                    [(f"topk(8, sum by (cmd) (rate(redis_commands_total[{R}])))", "{{cmd}}")],
                    stacked=True,
                ),
                Panel(
                    "Time per command",
                    "Time in the server, without the network." + REDIS_NOTE,
                    "s",
                    [
                        (
                            f"topk(8, sum by (cmd) (rate(redis_commands_duration_seconds_total[{R}])) / sum by (cmd) (rate(redis_commands_total[{R}]) > 0))",
                            "{{cmd}}",
                        )
                    ],
                ),
                Panel(
                    "Replicas",
                    "Replicas, and how long the slowest has not answered." + REDIS_NOTE,
                    "short",
                    [
                        ("redis_connected_slaves", "{{pod}} replicas"),
                        ("max by (pod) (redis_connected_slave_lag_seconds)", "{{pod}} lag in seconds"),
                    ],
                ),
            ],
        ),
    ],
    [
        variable("nats_job", "NATS job", "label_values(nats_varz_connections, job)"),
        variable("redis_job", "Redis job", "label_values(redis_up, job)"),
    ],
)
