"""The bound of choosing victims is what oracles do with the environment's placement, beside the best built-in."""

import numpy as np

from agents.results import Evaluation
from tools import victim_bounds


def test_the_table_compares_oracles_with_the_best_builtin(monkeypatch):
    def evaluate(contender, workloads, seeds):
        return told(contender.name, {"greedy": [2.0, 5.0]}.get(contender.name, [4.0, 4.0]), workloads, seeds)

    def evaluate_oracle(kind, env_id, env_kwargs, workloads, seeds, *, victims_only):
        assert victims_only
        return told(kind.value, {"informed oracle": [1.0, np.nan]}.get(kind.value, [1.0, 3.0]), workloads, seeds)

    def told(name, values, workloads, seeds):
        columns = np.repeat(values, len(seeds)).reshape(1, len(workloads), len(seeds))
        return Evaluation((name,), tuple(workloads), tuple(seeds), {"write_amplification": columns})

    monkeypatch.setattr(victim_bounds, "evaluate", evaluate)
    monkeypatch.setattr(victim_bounds, "evaluate_oracle", evaluate_oracle)
    rows = [line.split() for line in victim_bounds.victim_bounds(("uniform", "postgresql-pgbench")).splitlines()[-3:]]
    assert rows[0] == ["uniform", "greedy", "2.000", "1.000", "-50.0", "%", "1.000", "-50.0", "%"]
    assert rows[1][2:] == ["4.000", "3.000", "-25.0", "%", "-", "-"]
    assert rows[2][-4:] == ["-38.8", "%", "-50.0", "%"]


def test_knowing_the_future_is_worth_something():
    table = victim_bounds.victim_bounds(("hot-cold-0.95-0.05",))
    best, clairvoyant = (float(word) for word in table.splitlines()[-2].split()[2:4])
    assert clairvoyant < 0.95 * best
