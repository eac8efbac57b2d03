"""Models come back as they were, and no file's code runs unasked."""

import io
import json
import pickle
import zipfile

import numpy as np
import pytest
import torch
from stable_baselines3.common.save_util import data_to_json

from agents.algorithms import find_algorithm, make_model
from agents.baselines import TUNE, VICTIM
from agents.loading import load_model
from agents.run_folder import RunFolder
from agents.vector_env import make_native_vec_env
from kml_envs.errors import UserError

MODEL = {"policy": "MlpPolicy", "n_steps": 8, "batch_size": 8, "policy_kwargs": {"net_arch": [8]}}
HYPERPARAMETERS = {"n_timesteps": 100, **MODEL}


class Evil:
    """Creates a file when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), "w")


@pytest.fixture
def run(tmp_path, small, one_thread):
    """A run folder with an untrained model, and that model."""
    env = make_native_vec_env(TUNE, 1, small)
    model = make_model(
        find_algorithm("ppo", env.action_space, TUNE),
        env,
        MODEL,
        seed=3,
        device="cpu",
    )
    folder = RunFolder.create(tmp_path / "logs", "ppo", TUNE)
    folder.describe({"env": TUNE, "algo": "ppo", "env_kwargs": small}, HYPERPARAMETERS, seed=3)
    model.save(folder.best_model)
    yield folder, model
    env.close()


def replace_member(path, name, content):
    with zipfile.ZipFile(path) as archive:
        members = {one: archive.read(one) for one in archive.namelist()}
    members[name] = content
    with zipfile.ZipFile(path, "w") as archive:
        for one, data in members.items():
            archive.writestr(one, data)


@pytest.mark.parametrize("by_folder", [True, False])
def test_loaded_model_recommends_what_the_saved_one_did(run, by_folder):
    folder, model = run
    loaded = load_model(folder.path if by_folder else folder.best_model)
    observations = np.random.default_rng(0).random((5, *model.observation_space.shape), dtype=np.float32)
    assert np.array_equal(
        loaded.model.predict(observations, deterministic=True)[0], model.predict(observations, deterministic=True)[0]
    )
    assert (loaded.env_id, loaded.algo, loaded.env_kwargs["segments"]) == (TUNE, "ppo", 64)
    assert "workloads" not in loaded.env_kwargs


def test_pickles_in_the_settings_are_never_looked_at(run, tmp_path):
    folder, _ = run
    with zipfile.ZipFile(folder.best_model) as archive:
        data = json.loads(archive.read("data"))
    evil = json.loads(data_to_json({"lr_schedule": Evil(tmp_path / "ran")}))
    replace_member(folder.best_model, "data", json.dumps(data | evil))
    load_model(folder.best_model)
    assert not (tmp_path / "ran").exists()


def test_pickles_among_the_networks_are_refused(run, tmp_path):
    folder, _ = run
    buffer = io.BytesIO()
    torch.save({"weights": Evil(tmp_path / "ran")}, buffer)
    replace_member(folder.best_model, "policy.pth", buffer.getvalue())
    with pytest.raises(UserError, match="refused"):
        load_model(folder.best_model)
    assert not (tmp_path / "ran").exists()


def test_model_without_run_folder_needs_trust(run, tmp_path, capsys):
    folder, model = run
    alone = tmp_path / "alone" / "model.zip"
    alone.parent.mkdir()
    alone.write_bytes(folder.best_model.read_bytes())
    with pytest.raises(UserError, match="give --env and --algo"):
        load_model(alone)
    with pytest.raises(UserError, match="only with --trust"):
        load_model(alone, env_id=TUNE, algo="ppo")
    loaded = load_model(alone, env_id=TUNE, algo="ppo", env_kwargs={"segments": 64, "utilisation": 0.6}, trust=True)
    assert "runs code that it contains" in capsys.readouterr().err
    observations = np.zeros((1, *model.observation_space.shape), np.float32)
    assert loaded.model.predict(observations)[0].shape == (1, 12)


def test_what_does_not_fit_is_told_in_one_line(run, tmp_path):
    folder, _ = run
    for arguments, reason in (
        ({"env_id": VICTIM}, "does not fit ppo on kml/LfsVictim-v0"),
        ({"algo": "pop"}, "unknown algorithm 'pop'"),
        ({"algo": "sac"}, "--algo sac: .* was trained with ppo"),
        ({"env_id": "kml/Nothing-v0"}, "unknown environment"),
        ({"env_kwargs": {"nonsense": 1}}, "does not take these arguments"),
    ):
        with pytest.raises(UserError, match=reason) as error:
            load_model(folder.path, **arguments)
        assert "\n" not in str(error.value)
    (tmp_path / "no.zip").write_bytes(pickle.dumps(Evil(tmp_path / "ran")))
    with pytest.raises(UserError, match="is not a model"):
        load_model(tmp_path / "no.zip")
    with pytest.raises(UserError, match="no such file"):
        load_model(tmp_path / "none.zip")
    (folder.config / "config.yml").write_text("!!python/object/apply:os.getcwd []")
    with pytest.raises(UserError, match="cannot be read"):
        load_model(folder.path)
    assert not (tmp_path / "ran").exists()
