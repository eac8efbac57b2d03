"""The decision cycle: who acts, what is counted, and what the feedback says."""

import numpy as np
import pytest

from kml_envs.errors import UserError
from kml_envs.proxy import Mode, ProxyOptions, SubsystemError, Verdict
from kml_envs.proxy.lifecycle import DataSetState
from kml_envs.proxy.modes import FixedMode
from kml_envs.proxy.options import timing


def run_episode(proxy, choose=lambda row: 1):
    """Run every row to the end of its episode; returns the feedbacks."""
    feedbacks = []
    while not proxy.finished.all():
        proxy.observe()
        feedbacks.append(proxy.decide(np.array([choose(row) for row in range(len(proxy.finished))])))
    return feedbacks


def test_an_accepted_recommendation_is_carried_out(start_proxy):
    proxy, (member,) = start_proxy()
    feedback = proxy.decide(np.array([1]))
    assert member.decisions == [(10, 1)]
    assert feedback.acted_by_agent.all() and feedback.verdict.tolist() == [Verdict.ACCEPTED]
    assert feedback.mode.tolist() == [Mode.RECOMMENDATION]
    assert feedback.reward.tolist() == [(2 - 1) / 4.0]


@pytest.mark.parametrize(
    ("recommendation", "verdict"),
    [
        (np.array([5]), Verdict.OUT_OF_RANGE),
        (np.array([4]), Verdict.SEGMENT_FREE),
        (np.array([1.0]), Verdict.WRONG_TYPE),
        (np.array([[1]]), Verdict.WRONG_SHAPE),
        (["garbage"], Verdict.WRONG_TYPE),
        (None, Verdict.DEADLINE_MISSED),
    ],
)
def test_the_builtin_algorithm_acts_where_a_recommendation_is_rejected(start_proxy, recommendation, verdict):
    proxy, (member,) = start_proxy()
    feedback = proxy.decide(recommendation)
    assert feedback.verdict.tolist() == [verdict] and not feedback.acted_by_agent.any()
    assert member.decisions == [(10, 2)] and feedback.decision.tolist() == [2]
    assert feedback.reward.tolist() == [0.0]
    table = proxy.table()
    assert table[f"verdict/{verdict.name.lower()}"].tolist() == [1]
    assert table["agent_operations"].tolist() == [0] and table["builtin_operations"].tolist() == [1]


def test_rows_are_judged_apart(start_proxy):
    proxy, members = start_proxy(3)
    feedback = proxy.decide(np.array([0, 9, 4]))
    assert feedback.verdict.tolist() == [Verdict.ACCEPTED, Verdict.OUT_OF_RANGE, Verdict.SEGMENT_FREE]
    assert [member.decisions for member in members] == [[(10, 0)], [(10, 2)], [(10, 2)]]


def test_a_recommendation_for_an_older_data_set_is_stale(start_proxy):
    proxy, _ = start_proxy()
    seen = proxy.generation.copy()
    assert proxy.decide(np.array([1]), seen).verdict.tolist() == [Verdict.ACCEPTED]
    proxy.observe()
    assert proxy.decide(np.array([1]), seen).verdict.tolist() == [Verdict.STALE]
    assert proxy.decide(np.array([1])).verdict.tolist() == [Verdict.STALE]  # nothing published since
    proxy.observe()
    proxy.discard_dataset()
    assert proxy.decide(np.array([1])).verdict.tolist() == [Verdict.STALE]


def test_a_generation_never_comes_back(start_proxy):
    proxy, _ = start_proxy()
    before = proxy.generation.copy()
    proxy.reset(np.array([True]), np.zeros(1, dtype=np.uint64), forget=True)
    proxy.observe()
    assert proxy.generation > before


def test_a_corrupted_data_set_is_shown_as_zeros_and_not_acted_on(start_proxy):
    proxy, (member, _) = start_proxy(2)
    member.features = lambda: [np.nan, 1.0]
    snapshot = proxy.observe()
    assert snapshot.features[0].tolist() == [0.0, 1.0]
    assert proxy.data_set_state.tolist() == [DataSetState.CORRUPTED, DataSetState.EXTRACTED_COMPLETELY]
    verdict = proxy.decide(np.array([1, 1])).verdict.tolist()
    assert verdict == [Verdict.DATA_SET_CORRUPTED, Verdict.ACCEPTED]


def test_a_mask_always_leaves_a_candidate(start_proxy):
    proxy, (member, other) = start_proxy(2)
    member.mask = lambda: [False] * 5
    other.mask = lambda: [False, True, False, False, False]
    snapshot = proxy.observe()
    assert snapshot.mask.tolist() == [[True] + [False] * 4, [False, True, False, False, False]]
    verdict = proxy.decide(np.array([1, 2])).verdict
    assert (verdict == Verdict.NO_SUCH_CANDIDATE).all()


def test_an_episode_ends_by_progress(start_proxy):
    proxy, (member,) = start_proxy(episode_progress=35)
    feedbacks = run_episode(proxy)
    assert len(feedbacks) == 3 and feedbacks[-1].finished.all() and member.done == 35
    late = proxy.decide(np.array([1]))
    assert late.verdict.tolist() == [Verdict.NOT_ASKED] and late.reward.tolist() == [0.0] and member.done == 35


def test_in_emergency_mode_the_agent_is_not_asked(start_proxy):
    proxy, (member,) = start_proxy(mode="emergency")
    assert proxy.finished.all() and not proxy.asked.any()
    assert [decision for _, decision in member.decisions] == [2] * 9
    assert proxy.decide(np.array([1])).verdict.tolist() == [Verdict.NOT_ASKED]
    assert not proxy.unasked.any()


def test_the_agent_is_not_asked_while_the_subsystem_is_critical(start_proxy, ledger):
    class Tight(ledger):
        critical_from = 50

    proxy, (member,) = start_proxy(factory=Tight)
    feedbacks = run_episode(proxy)
    assert len(feedbacks) == 4
    assert [decision for _, decision in member.decisions] == [1] * 4 + [2] * 5


def test_a_subsystem_that_is_critical_from_the_start_is_run_by_the_builtin_algorithm(start_proxy, ledger):
    class Tight(ledger):
        critical_from = 0

    proxy, (member,) = start_proxy(factory=Tight)
    assert proxy.finished.all() and [decision for _, decision in member.decisions] == [2] * 9


@pytest.mark.parametrize("mode", ["learning", "collaboration", "recommendation"])
def test_each_unit_belongs_to_one_side(start_proxy, mode):
    options = {"probes": True} if mode == "recommendation" else {}
    proxy, members = start_proxy(8, mode=mode, window=100, episode_progress=4000, **options)
    run_episode(proxy)
    by_agent = []
    for member in members:
        windows = {}
        for progress, decision in member.decisions:
            windows.setdefault((progress - 1) // 100, set()).add(decision)
        assert all(len(decisions) <= 2 for decisions in windows.values())
        # A decision that waits on a window's last block belongs to the side that the next window is drawn for.
        inner = [d for p, d in member.decisions if p % 100]
        by_agent += [d == 1 for d in inner]
    share = np.mean(by_agent)
    expected = FixedMode(Mode[mode.upper()], 1, **options).share()[0]
    assert abs(share - expected) < 4 * np.sqrt(expected * (1 - expected) / (8 * 40)) + 1e-9


def test_no_step_of_the_agent_is_lost(start_proxy):
    proxy, members = start_proxy(16, mode="learning", window=100, episode_progress=1000)
    asked = np.zeros(16, dtype=int)
    while not proxy.finished.all():
        asked += proxy.asked
        proxy.observe()
        feedback = proxy.decide(np.ones(16, dtype=int))
        assert ((feedback.verdict == Verdict.ACCEPTED) | (feedback.verdict == Verdict.NOT_ASKED)).all()
    acted = [sum(decision == 1 for _, decision in member.decisions) for member in members]
    assert asked.tolist() == acted == proxy.table()["agent_operations"].tolist()
    total = proxy.table()["agent_operations"] + proxy.table()["builtin_operations"]
    assert total.tolist() == [len(member.decisions) for member in members]


def test_counters_survive_a_plain_reset_only(start_proxy):
    proxy, _ = start_proxy()
    row, seed = np.array([True]), np.zeros(1, dtype=np.uint64)
    run_episode(proxy)
    proxy.reset(row, seed)
    assert proxy.table()["agent_operations"].tolist() == [9]
    assert proxy.table()["builtin_operations"].tolist() == [0]
    proxy.reset(row, seed, forget=True)
    assert not any(value.any() for key, value in proxy.table().items() if key not in ("mode", "share"))


def test_re_init_changes_the_mode_while_the_proxy_lives(start_proxy):
    proxy, (member,) = start_proxy()
    proxy.decide(np.array([1]))
    proxy.re_init(ProxyOptions(episode_progress=100, mode="emergency"))
    assert proxy.finished.all() and [decision for _, decision in member.decisions] == [1] + [2] * 8
    with pytest.raises(UserError, match="cannot change from 'shadow' to 'none'"):
        proxy.re_init(ProxyOptions(episode_progress=100, efficiency="none"))


@pytest.mark.parametrize("name", ["episode_progress", "window", "latency", "deadline"])
def test_progress_has_an_upper_limit(name):
    fitting = {"episode_progress": 2**53, name: 2**53}
    assert getattr(ProxyOptions(**fitting), name) == 2**53
    with pytest.raises(UserError, match=f"^{name} {2**53 + 1}: must be at most 2"):
        ProxyOptions(**{**fitting, name: 2**53 + 1})


def test_a_controller_may_refuse_what_passed_the_checks(start_proxy):
    class Reluctant(FixedMode):
        seen = ()

        def permit(self, judgement):
            return judgement.decision != 3

        def operation_ended(self, verdict):
            self.seen = (*self.seen, verdict.tolist())

    controller = Reluctant(Mode.RECOMMENDATION, 2)
    proxy, members = start_proxy(2, controller=controller)
    proxy.decide(np.array([3, 1]))
    assert controller.seen == ([Verdict.NOT_PERMITTED, Verdict.ACCEPTED],)
    assert [member.decisions for member in members] == [[(10, 2)], [(10, 1)]]


@pytest.mark.parametrize("choice", [2, np.int64(2), np.array(2)], ids=["int", "numpy", "array"])
def test_choices_reach_a_subsystem_in_plain_python_as_plain_integers(start_proxy, ledger, choice):
    class Priced(ledger):
        def builtin_decision(self):
            return choice

        def execute(self, decision):
            assert type(decision) is int
            super().execute({candidate: candidate for candidate in range(5)}[decision])

    proxy, (member,) = start_proxy(factory=Priced, mode="learning", window=40, share=0.5)
    for _ in range(5):
        proxy.observe()
        proxy.decide(np.array([1]))
    assert {decision for _, decision in member.decisions} == {1, 2}


def test_the_builtin_decision_is_kept_on_request(start_proxy):
    proxy, _ = start_proxy(keep_builtin_decision=True)
    feedback = proxy.decide(np.array([1]))
    assert (feedback.decision.tolist(), feedback.builtin_decision.tolist()) == ([1], [2])


def test_a_subsystem_that_stops_for_no_reason_is_an_error(start_proxy, ledger):
    class Lazy(ledger):
        def run(self, until):
            if self.done < 20:
                super().run(until)

    proxy, _ = start_proxy(factory=Lazy)
    proxy.decide(np.array([1]))
    proxy.observe()
    with pytest.raises(SubsystemError, match="Lazy stopped at progress 20 with no decision pending"):
        proxy.decide(np.array([1]))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"mode": "learning"}, "needs a window"),
        ({"efficiency": "units"}, "learns from units"),
        ({"mode": "learning", "window": 200, "efficiency": "units"}, "must not exceed the episode"),
        ({"efficiency": "guess"}, "unknown efficiency 'guess'"),
        ({"mode": "automatic"}, "unknown mode 'automatic'"),
        ({"mode": "auto"}, "needs a window"),
        ({"episode_progress": 0}, "at least one unit of progress"),
    ],
)
def test_options_that_do_not_go_together_are_refused(start_proxy, options, message):
    with pytest.raises(UserError, match=message):
        start_proxy(**options)


@pytest.mark.parametrize(
    ("latency_us", "deadline_us", "late"),
    [(450, 100, True), (100, 450, False), (100, 100, False), (9, 0, True), (0, 0, False), (2500, 2400, True)],
)
def test_rounding_makes_no_late_agent_early_and_no_early_one_late(latency_us, deadline_us, late):
    latency, deadline = timing(latency_us, deadline_us, 1000.0)
    assert (latency > deadline) == late
    assert timing(latency_us, None, 1000.0) == (latency, None)
    assert latency * 1000 >= latency_us
