from .grafana import Dashboard, Panel, Row
from .queries import FULL, rate

DASHBOARD = Dashboard(
    "connections",
    "Connections",
    "Clients: how many, how they come and why they go.",
    [
        Row(
            "Held",
            [
                Panel(
                    "Connections",
                    "Open connections by gateway.",
                    "short",
                    [("sum by (pod) (fanfare_connections)", "{{pod}}")],
                    stacked=True,
                ),
                Panel(
                    "Of the limit",
                    "Share of the connections that a gateway takes. 85 % is a ticket, 95 % a page.",
                    "percentunit",
                    [("fanfare_connections / (fanfare_connection_limit > 0)", "{{pod}}")],
                    top=1,
                    colours=FULL,
                ),
                Panel(
                    "Users and subscriptions",
                    "Users with a connection (one on two gateways counts twice), subscriptions, "
                    "channels with a subscriber.",
                    "short",
                    [
                        ("sum(fanfare_users)", "users"),
                        ("sum(fanfare_subscriptions)", "subscriptions"),
                        ("sum(fanfare_channels)", "channels"),
                    ],
                ),
            ],
        ),
        Row(
            "Coming and going",
            [
                Panel(
                    "Opened by transport",
                    "Connections that were opened.",
                    "ops",
                    [(rate("fanfare_connections_opened_total", "transport"), "{{transport}}")],
                    stacked=True,
                ),
                Panel(
                    "Closed by code",
                    "1000 as it should be, 1006 the network, 1012 a drain, 1013 no room, 4000 slow, "
                    "4001 silent, 4500 not allowed.",
                    "ops",
                    [(rate("fanfare_connections_closed_total", "code"), "{{code}}")],
                    stacked=True,
                ),
                Panel(
                    "Closed by whom",
                    "Who ended connections: server, client, network.",
                    "ops",
                    [(rate("fanfare_connections_closed_total", "initiator"), "{{initiator}}")],
                    stacked=True,
                ),
                Panel(
                    "Handshakes",
                    "Attempts to connect: `failed` have shown no valid token, `overloaded` and "
                    "`draining` were sent elsewhere.",
                    "ops",
                    [(rate("fanfare_handshakes_total", "result"), "{{result}}")],
                    stacked=True,
                ),
                Panel(
                    "Storm",
                    "Connections opened: at five times the average of the hour before there is a ticket.",
                    "ops",
                    [
                        ("sum(rate(fanfare_connections_opened_total[5m]))", "five minutes"),
                        ("sum(rate(fanfare_connections_opened_total[1h]))", "one hour"),
                    ],
                ),
                Panel(
                    "Going away",
                    "Gateways that drain.",
                    "short",
                    [("max by (pod) (fanfare_draining)", "{{pod}}")],
                    stacked=True,
                    decimals=0,
                ),
            ],
        ),
        Row(
            "Coming back",
            [
                Panel(
                    "Resumed sessions",
                    "Attempts to resume a session.",
                    "ops",
                    [(rate("fanfare_session_resumes_total", "result"), "{{result}}")],
                    stacked=True,
                ),
                Panel(
                    "Recovered subscriptions",
                    "Subscriptions from a position: `lost` were told that not everything since is left.",
                    "ops",
                    [(rate("fanfare_recoveries_total", "result"), "{{result}}")],
                    stacked=True,
                ),
                Panel(
                    "Recovered Socket.IO clients",
                    "Socket.IO clients that came back; all but `recovered` connected anew.",
                    "ops",
                    [(rate("fanfare_socketio_recoveries_total", "result"), "{{result}}")],
                    stacked=True,
                ),
                Panel(
                    "Tickets",
                    "Single-use tickets.",
                    "ops",
                    [(rate("fanfare_tickets_total", "outcome"), "{{outcome}}")],
                    stacked=True,
                ),
                Panel(
                    "Sessions not kept",
                    "Sessions that cannot be resumed, because Redis was away.",
                    "ops",
                    [(rate("fanfare_sessions_not_kept_total", "pod"), "{{pod}}")],
                    stacked=True,
                ),
                Panel(
                    "Slow clients",
                    "Connections that were closed because their queue was full.",
                    "ops",
                    [(rate("fanfare_slow_client_disconnects_total", "pod"), "{{pod}}")],
                    stacked=True,
                ),
            ],
        ),
        Row(
            "What clients ask for",
            [
                Panel(
                    "Commands",
                    "Commands of clients.",
                    "ops",
                    [(rate("fanfare_commands_total", "command"), "{{command}}")],
                    stacked=True,
                ),
                Panel(
                    "Errors by code",
                    "Errors told to clients.",
                    "ops",
                    [(rate("fanfare_errors_total", "code"), "{{code}}")],
                    stacked=True,
                ),
                Panel(
                    "Forwarded",
                    "Requests of Socket.IO polling that belong to another gateway, and open tunnels.",
                    "short",
                    [
                        (rate("fanfare_socketio_forwarded_total", "result"), "{{result}} per second"),
                        ("sum(fanfare_socketio_tunnels)", "tunnels"),
                    ],
                ),
            ],
        ),
    ],
)
