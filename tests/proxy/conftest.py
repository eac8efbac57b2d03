"""A subsystem so simple that everything about it can be told by hand."""

import numpy as np
import pytest

from kml_envs.proxy import Bounds, Choice, MLModelProxy, ProxyOptions, Subsystem, Verdict, batch


class Ledger(Subsystem):
    """Every 10 units of progress a decision waits: candidate k costs k. The built-in algorithm takes candidate 2."""

    observation = Bounds(["progress", "cost"], 0, 1e6)
    recommendation = Choice(5)
    reward_scale = 4.0
    critical_from = None  # progress from which the subsystem is critical

    def reset(self, seed):
        self.seed = seed
        self.done = self.paid = 0
        self.waiting = False
        self.decisions = []

    def features(self):
        return [self.done, self.paid]

    def builtin_decision(self):
        return 2

    def check(self, recommendation):
        return Verdict.SEGMENT_FREE if recommendation == 4 else Verdict.ACCEPTED

    def pending(self):
        return self.waiting

    def execute(self, decision):
        assert self.waiting
        self.decisions.append((self.done, int(decision)))
        self.paid += int(decision)
        self.waiting = False

    def run(self, until):
        while not self.waiting and self.done < until:
            self.done += 1
            self.waiting = self.done % 10 == 0

    def critical(self):
        return self.critical_from is not None and self.done >= self.critical_from

    def progress(self):
        return self.done

    def cost(self):
        return self.paid


@pytest.fixture
def ledger():
    return Ledger


@pytest.fixture
def start_proxy():
    """Build a running proxy over ledgers: start_proxy(instances, **options) returns proxy and ledgers."""

    def start(instances=1, factory=Ledger, seeds=None, controller=None, **options):
        proxy = MLModelProxy(batch(factory, instances))
        proxy.initialize(ProxyOptions(**{"episode_progress": 100} | options), controller)
        proxy.start()
        seeds = np.arange(instances) if seeds is None else seeds
        proxy.reset(np.ones(instances, dtype=bool), np.asarray(seeds, dtype=np.uint64))
        proxy.observe()
        return proxy, proxy.subsystem._members

    return start
