"""The judge and the page must show a budget that is missed, a peer that did not run, and a message that was lost."""

import unittest

from .budgets import judge
from .report import number, write
from .results import Figure, Results


def run(key, target, round_number=1, **result):
    clean = {"lost": 0, "duplicated": 0, "reordered": 0, "connections": 1000}
    return {
        "key": key,
        "target": target,
        "round": round_number,
        "command": f"loadtest {key} --server-pid 4711",
        "servers": [target],
        "foreign_cpu": 0.01,
        "memory": {target: {"before": 0, "peak": 0}},
        "result": clean | result,
    }


def fanout(target, cost, round_number=1, key="fanout-one"):
    return run(key, target, round_number, server_cpu_us_per_delivery=cost, deliveries_per_cpu_second=1e6 / cost)


def document(*runs, **changes):
    return {
        "started": "2026-01-01T00:00:00+00:00",
        "options": "",
        "machine": {"CPU": "a CPU"},
        "versions": {"fanfare": "fanfare 1"},
        "not_run": {},
        "runs": list(runs),
    } | changes


def budget(page, beginning):
    (found,) = [found for found in judge(Results(page)) if found.name.startswith(beginning)]
    return found


class Medians(unittest.TestCase):
    def test_figure(self):
        self.assertEqual(Figure.of([3.0, None, 1.0, 2.0]), Figure(2.0, 1.0, 3.0, 3))
        self.assertIsNone(Figure.of([None]))

    def test_ratios_are_taken_within_a_round(self):
        # The machine was twice as slow in round 2. The ratio of the medians would be 1.5.
        page = document(
            *(fanout("fanfare", cost, n) for n, cost in ((1, 2.2), (2, 4.4), (3, 3.3))),
            *(fanout("floor", cost, n) for n, cost in ((1, 2.0), (2, 4.0), (3, 2.2))),
        )
        ratio = Results(page).ratio(("fanout-one", "fanfare"), ("fanout-one", "floor"), "server_cpu_us_per_delivery")
        self.assertAlmostEqual(ratio.median, 1.1)
        self.assertAlmostEqual(ratio.high, 1.5)

    def test_a_round_without_its_counterpart_has_no_ratio(self):
        page = document(fanout("fanfare", 2.0, 1), fanout("fanfare", 9.0, 2), fanout("floor", 2.0, 1))
        ratio = Results(page).ratio(("fanout-one", "fanfare"), ("fanout-one", "floor"), "server_cpu_us_per_delivery")
        self.assertEqual((ratio.median, ratio.rounds), (1.0, 1))


class Budgets(unittest.TestCase):
    def test_met(self):
        found = budget(document(fanout("fanfare", 1.1), fanout("floor", 1.0)), "1. ")
        self.assertTrue(found.met)
        self.assertAlmostEqual(found.margin, 0.05 / 1.15)

    def test_missed(self):
        found = budget(document(fanout("fanfare", 2.3), fanout("floor", 1.0)), "1. ")
        self.assertFalse(found.met)
        self.assertAlmostEqual(found.margin, -1.0)

    def test_at_least(self):
        for rate, met in ((130_000, True), (129_000, False)):
            page = document(run("pairs", "fanfare", messages_per_cpu_second=rate))
            self.assertIs(budget(page, "4. ").met, met)

    def test_growth_is_in_comparison_with_the_same_mode(self):
        page = document(
            fanout("fanfare", 2.0),
            fanout("fanfare", 0.1, key="fanout-flood"),
            fanout("fanfare", 0.2, key="fanout-flood-15000-128"),
        )
        found = budget(page, "3. ")
        self.assertEqual(found.name, "3. 15,000 subscribers, 128 B, as fast as it goes")
        self.assertEqual((found.measured, found.met), (2.0, False))

    def test_the_worst_stalled_reader_counts(self):
        slow = {"p99_us": 105, "baseline_p99_us": 100, "stalled": 10, "stalled_close_codes": "4000:9 0:1"}
        page = document(
            run("slow", "fanfare", 1, stalled_closed=10, stalled_rss_growth_bytes=10_000, **slow),
            run("slow", "fanfare", 2, stalled_closed=9, stalled_rss_growth_bytes=20_000_000, **slow),
        )
        self.assertTrue(budget(page, "7. 1 %").met)
        self.assertEqual(budget(page, "7. Memory").measured, 2_000_000)
        self.assertFalse(budget(page, "7. Stalled readers closed").met)

    def test_each_gateway_counts_its_own_half(self):
        key = "cluster-fanout-gateway-2"
        page = document(fanout("cluster-2", 1.0, key=key), fanout("cluster-1", 2.0, key="cluster-fanout-alone"))
        (found,) = [found for found in judge(Results(page)) if found.name.endswith("other gateway")]
        self.assertEqual(found.measured, 1.0)

    def test_a_run_that_lost_messages_does_not_count(self):
        page = document(fanout("fanfare", 1.0) | {"exit": 1}, fanout("floor", 1.0))
        found = budget(page, "1. ")
        self.assertEqual((found.measured, found.reason), (None, "**FAILED**, see below"))

    def test_what_was_not_measured_is_neither_met_nor_missed(self):
        self.assertEqual({found.met for found in judge(Results(document()))}, {None})


class Page(unittest.TestCase):
    def test_numbers(self):
        shown = [number(value) for value in (None, 0, 0.01234, 1.15, 12.34, 999.4, 1234.5, 3_456_789)]
        self.assertEqual(shown, ["–", "0", "0.0123", "1.15", "12.3", "999", "1,230", "3,460,000"])

    def test_shows_verdicts_and_the_command(self):
        page = write(document(fanout("fanfare", 2.3), fanout("floor", 1.0)))
        self.assertIn("at most 1.15 × floor | 2.3 | **NOT MET**, 100% beyond |", page)
        self.assertIn("# fanout-one; also floor\nloadtest fanout-one --server-pid $PID\n", page)
        self.assertIn("Nothing, in any of 2 measurements.", page)

    def test_shows_what_did_not_run(self):
        page = write(document(fanout("fanfare", 1.0), not_run={"centrifugo": "no Go", "fanfare-deflate": "no deflate"}))
        self.assertIn("| Centrifugo | not run: no Go |", page)
        self.assertIn("| not run: no deflate |", page)

    def test_shows_what_was_lost_and_what_failed(self):
        failed = {"key": "pairs", "target": "ws", "round": 2, "failure": "it did not listen"}
        page = write(document(run("churn", "fanfare", lost=3, closed=1), failed))
        self.assertIn("In 2 of 2 measurements:", page)
        self.assertIn("| churn | **Fanfare** | 1 | 3 lost, 1 closed |", page)
        self.assertIn("| pairs | Node `ws` | 2 | failed: it did not listen |", page)

    def test_warns_of_a_disturbed_run(self):
        quiet = write(document(fanout("fanfare", 1.0)))
        self.assertNotIn("DISTURBED", quiet)
        disturbed = fanout("fanfare", 1.0) | {"foreign_cpu": 0.5}
        self.assertIn("1 OF 1 MEASUREMENTS WERE DISTURBED", write(document(disturbed)))
        self.assertIn("THE MACHINE WAS BUSY", write(document(busy={"share": 0.5, "busiest": []})))


if __name__ == "__main__":
    unittest.main()
