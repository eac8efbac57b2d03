"""Mode `auto`: who is trusted, who loses trust, and what that may cost."""

from dataclasses import replace

import numpy as np
import pytest

from kml_envs.errors import UserError
from kml_envs.proxy import Mode
from kml_envs.proxy.accounts import UnitAccounts
from kml_envs.proxy.automatic import domain_shares
from kml_envs.proxy.budget import LossBudget
from kml_envs.proxy.modes import PROBE_SHARE, SHARES

AUTO = {"mode": "auto", "window": 200, "episode_progress": 40_000, "efficiency": "none"}


def play(proxy, choose, until=None):
    """Run to the end, or to a progress; returns the modes that were seen, in order."""
    seen = [int(proxy.controller.mode()[0])]
    while not proxy.finished.all():
        progress = proxy.subsystem.progress()
        if until is not None and progress.min() >= until:
            break
        proxy.observe()
        feedback = proxy.decide(np.array([choose(int(done)) for done in progress]))
        if feedback.mode[0] != seen[-1]:
            seen.append(int(feedback.mode[0]))
    return seen


@pytest.fixture
def noisy_ledger(ledger):
    """A ledger whose costs vary by some percent, and that knows what a decision will cost."""

    class Noisy(ledger):
        def reset(self, seed):
            super().reset(seed)
            self.random = np.random.default_rng(seed)

        def execute(self, decision):
            super().execute(decision)
            self.paid += self.random.normal(0.0, 0.1)

    return Noisy


def test_an_agent_that_is_better_is_trusted(start_proxy, noisy_ledger):
    proxy, _ = start_proxy(4, noisy_ledger, **AUTO)
    assert proxy.controller.mode().tolist() == [Mode.LEARNING] * 4
    play(proxy, lambda done: 1)
    assert proxy.controller.mode().tolist() == [Mode.RECOMMENDATION] * 4
    assert proxy.table()["degradations"].tolist() == [0] * 4
    assert (proxy.table()["saved_by_agent"] != 0).all()


def test_an_agent_that_is_worse_is_not(start_proxy, noisy_ledger):
    proxy, _ = start_proxy(4, noisy_ledger, **AUTO)
    seen = play(proxy, lambda done: 3)
    assert set(seen) <= {Mode.LEARNING, Mode.EMERGENCY}
    assert (proxy.controller.mode() <= Mode.LEARNING).all()


def test_the_builtin_algorithm_itself_may_collaborate_but_is_not_better(start_proxy, noisy_ledger):
    proxy, _ = start_proxy(8, noisy_ledger, **AUTO)
    play(proxy, lambda done: 2)
    modes = proxy.controller.mode()
    assert (modes == Mode.COLLABORATION).sum() >= 6 and (modes < Mode.RECOMMENDATION).all()


@pytest.mark.parametrize("efficiency", ["shadow", "none"])
def test_the_loss_budget_holds(start_proxy, noisy_ledger, efficiency):
    proxy, members = start_proxy(4, noisy_ledger, **AUTO | {"efficiency": efficiency})
    play(proxy, lambda done: 3)
    paid, builtin = np.array([member.paid for member in members]), 2.0 * 40_000 / 10
    assert (paid <= (1.0 + 0.03) * builtin + 10).all()


@pytest.fixture
def spoiling_ledger(ledger):
    """A ledger in which decision 1 saves 1 and costs 4 later: as soon as decision 2 is taken, or 20 are owed."""

    class Spoiling(ledger):
        owed = 0

        def execute(self, decision):
            super().execute(decision)
            if int(decision) == 1 and self.owed < 20:
                self.owed += 1
            elif int(decision) == 1 or self.owed:
                self.owed -= int(decision) == 2
                self.paid += 4.0

    return Spoiling


def test_what_an_agent_spoils_for_the_builtin_algorithm_counts(start_proxy, spoiling_ledger):
    proxy, members = start_proxy(8, spoiling_ledger, **AUTO)
    play(proxy, lambda done: 1)
    loss, builtin = 20 * (4.0 - 1.0), 2.0 * 40_000 / 10  # of one unit, and in all
    extra = np.array([member.paid for member in members]) - builtin
    assert (extra > 0.9 * loss).all()  # it has been tried
    assert (extra <= 0.03 * builtin + loss).all()


def test_units_are_charged_as_wholes_and_so_is_the_one_after():
    budget = LossBudget(2, 0.1)
    accounts = UnitAccounts(budget)
    nothing, both = np.zeros(2), np.arange(2)
    accounts.begin(np.ones(2, bool), nothing.astype(np.int64), nothing, forget=True)
    usual = np.array([2.0, np.nan])

    def close(agent, progress, cost):
        agents = np.full(2, agent)
        accounts.close(both, agents, usual, np.full(2, progress), np.full(2, cost))
        return budget.spent[0]

    budget.spent[:] = 7.0  # what the operations of the first unit have been charged
    assert close(True, 10, 25.0) == 5.0  # 25 - 2 * 10: the unit as a whole
    assert accounts.dearest.tolist() == [5.0, 0.0] and budget.spent[1] == 7.0  # an unknown rate charges nothing
    assert close(False, 20, 55.0) == 15.0  # the unit after it has cost 10 too many
    assert accounts.dearest[0] == 15.0
    assert close(False, 30, 95.0) == 15.0  # the next one is nobody's fault
    assert close(True, 40, 100.0) == 0.0  # savings pay what was overspent, no more
    assert accounts.dearest[0] == 15.0
    accounts.begin(np.ones(2, bool), np.full(2, 40), np.full(2, 100.0), forget=False)
    assert close(False, 50, 200.0) == 0.0  # another episode: what was before it is over
    accounts.begin(np.ones(2, bool), np.full(2, 40), np.full(2, 100.0), forget=True)
    assert accounts.dearest[0] == 0.0


def test_an_agent_that_turns_harmful_loses_trust_and_can_earn_it_again(start_proxy, noisy_ledger):
    proxy, members = start_proxy(1, noisy_ledger, **AUTO | {"episode_progress": 80_000})
    before = play(proxy, lambda done: 1, until=20_000)
    assert before[-1] == Mode.RECOMMENDATION
    turned = play(proxy, lambda done: 3, until=25_000)
    assert turned[-1] <= Mode.COLLABORATION
    spent = members[0].paid
    assert play(proxy, lambda done: 1)[-1] == Mode.RECOMMENDATION
    assert proxy.table()["degradations"].tolist() == [1]
    assert proxy.table()["shift_alarms"].tolist() == [1]
    assert spent <= 1.03 * 2.0 * 25_000 / 10


SHIFTS = {"episode_progress": 40_000, "share": 0.5}


@pytest.fixture
def shifting_ledger(noisy_ledger):
    """A ledger whose load shifts: before, decision 1 costs 2 and decision 2 costs 8; after, as `shifted` says."""

    class Shifting(noisy_ledger):
        shifted = (4.0, 3.0)

        def execute(self, decision):
            paid = self.paid
            super().execute(decision)
            costs = (2.0, 8.0) if self.done < 20_000 else self.shifted
            self.paid = paid + costs[int(decision) - 1] * self.random.uniform(0.95, 1.05)

    return Shifting


def test_an_agent_that_is_worse_after_the_load_has_shifted_loses_trust(start_proxy, shifting_ledger):
    proxy, members = start_proxy(4, shifting_ledger, **AUTO | SHIFTS)
    play(proxy, lambda done: 1, until=18_000)
    assert proxy.controller.mode().tolist() == [Mode.RECOMMENDATION] * 4
    play(proxy, lambda done: 1)
    assert (proxy.table()["shift_alarms"] == 1).all() and (proxy.controller.mode() <= Mode.LEARNING).all()
    assert all(member.paid < 8.0 * 2000 + 1.03 * 3.0 * 2000 for member in members)


def test_an_agent_that_is_still_better_after_the_load_has_shifted_is_soon_trusted_again(start_proxy, shifting_ledger):
    class StillBetter(shifting_ledger):
        shifted = (4.0, 16.0)

    proxy, _ = start_proxy(4, StillBetter, **AUTO | SHIFTS)
    seen = play(proxy, lambda done: 1)
    assert seen[-3:] == [Mode.RECOMMENDATION, Mode.COLLABORATION, Mode.RECOMMENDATION]
    assert (proxy.controller.mode() == Mode.RECOMMENDATION).all() and (proxy.table()["shift_alarms"] == 1).all()


def test_a_cheaper_load_is_no_alarm(start_proxy, shifting_ledger):
    class Cheaper(shifting_ledger):
        shifted = (1.0, 4.0)

    proxy, _ = start_proxy(4, Cheaper, **AUTO | SHIFTS)
    play(proxy, lambda done: 1)
    assert (proxy.controller.mode() == Mode.RECOMMENDATION).all() and (proxy.table()["shift_alarms"] == 0).all()


def test_an_unhealthy_agent_is_in_emergency_until_it_is_healthy(start_proxy, noisy_ledger):
    proxy, _ = start_proxy(1, noisy_ledger, **AUTO)
    while proxy.table()["emergencies_unhealthy"][0] < 2:  # the proxy runs on until it asks the agent again
        proxy.observe()
        assert not proxy.decide(["garbage"]).acted_by_agent.any()
    proxy.observe()
    assert play(proxy, lambda done: 1)[-1] == Mode.RECOMMENDATION
    assert proxy.table()["emergencies_unhealthy"].tolist() == [2]


def test_an_agent_without_heartbeat_is_not_asked(start_proxy, noisy_ledger):
    proxy, members = start_proxy(1, noisy_ledger, **AUTO)
    proxy.controller.health.alive[:] = False
    while not proxy.finished.all():
        proxy.observe()
        assert not proxy.decide(np.array([1])).acted_by_agent.any()
    assert proxy.controller.mode().tolist() == [Mode.EMERGENCY]
    assert {decision for _, decision in members[0].decisions} == {2}


def test_evidence_outlives_an_episode_and_is_forgotten_on_request(start_proxy, noisy_ledger):
    proxy, _ = start_proxy(1, noisy_ledger, **AUTO)
    play(proxy, lambda done: 1)
    row, seed = np.array([True]), np.array([7], dtype=np.uint64)
    proxy.reset(row, seed)
    assert proxy.controller.mode().tolist() == [Mode.RECOMMENDATION]
    proxy.reset(row, seed, forget=True)
    assert proxy.controller.mode().tolist() == [Mode.LEARNING]
    assert proxy.table()["evidence_better"][0] < proxy.table()["evidence_needed"][0]


def test_a_proxy_that_forgets_begins_like_a_new_one(start_proxy, noisy_ledger):
    proxy, _ = start_proxy(2, noisy_ledger, **AUTO | {"episode_progress": 4000})
    everything, seeds = np.ones(2, bool), np.array([7, 8], dtype=np.uint64)
    ends = []
    for decision in (1, 3, 1):
        proxy.reset(everything, seeds, forget=True)
        play(proxy, lambda done, decision=decision: decision)
        ends.append(proxy.table())
    assert not np.array_equal(ends[1]["evidence_better"], ends[0]["evidence_better"])
    for name in ("mode", "evidence_better", "evidence_not_worse", "budget_spent", "agent_operations"):
        np.testing.assert_array_equal(ends[2][name], ends[0][name], err_msg=name)


def test_domains_are_compared_with_each_other(start_proxy, noisy_ledger):
    proxy, _ = start_proxy(16, noisy_ledger, **AUTO | {"domains": 8, "episode_progress": 4000})
    play(proxy, lambda done: 1)
    assert proxy.controller.mode().tolist() == [Mode.RECOMMENDATION] * 16
    acted = proxy.table()["agent_operations"].reshape(2, 8)
    assert (acted[:, 0] == 0).all() and (acted[:, 1:] > 0).all()


def test_shares_in_space_leave_four_domains_a_side():
    wanted = np.array([SHARES[mode] for mode in Mode])
    wanted[Mode.RECOMMENDATION] -= PROBE_SHARE
    assert (8 * domain_shares(wanted, 8)).tolist() == [0, 4, 4, 6]
    assert (32 * domain_shares(wanted, 32)).tolist() == [0, 4, 16, 29]


@pytest.mark.parametrize(
    "options", [{"domains": 4}, {"domains": 12}, {"share": 1.0}, {"probes": True}, {"window": 30_000}, {"alpha": 1.0}]
)
def test_settings_that_make_no_sense_are_refused(start_proxy, ledger, options):
    with pytest.raises(UserError):
        start_proxy(8, ledger, **AUTO | options)


@pytest.mark.parametrize("efficiency", ["shadow", "none"])
def test_without_forecasts_the_dearest_operation_so_far_is_the_price(start_proxy, ledger, efficiency):
    proxy, _ = start_proxy(2, ledger, **AUTO | {"efficiency": efficiency, "share": 0.5})
    play(proxy, lambda done: 3, until=8_000)
    controller = proxy.controller
    price = controller._price(np.zeros(2, np.int64))
    assert price == pytest.approx(1.0, abs=0.0 if efficiency == "shadow" else 0.2)  # candidate 3 costs one more than 2
    assert (controller.budget.spent <= 0.03 * controller.budget.builtin).all()


@pytest.mark.parametrize("efficiency", ["shadow", "none"])
def test_an_operation_that_may_cost_more_than_there_is_left_does_not_run(start_proxy, ledger, efficiency):
    proxy, _ = start_proxy(1, ledger, **AUTO | {"efficiency": efficiency, "share": 0.5})
    asked = []

    def most_cost(decision):
        asked.append(decision.copy())
        return np.full(1, 20.0)

    proxy.controller._bounds = type("Bounds", (), {"most_cost": staticmethod(most_cost)})()
    while proxy.subsystem.progress()[0] < 20_000:
        proxy.observe()
        left = proxy.controller.budget.allowance() - proxy.controller.budget.spent
        feedback = proxy.decide(np.array([1]))
        if feedback.acted_by_agent[0]:
            assert left[0] >= 20.0 - 4.0  # what the built-in algorithm has cost since was added before
    assert asked and proxy.table()["agent_operations"][0] > 0


def test_what_changes_no_mode_leaves_the_evidence_alone(start_proxy, noisy_ledger):
    proxy, _ = start_proxy(2, noisy_ledger, **AUTO)
    play(proxy, lambda done: 1, until=6_000)
    controller, before, generation = proxy.controller, proxy.controller.report(), proxy.generation.copy()
    proxy.re_init(replace(proxy.options, keep_builtin_decision=True, episode_progress=50_000, deadline=5))
    after = proxy.controller.report()
    assert before.keys() == after.keys() and all(np.array_equal(before[name], after[name]) for name in before)
    assert np.array_equal(proxy.generation, generation)
    proxy.re_init(replace(proxy.options, tolerance=0.05))
    assert proxy.controller is not controller


def test_windows_that_mislead_are_refused_at_any_time(start_proxy, ledger):
    with pytest.raises(UserError, match="window 100: at least 200"):
        start_proxy(1, ledger, **AUTO | {"window": 100, "least_window": 200})
    proxy, _ = start_proxy(1, ledger, **AUTO | {"least_window": 200})
    with pytest.raises(UserError, match="window 10: at least 200"):
        replace(proxy.options, window=10)


def test_an_emergency_ends_only_when_nothing_else_is_wrong(start_proxy, noisy_ledger):
    proxy, members = start_proxy(1, noisy_ledger, **AUTO)
    while not proxy.table()["emergencies_unhealthy"][0]:
        members[0].critical_from = members[0].done + 50  # the agent is asked every 10, unless there is an emergency
        proxy.observe()
        proxy.decide(["garbage"])
    assert proxy.finished.all()
    assert proxy.controller.mode().tolist() == [Mode.EMERGENCY]
    assert proxy.table()["emergencies_critical"].tolist() == [0]
