from .grafana import Dashboard, Panel, Row
from .queries import R, rate, stat

DASHBOARD = Dashboard(
    "offline",
    "Offline queues and presence",
    "Messages for those who are away, and who is there.",
    [
        Row(
            "Offline queues",
            [
                stat(
                    "Behind the log",
                    "Stored messages that the queues have not been told of. Near 0 is as it should be.",
                    "short",
                    "max(fanfare_queue_unfed_messages)",
                    colours=[(0, "green"), (1000, "red")],
                    width=6,
                    height=7,
                ),
                Panel(
                    "Fed",
                    "Stored messages that the queues were told of, repetitions included.",
                    "ops",
                    [(rate("fanfare_queue_fed_messages_total", "pod"), "{{pod}}")],
                    stacked=True,
                    width=9,
                ),
                Panel(
                    "Not yet fed",
                    "Stored messages that the queues have not been told of, as each gateway saw it last.",
                    "short",
                    [("max by (pod) (fanfare_queue_unfed_messages)", "{{pod}}")],
                    width=9,
                ),
                Panel(
                    "Given again",
                    "Messages to connected users for want of an acknowledgement.",
                    "ops",
                    [(rate("fanfare_queue_redelivered_messages_total", "pod"), "{{pod}}")],
                    stacked=True,
                ),
                Panel(
                    "Rewound",
                    "Times that the queues were told anew, since Redis may have lost something: also at each start of a gateway.",
                    "short",
                    [(f"sum by (pod) (increase(fanfare_queue_rewinds_total[{R}]))", "{{pod}}")],
                    stacked=True,
                ),
                Panel(
                    "Expired",
                    "Messages that were too old when their turn came.",
                    "ops",
                    [(rate('fanfare_messages_dropped_total{reason="expired"}', "pod"), "{{pod}}")],
                    stacked=True,
                ),
            ],
        ),
        Row(
            "Presence",
            [
                Panel(
                    "Members",
                    "Members of channels with presence; a user counts once in each channel and gateway.",
                    "short",
                    [("sum by (pod) (fanfare_presence_members)", "{{pod}}")],
                    stacked=True,
                ),
                Panel(
                    "Joins and leaves",
                    "Times that somebody joined or left; `lost` were not told, since the bus was away.",
                    "ops",
                    [(rate("fanfare_presence_events_total", "event, result"), "{{event}} {{result}}")],
                ),
                Panel(
                    "Told anew",
                    "Times that Redis was told anew who is where: once at each start, and when it had been away.",
                    "short",
                    [(f"sum by (pod) (increase(fanfare_presence_told_anew_total[{R}]))", "{{pod}}")],
                    stacked=True,
                ),
            ],
        ),
        Row(
            "Their store",
            [
                Panel(
                    "Redis in reach",
                    "Whether the last call of each gateway succeeded.",
                    "short",
                    [("min by (pod) (fanfare_store_up)", "{{pod}}")],
                    top=1,
                    decimals=0,
                ),
                Panel(
                    "Failed calls",
                    "Calls to Redis that failed.",
                    "ops",
                    [(rate("fanfare_store_errors_total", "pod"), "{{pod}}")],
                    stacked=True,
                ),
                Panel(
                    "Sessions not kept",
                    "Sessions that cannot be resumed, because Redis was away.",
                    "ops",
                    [(rate("fanfare_sessions_not_kept_total", "pod"), "{{pod}}")],
                    stacked=True,
                ),
            ],
        ),
    ],
)
