"""The fault-injection test: real servers, a nemesis, independent clients, and a checker of what they logged.

1. `record`: the log, one line of JSON per event; README.md lists the events.
2. `history`, `segments`, `checker`, `findings`, `report`: what a log says, and which rules it breaks. No I/O.
3. `session`, `publisher`, `subscriber`, `workload`: the clients. They log before they act on what they heard.
4. `servers`, `cluster`, `faults`, `nemesis`: the servers, what is done to them, and when.
5. `run`, `__main__`: one run from start to verdict.
"""
