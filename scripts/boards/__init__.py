"""What is on the dashboards, a module for each."""

from . import bus_storage, connections, delivery, offline, overview, pods

ALL = [board.DASHBOARD for board in (overview, delivery, connections, offline, bus_storage, pods)]
