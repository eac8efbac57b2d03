"""Cutting regions where there are more than half of the maximum: properties of every cut."""

from itertools import pairwise

from damon_monitors import call_split, monitor_of, spans_of
from hypothesis import given, settings
from hypothesis import strategies as st

UNIT = 8


@settings(max_examples=60, deadline=None)
@given(
    sizes=st.lists(st.integers(1, 40), min_size=1, max_size=60),
    spare=st.integers(1, 60),
    seed=st.integers(0, 2**31),
    rounds=st.integers(1, 3),
)
def test_splitting_above_half(sizes, spare, seed, rounds):
    """Of so many regions one is cut, another one every time, while there is room (kdamond_split_regions)."""
    most = len(sizes) + min(spare, len(sizes) - 1)
    if most < 3:
        return
    edges = [0]
    for size in sizes:
        edges.append(edges[-1] + UNIT * size)
    spans = [(start, end, 3, 4, number) for number, (start, end) in enumerate(pairwise(edges))]
    state = monitor_of(spans, seed=seed, min_nr_regions=3, max_nr_regions=max(most, 3), min_region_bytes=UNIT)
    for number in range(rounds):
        before = spans_of(state, "age", "last_nr_accesses")
        if not most // 2 < len(before) < most:
            return
        call_split(state.monitors)
        after = spans_of(state, "age", "last_nr_accesses")
        step, room, expected = most // (most - len(before)), most - len(before), iter(after)
        for index, (start, end, *history) in enumerate(before):
            found = next(expected)
            if (index + number) % step == 0 and end - start >= 2 * UNIT and room > 0 and found[1] < end:
                assert UNIT <= found[1] - found[0] <= 0.9 * (end - start)
                assert (found[1] - found[0]) % UNIT == 0
                assert (found[0], *found[2:]) == (start, *history)
                found, start, room = next(expected), found[1], room - 1
            assert found == (start, end, *history)
        assert next(expected, None) is None
        assert room == most - len(after) >= 0
        assert state.monitors["refused_cuts"][0] == 0


def test_how_many_are_cut():
    spans = [(1000 * index, 1000 * (index + 1)) for index in range(90)]
    state = monitor_of(spans, min_nr_regions=3, max_nr_regions=100)
    call_split(state.monitors)  # room for ten more: every tenth
    cut = [start // 1000 for start, end in spans_of(state) if end % 1000]
    assert cut == list(range(0, 90, 10))
