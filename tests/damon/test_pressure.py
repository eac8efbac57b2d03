"""Memory pressure and the time that is lost by it, there and back."""

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from kml_envs.damon.pressure import lost_share, some_pressure


def test_threads_that_wait_independently():
    assert some_pressure(0.0, 4.0) == 0.0
    assert some_pressure(0.25, 1.0) == 0.25
    assert some_pressure(0.5, 2.0) == 0.75


@settings(deadline=None)
@given(lost=st.floats(0.0, 2.0), threads=st.sampled_from([1.0, 4.0, 64.0]))
def test_time_lost_is_what_the_pressure_was_made_of(lost, threads):
    some = some_pressure(lost / (1.0 + lost), threads)
    assume(some < 0.99)
    assert lost_share(some, threads) == pytest.approx(lost, rel=1e-6, abs=1e-9)


def test_time_lost_is_always_told():
    assert lost_share(-0.1, 4.0) == 0.0
    assert 0.0 < lost_share(1.0, 4.0) == lost_share(7.0, 4.0) < 10.0
