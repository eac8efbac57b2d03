"""Which sections the agent may choose from, and what it is shown of them, against the plain definitions."""

import gymnasium
import numpy as np
import pytest

from kml_envs.lfs.observation import (
    BEST_BENEFIT,
    CANDIDATE_FEATURES,
    CANDIDATES,
    CONTEXT_FEATURES,
    FEWEST_VALID,
    OLDEST,
)
from kml_envs.lfs.volume import SegmentState

ROWS = 6


@pytest.fixture(scope="module", params=[1, 2], ids=["one segment a section", "two segments a section"])
def volumes(request):
    """Volumes in the midst of an episode, and what was observed of them."""
    env = gymnasium.make_vec(
        "kml_envs:kml/LfsVictim-v0",
        num_envs=ROWS,
        vectorization_mode="vector_entry_point",
        segments=120,  # not a multiple of the groups in which candidates are looked for
        segments_per_section=request.param,
        warm_volumes=2,
        utilisation=0.8,
        episode_volumes=2,
    )
    env.reset(seed=3)
    chosen = np.random.default_rng(1)
    for _ in range(60):
        observation = env.step(chosen.integers(8, size=ROWS))[0]
    subsystem = env.unwrapped.proxy.subsystem
    yield subsystem.state, subsystem.candidates, observation, request.param
    env.close()


def sections_of(state, row, per_section):
    """Mean mtimes and dirty sections of one volume."""
    mtime = state.mtimes[row].reshape(-1, per_section).sum(axis=1) // per_section
    return mtime, np.flatnonzero(state.section_states[row] == SegmentState.DIRTY)


@pytest.mark.parametrize("row", range(ROWS))
def test_candidates_are_the_emptiest_the_best_and_the_oldest(volumes, row):
    state, candidates, _, per_section = volumes
    mtime, dirty = sections_of(state, row, per_section)
    slots, valid = state.volumes["slots_per_section"][row], state.section_valid[row, dirty].astype(np.float64)
    benefit = (slots - valid) * (state.volumes["clock"][row] - mtime[dirty]) / (slots + valid)
    fewest = dirty[np.argsort(valid, kind="stable")][:FEWEST_VALID]
    best = dirty[np.argsort(-benefit, kind="stable")][:BEST_BENEFIT]
    oldest = dirty[np.argsort(state.sealed_at[row, dirty], kind="stable")][:OLDEST]
    shown = candidates[row]
    suggestion = state.volumes["suggestion"][row]
    assert shown[0] == suggestion
    assert {*shown[shown >= 0]} == {suggestion, *fewest, *best, *oldest}
    assert len({*shown[shown >= 0]}) == np.count_nonzero(shown >= 0)
    assert shown[FEWEST_VALID] in (best[0], -1) and shown[-OLDEST] in (oldest[0], -1)


@pytest.mark.parametrize("row", range(ROWS))
def test_features_follow_their_definitions(volumes, row):
    state, candidates, observation, per_section = volumes
    mtime, _ = sections_of(state, row, per_section)
    volume = state.volumes[row]
    shown = observation[row, len(CONTEXT_FEATURES) :].reshape(CANDIDATES, len(CANDIDATE_FEATURES))
    assert not shown[candidates[row] < 0].any()
    place = np.flatnonzero(candidates[row] >= 0)
    section = candidates[row, place]
    record, blocks, slots = state.sections[row, section], volume["block_count"], volume["slots_per_section"]
    share, age = state.section_valid[row, section] / slots, (volume["clock"] - mtime[section]).astype(np.float64)
    opened = (volume["user_writes"] - record["opened_at"]).astype(np.float64)
    expected = {
        "present": np.ones(len(place)),
        "valid_share": share,
        "age": np.log2(1 + 16 * age / blocks) / 8,
        "quiet": np.log2(1 + (volume["user_writes"] - record["last_invalidation"]) / slots) / 8,
        "open_age": np.log2(1 + 16 * opened / blocks) / 8,
        "relocated": record["relocated"],
        "benefit": np.log2(1 + 16 * age * (1 - share) / (1 + share) / blocks) / 8,
        "invalidation_rate": np.log2(1 + (1 - share) * blocks / np.maximum(opened, 1)) / 6,
    }
    for column, name in enumerate(CANDIDATE_FEATURES):
        assert shown[place, column] == pytest.approx(np.minimum(expected[name], 1.0), abs=1e-5), name


def test_what_is_described_while_executing_is_what_a_fresh_look_shows():
    env = gymnasium.make("kml_envs:kml/LfsVictim-v0", segments=120, utilisation=0.8, warm_volumes=2).unwrapped
    env.reset(seed=5)
    subsystem, row = env.proxy.subsystem, np.ones(1, np.bool_)
    for decision in (0, 3, 7, 1):
        subsystem.execute(np.array([decision]), row, subsystem.progress() + 10**6, row)
        described = [*subsystem.observe(), subsystem.candidates.copy()]
        for shown, fresh in zip(described, [*subsystem.observe(), subsystem.candidates], strict=True):
            assert np.array_equal(shown, fresh)
    subsystem.wait(subsystem.progress() + 5, row)
    waited = subsystem.observe()[0]
    assert not np.array_equal(waited, described[0])
    assert np.array_equal(waited, subsystem.observe()[0])
