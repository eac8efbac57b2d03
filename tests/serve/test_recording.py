"""Recorded decisions: what was decided comes back from the disk, and a policy can be fitted to it."""

import numpy as np
import pytest
import torch

from agents.algorithms import find_algorithm, make_model
from agents.imitation import imitate
from agents.vector_env import make_native_vec_env
from kml_envs.errors import UserError
from kml_envs.proxy import Verdict
from kml_envs.serve import recording as recording_module
from kml_envs.serve.recording import Recorder, read_recording

ENV = "readahead:tutorial/Readahead-v0"


@pytest.fixture(autouse=True)
def one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def recorded(tutorial_module, tmp_path):
    """A recorder of so many parallel instances under random recommendations: recorded(steps) gives its folder."""

    def make(steps, folder="recording", **kwargs):
        env = make_native_vec_env(ENV, 4, {"info_decisions": True, **kwargs})
        env.recorder = Recorder(tmp_path / folder, ENV, kwargs, env.proxies[0].subsystem)
        env.seed(5)
        env.reset()
        generator = np.random.default_rng(0)
        for _ in range(steps):
            env.step(generator.integers(0, 7, 4))
        env.recorder.flush()
        return tmp_path / folder

    return make


def test_training_decisions_come_back_from_the_disk(recorded, monkeypatch):
    monkeypatch.setattr(recording_module, "PART_DECISIONS", 100)
    folder = recorded(60, efficiency="shadow")
    assert len(list(folder.glob("part-*.npz"))) == 3
    read = read_recording(folder)
    assert read.about["environment"] == ENV and read.about["recommendation"] == {"choice": 6}
    columns = read.columns
    assert {len(column) for column in columns.values()} == {240}
    accepted = columns["verdict"] == Verdict.ACCEPTED
    np.testing.assert_array_equal(accepted, columns["recommendation"] < 6)
    np.testing.assert_array_equal(accepted, columns["acted_by_agent"])
    wanted = np.where(accepted, columns["recommendation"], columns["builtin_decision"])
    np.testing.assert_array_equal(columns["executed_decision"], wanted)
    assert columns["features"].shape == (240, 3) and columns["mask"].shape == (240, 6)


def test_served_decisions_come_back_from_the_disk(served, tmp_path):
    def record(decision):
        recorders[0].add_decision(decision)

    recorders = []
    channel, clock = served(record=record)
    kernel = channel.kernel
    recorders.append(Recorder(tmp_path / "served", "x", {}, kernel.proxy.subsystem))
    sent = ["1", "5", "nonsense", None, 400 * "9", "2"]
    channel.open("dataset", reading=True).read(4096)
    for text in sent:
        while not kernel.open:
            kernel.advance(clock.now)
        if text is None:
            clock.now += 1.0
            kernel.advance(clock.now)
        else:
            kernel.recommend(f"{kernel.proxy.generation[0]} {text}".encode(), clock.now)
    recorders[0].flush()
    columns = read_recording(tmp_path / "served").columns
    np.testing.assert_array_equal(columns["recommendation"], [1, 5, np.nan, np.nan, np.nan, 2])
    names = [Verdict(code).name.lower() for code in columns["verdict"]]
    assert names == ["accepted", "accepted", "wrong_type", "deadline_missed", "out_of_range", "accepted"]
    assert (np.diff(columns["generation"]) > 0).all() and (columns["builtin_decision"] >= 0).all()


def test_what_is_no_recording_is_a_mistake_of_the_user(recorded, tmp_path):
    folder = recorded(3)
    with pytest.raises(UserError, match="is not empty"):
        recorded(3)
    with pytest.raises(UserError, match="no recording"):
        read_recording(tmp_path / "nowhere")
    part = folder / "part-00000.npz"
    whole = part.read_bytes()
    overwritten = bytes(byte ^ 255 if place % 7 == 0 else byte for place, byte in enumerate(whole))
    for damaged in (b"damage", b"", whole[: len(whole) // 2], whole[:-1], whole[9:], overwritten):
        part.write_bytes(damaged)
        with pytest.raises(UserError, match="no recording"):
            read_recording(folder)


@pytest.mark.slow
@pytest.mark.parametrize("algo", ["ppo", "ppo_mask"])
def test_a_policy_learns_to_imitate_the_builtin_algorithm(recorded, algo):
    read = read_recording(recorded(600))
    env = make_native_vec_env(ENV, 4)
    arguments = {"policy": "MlpPolicy", "n_steps": 16, "batch_size": 16}
    model = make_model(find_algorithm(algo, env.action_space, ENV), env, arguments, seed=0, device="cpu")
    before = np.mean(model.predict(read.columns["features"], deterministic=True)[0] == read.columns["builtin_decision"])
    agreement = imitate(model, read, seed=0)
    assert agreement > 0.9 > before


def test_what_cannot_be_imitated_is_refused(recorded, tutorial_module, tmp_path):
    read = read_recording(recorded(5))
    env = make_native_vec_env(ENV, 4)
    model = make_model(find_algorithm("dqn", env.action_space, ENV), env, {"policy": "MlpPolicy"}, seed=0, device="cpu")
    with pytest.raises(UserError, match="ppo, ppo_mask, a2c, sac or td3"):
        imitate(model, read, seed=0)
    read.columns["builtin_decision"] = np.full((20, 2), np.nan)
    with pytest.raises(UserError, match="could be imitated"):
        imitate(model, read, seed=0)


@pytest.mark.optional
def test_minari_reads_what_is_exported(recorded, monkeypatch, tmp_path):
    minari = pytest.importorskip("minari", reason="needs the extra 'minari'")
    pytest.importorskip("jax", reason="needs the extra 'minari'")
    from kml_envs.serve.minari_export import export

    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path / "minari"))
    folder = recorded(150, episode_progress=300)
    columns = read_recording(folder).columns
    episodes = export(folder, "kml/readahead-v0")
    data_set = minari.load_dataset("kml/readahead-v0")
    assert data_set.total_episodes == episodes >= columns["finished"].sum()
    assert data_set.total_steps == len(columns["reward"])
    first = data_set[0]
    np.testing.assert_array_equal(first.actions, columns["executed_decision"][::4][: len(first.actions)])


def test_episodes_of_a_recording_hold_every_decision_once(recorded):
    from kml_envs.serve.minari_export import episodes

    read = read_recording(recorded(150, episode_progress=300))
    found = list(episodes(read))
    assert sum(len(rewards) for _, _, rewards in found) == 600
    ended, whole = read.columns["finished"].sum(), read.columns["finished"][-4:].sum()
    assert len(found) == ended + 4 - whole > 4, "one for each row that was underway in the end"


def test_a_reset_in_between_ends_the_recorded_episodes(tutorial_module, tmp_path):
    env = make_native_vec_env(ENV, 2, {"info_decisions": True})
    env.recorder = Recorder(tmp_path / "recording", ENV, {}, env.proxies[0].subsystem)
    for _ in range(2):
        env.reset()
        for _ in range(3):
            env.step(np.array([1, 1]))
        env.reset()
    env.recorder.flush()
    columns = read_recording(tmp_path / "recording").columns
    assert columns["episode"].tolist() == [0] * 6 + [1] * 6 and not columns["finished"].any()
