"""What `make bench` makes of its figures: the tests stand beside the code, and need no server."""

from bench.test_report import Budgets, Medians, Page

__all__ = ["Budgets", "Medians", "Page"]
