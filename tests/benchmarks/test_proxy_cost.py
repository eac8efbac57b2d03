"""What the measurement of mode `auto`'s cost prints; no wall time is judged."""

import sys

import proxy_cost
import pytest


@pytest.mark.slow
def test_both_modes_are_measured_and_what_auto_adds_is_printed(monkeypatch, capsys):
    monkeypatch.setattr(proxy_cost, "STEPS", 3)
    monkeypatch.setattr(sys, "argv", ["proxy_cost.py", "--instances", "2", "--rounds", "2"])
    proxy_cost.main()
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert [line[:2] for line in lines[1:] if line[0] != "mode"] == [
        ["none", "recommendation"],
        ["none", "auto"],
        ["shadow", "recommendation"],
        ["shadow", "auto"],
    ]
    assert [line[:3] for line in lines if line[0] == "mode"] == [["mode", "auto", "adds"]] * 2
    for line in lines[1:]:
        if line[0] != "mode":
            whole, outside = map(int, line[2:])
            assert 0 < outside <= whole


def test_a_stopwatch_adds_up_the_calls_that_it_watches(monkeypatch):
    times = iter([1.0, 3.0, 10.0, 14.0])
    monkeypatch.setattr(proxy_cost.time, "thread_time", lambda: next(times))

    class Worker:
        def work(self, amount):
            return 2 * amount

    worker, watch = Worker(), proxy_cost.Stopwatch()
    watch.watch(worker, "work")
    assert (worker.work(3), worker.work(4)) == (6, 8)
    assert watch.seconds == 6.0
