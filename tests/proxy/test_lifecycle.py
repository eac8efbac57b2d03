"""The table of the life cycle, every call in every state."""

import numpy as np
import pytest

from kml_envs.errors import UserError
from kml_envs.proxy import MLModelProxy, ProxyOptions, batch
from kml_envs.proxy.lifecycle import TRANSITIONS, DataSetState, LifeCycle, LifeCycleError, LifeCycleState

STATES = list(LifeCycleState)


@pytest.mark.parametrize("call", TRANSITIONS)
@pytest.mark.parametrize("state", STATES)
def test_every_call_in_every_state(call, state):
    cycle = LifeCycle(2)
    cycle.state[:] = state
    if state in TRANSITIONS[call]:
        cycle.apply(call)
        assert (cycle.state == TRANSITIONS[call][state]).all()
        assert cycle.all_running == (cycle.state[0] == LifeCycleState.RUNNING)
    else:
        with pytest.raises(LifeCycleError, match=rf"^{call}\(\) while instance 0 is {state.name.lower()}: "):
            cycle.apply(call)
        assert (cycle.state == state).all()


def test_a_refused_call_moves_no_row():
    cycle = LifeCycle(2)
    cycle.apply("initialize", np.array([True, False]))
    with pytest.raises(LifeCycleError, match=r"start\(\) while instance 1 is created"):
        cycle.apply("start")
    assert cycle.state.tolist() == [LifeCycleState.INITIALIZED, LifeCycleState.CREATED]


def test_nothing_follows_shutting_down():
    assert all(LifeCycleState.SHUTTING_DOWN not in following for following in TRANSITIONS.values())


def test_the_proxy_obeys(ledger):
    proxy = MLModelProxy(batch(ledger, 2))
    everywhere, seeds = np.ones(2, dtype=bool), np.zeros(2, dtype=np.uint64)
    with pytest.raises(LifeCycleError, match="start"):
        proxy.start()
    proxy.initialize(ProxyOptions(episode_progress=50))
    with pytest.raises(LifeCycleError, match="reset"):
        proxy.reset(everywhere, seeds)
    proxy.start()
    with pytest.raises(LifeCycleError, match=r"decide\(\) while instance 0 is started"):
        proxy.decide(np.zeros(2, dtype=int))
    proxy.reset(everywhere, seeds)
    proxy.observe()
    proxy.decide(np.zeros(2, dtype=int))
    proxy.stop()
    with pytest.raises(LifeCycleError, match=r"decide\(\) while instance 0 is stopped"):
        proxy.decide(np.zeros(2, dtype=int))
    proxy.shut_down()
    with pytest.raises(LifeCycleError, match="re_init"):
        proxy.re_init(ProxyOptions(episode_progress=50))


@pytest.mark.parametrize("wrong", [{"mode": "learning"}, {"mode": "learning", "window": 1}, {"efficiency": "units"}])
def test_options_that_are_refused_leave_the_proxy_as_it_was(ledger, wrong):
    proxy = MLModelProxy(batch(ledger, 2))
    with pytest.raises(UserError):
        proxy.initialize(ProxyOptions(episode_progress=70, **wrong))
    assert (proxy.life_cycle.state == LifeCycleState.CREATED).all()
    right = ProxyOptions(episode_progress=50)
    proxy.initialize(right)
    with pytest.raises(LifeCycleError, match=r"initialize\(\) while instance 0 is initialized"):
        proxy.initialize(right)
    efficiency = proxy.efficiency
    with pytest.raises(UserError):
        proxy.re_init(ProxyOptions(episode_progress=70, **wrong))
    assert proxy.options is right and proxy.efficiency is efficiency and proxy.course.episode_progress == 50
    proxy.start()


def test_a_stopped_instance_stands_still_and_the_others_go_on(start_proxy):
    proxy, (first, second) = start_proxy(2)
    proxy.stop(np.array([True, False]))
    feedback = proxy.decide(np.array([1, 1]))
    assert (first.done, second.done) == (10, 20)
    assert feedback.acted_by_agent.tolist() == [False, True]
    proxy.start(np.array([True, False]))
    proxy.reset(np.array([True, False]), np.zeros(2, dtype=np.uint64))
    proxy.observe()
    assert proxy.decide(np.array([1, 1])).acted_by_agent.all()
    assert (first.done, second.done) == (20, 30)


def test_calls_for_the_whole_batch_need_one_instance_that_allows_them(start_proxy):
    proxy, _ = start_proxy(2)
    first, generation = np.array([True, False]), proxy.generation.copy()
    proxy.stop(first)
    proxy.start(first)  # and has no episode yet
    proxy.discard_dataset()
    assert (proxy.data_set_state == DataSetState.OBSOLETE).all()
    proxy.prepare_dataset()
    assert (proxy.generation > generation).all() and (proxy.data_set_state == DataSetState.CLEAN).all()
    assert proxy.decide(np.array([1, 1])).acted_by_agent.tolist() == [False, True]
    proxy.stop()
    proxy.discard_dataset()
    for call in (proxy.prepare_dataset, lambda: proxy.decide(np.array([1, 1]))):
        with pytest.raises(LifeCycleError, match="while instance 0 is stopped"):
            call()


def test_states_of_the_data_set(start_proxy):
    proxy, _ = start_proxy()
    state = proxy.data_set_state
    assert state[0] == DataSetState.EXTRACTED_COMPLETELY
    proxy.prepare_dataset()
    assert state[0] == DataSetState.CLEAN
    proxy.publish_data(complete=False)
    assert state[0] == DataSetState.EXTRACTED_PARTIALLY
    proxy.publish_data()
    proxy.decide(np.array([1]))
    assert state[0] == DataSetState.OBSOLETE
    proxy.prepare_dataset()
    proxy.discard_dataset()
    assert state[0] == DataSetState.OBSOLETE


def test_an_extraction_that_fails_is_noted_and_not_hidden(start_proxy):
    proxy, (member,) = start_proxy()
    member.features = lambda: 1 / 0
    with pytest.raises(ZeroDivisionError):
        proxy.observe()
    assert proxy.data_set_state[0] == DataSetState.EXTRACTION_FAILURE
