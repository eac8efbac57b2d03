"""Shipped agents: exported, found by name, and deciding as the models that they were made from."""

import functools
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml

from agents.algorithms import find_algorithm, make_model
from agents.baselines import TUNE, VICTIM
from agents.hyperparameter_files import constructor_arguments
from agents.judging import JudgingOptions, judge
from agents.run_folder import RunFolder
from agents.serving import ServingOptions, serve_agent
from agents.shipped import CARD, export_agent, find_agent, load_agent, shipped_names, weights_path
from agents.vector_env import make_native_vec_env
from kml_envs.errors import UserError
from kml_envs.suites import SUITE_VERSION

ROOT = Path(__file__).parents[2]
SMALL_NETWORK = {"net_arch": [8], "standardize": True, "activation_fn": "relu"}
ROLLOUT = {"n_steps": 8, "batch_size": 8}
MODELS = {
    "ppo": (TUNE, {"policy": "ActionStartPolicy", "policy_kwargs": SMALL_NETWORK, **ROLLOUT}),
    "ppo_mask": (VICTIM, {"policy": "CandidatePolicy", "policy_kwargs": {"hidden": 8}, **ROLLOUT}),
    "sac": (TUNE, {"policy": "MlpPolicy", "policy_kwargs": {"net_arch": [8]}, "buffer_size": 100}),
}


@pytest.fixture
def make_run(tmp_path, small, one_thread):
    """A maker of run folders whose models were not trained: returns the folder and the model."""

    def make(algo="ppo", seed=0, score=0.0, **changes):
        env_id, hyperparameters = MODELS[algo]
        env = make_native_vec_env(env_id, 1, small)
        algorithm = find_algorithm(algo, env.action_space, env_id)
        model = make_model(algorithm, env, constructor_arguments(hyperparameters), seed=seed, device="cpu")
        folder = RunFolder.create(tmp_path / "logs", algo, env_id)
        arguments = {"env": env_id, "algo": algo, "env_kwargs": {**small, "workloads": ["zipf-0.9"], **changes}}
        folder.describe(arguments, {"n_timesteps": 100, **hyperparameters}, seed=seed)
        model.save(folder.best_model)
        np.savez(folder.path / "evaluations.npz", scores=np.array([[score - 1.0, score], [score, score]]))
        env.close()
        return folder.path, model

    return make


def decisions(model):
    observations = np.random.default_rng(0).random((9, *model.observation_space.shape), dtype=np.float32)
    return model.predict(observations, deterministic=True)[0]


@pytest.mark.parametrize("algo", MODELS)
def test_shipped_agent_acts_as_the_model_that_it_was_made_from(algo, make_run, tmp_path):
    run, model = make_run(algo)
    agent = export_agent([run], "try-out", tmp_path)
    loaded = load_agent("try-out", folder=tmp_path)
    assert np.array_equal(decisions(loaded.model), decisions(model))
    assert (loaded.env_id, loaded.algo, loaded.env_kwargs["segments"]) == (MODELS[algo][0], algo, 64)
    assert (agent.workloads, agent.suite_version) == (("zipf-0.9",), SUITE_VERSION)
    assert "workloads" not in agent.env_kwargs


def test_the_best_seed_on_validation_stands_first(make_run, tmp_path):
    runs = {seed: make_run(seed=seed, score=score) for seed, score in ((3, 0.1), (5, 0.3), (4, 0.2))}
    agent = export_agent([run for run, _ in runs.values()], "try-out", tmp_path)
    assert agent.seeds == (5, 4, 3)
    assert np.array_equal(decisions(load_agent("try-out", folder=tmp_path).model), decisions(runs[5][1]))
    assert np.array_equal(decisions(load_agent("try-out:3", folder=tmp_path).model), decisions(runs[3][1]))
    for name, reason in (("try-out:6", "accepted are 3, 4, 5"), ("try-out:x", "accepted are"), ("tryout", "try-out")):
        with pytest.raises(UserError, match=reason) as error:
            load_agent(name, folder=tmp_path)
        assert "\n" not in str(error.value)


def test_a_model_card_that_somebody_wrote_stays(make_run, tmp_path):
    export_agent([make_run(seed=0)[0], make_run(seed=1)[0]], "try-out", tmp_path)
    card = tmp_path / "try-out" / CARD
    assert "## Limits" in card.read_text()
    card.write_text("mine")
    export_agent([make_run(seed=2)[0]], "try-out", tmp_path)
    assert card.read_text() == "mine"
    assert sorted(path.name for path in (tmp_path / "try-out").iterdir()) == [CARD, "agent.yml", "seed-2.npz"]
    assert shipped_names(tmp_path) == ("try-out",)


def test_runs_that_do_not_go_together_are_refused(make_run, tmp_path):
    first, other = make_run(seed=0)[0], make_run(seed=1, utilisation=0.7)[0]
    for runs, name, reason in (
        ([first, other], "try-out", "differs from the other runs in env_kwargs"),
        ([first, first], "try-out", "each needs one of its own"),
        ([first], "../try-out", "small letters"),
        ([first], "x" * 300, "at most 100"),
        ([first / "best_model.zip"], "try-out", "is a file, a run folder"),
        ([tmp_path / "none"], "try-out", "no such file"),
    ):
        with pytest.raises(UserError, match=reason):
            export_agent(runs, name, tmp_path / "trained")
    assert not (tmp_path / "trained").exists()


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("evaluations.npz", None, "no such file"),
        ("evaluations.npz", b"rubbish", "holds no evaluations"),
        ("evaluations.npz", {"other": np.zeros(1)}, "holds no evaluations"),
        ("evaluations.npz", {"scores": np.full((2, 2), np.nan)}, "holds no evaluations with finite scores"),
        ("evaluations.npz", {"scores": np.zeros((0, 2))}, "holds no evaluations with finite scores"),
        ("*/run.yml", None, "is no run folder"),
        ("*/run.yml", b"- 1", "does not say seed"),
        ("*/run.yml", b"{seed: 1}", "does not say seed, suite_version"),
        ("*/run.yml", b"{", "cannot be read"),
        ("*/args.yml", b"{algo: ppo, env: kml/LfsTune-v0, env_kwargs: {utilisation: 0.6}}", "does not say what it was"),
        ("*/args.yml", b"{algo: ppo, env: kml/LfsTune-v0, env_kwargs: [1]}", "not a mapping"),
    ],
)
def test_a_run_folder_that_is_damaged_is_told_in_one_line(make_run, tmp_path, name, content, reason):
    run, _ = make_run()
    [path] = run.glob(name)
    if content is None:
        path.unlink()
    elif isinstance(content, dict):
        np.savez(path, **content)
    else:
        path.write_bytes(content)
    with pytest.raises(UserError, match=reason) as error:
        export_agent([run], "try-out", tmp_path / "trained")
    assert "\n" not in str(error.value) and not (tmp_path / "trained").exists()


def test_an_agent_that_cannot_be_replaced_stays(make_run, tmp_path, monkeypatch):
    first, second = make_run(seed=0)[0], make_run(seed=1)[0]
    export_agent([first], "try-out", tmp_path)
    rename = Path.rename

    def interrupted(path, target):
        if path.name == "try-out" and path.parent != tmp_path:
            raise KeyboardInterrupt
        return rename(path, target)

    monkeypatch.setattr(Path, "rename", interrupted)
    with pytest.raises(KeyboardInterrupt):
        export_agent([second], "try-out", tmp_path)
    assert find_agent("try-out", tmp_path).seeds == (0,)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["logs", "try-out"]
    monkeypatch.undo()
    assert export_agent([second], "try-out", tmp_path).seeds == (1,)
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match=r"File exists|Not a directory"):
        export_agent([first], "try-out", tmp_path / "file")


def test_parameters_hold_numbers_only_and_must_fit(make_run, tmp_path):
    agent = export_agent([make_run()[0]], "try-out", tmp_path)
    with pytest.raises(UserError, match="does not take these arguments"):
        agent.load(env_kwargs={"nonsense": 1})
    path = weights_path(agent.folder, 0)
    with np.load(path, allow_pickle=False) as arrays:
        fewer = dict(list(arrays.items())[1:])
    np.savez(path, **fewer)
    with pytest.raises(UserError, match="does not fit kml/LfsTune-v0") as error:
        agent.load()
    assert "\n" not in str(error.value)
    np.savez(path, weights=np.array([print], dtype=object))
    with pytest.raises(ValueError, match="allow_pickle=False"):
        agent.load()


def test_evaluation_and_serving_take_agents_by_name(make_run, tmp_path, small, monkeypatch):
    export_agent([make_run()[0]], "try-out", tmp_path)
    for module in ("judging", "serving"):
        monkeypatch.setattr(f"agents.{module}.load_agent", functools.partial(load_agent, folder=tmp_path))
    told = judge(JudgingOptions(agent="try-out", workloads=("uniform",), n_seeds=1, deployment=0.0), sys.stderr)
    assert "The agent (try-out)" in told
    for options, reason in (
        ({"agent": "tri-out"}, "Did you mean 'try-out'"),
        ({"agent": "try-out", "policy": "greedy"}, "either a model or --policy or --agent"),
        ({"agent": "try-out", "env": VICTIM}, "do not go with --agent"),
    ):
        with pytest.raises(UserError, match=reason):
            judge(JudgingOptions(**options), sys.stderr)
    for options, reason in (
        ({}, "either a model or --agent"),
        ({"agent": "tri-out"}, "Did you mean 'try-out'"),
        ({"agent": "try-out", "learn": True}, "--save FILE"),
    ):
        with pytest.raises(UserError, match=reason):
            serve_agent(ServingOptions(socket=tmp_path / "none", **options))


@pytest.mark.parametrize("name", shipped_names())
def test_every_shipped_agent_loads_and_has_a_model_card(name, one_thread):
    agent = find_agent(name)
    card = (agent.folder / CARD).read_text()
    for heading in ("# " + name, "## Training data", "## Seeds", "## Numbers", "## In plain words", "## Limits"):
        assert f"{heading}\n" in card
    assert "python evaluate.py " in card and "To be written" not in card
    for seed in agent.seeds:
        assert np.isfinite(decisions(agent.load(seed).model)).all()
    assert sum(path.stat().st_size for path in agent.folder.iterdir()) < 2**20


def test_an_installed_package_brings_its_agents(make_run, tmp_path):
    # What pyproject.toml packs, and nothing else, is put where an installation would put it.
    run, model = make_run()
    site = tmp_path / "site-packages"
    sources = tmp_path / "sources" / "agents"
    shutil.copytree(ROOT / "agents", sources, ignore=shutil.ignore_patterns("__pycache__"))
    export_agent([run], "try-out", sources / "trained")
    for pattern in ("*.py", *packed_patterns()):
        for path in sources.glob(pattern):
            if path.is_file():
                target = site / "agents" / path.relative_to(sources)
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(path, target)
    program = (
        "import sys, numpy as np; from agents.shipped import load_agent; import agents\n"
        "model = load_agent('try-out').model\n"
        "observations = np.random.default_rng(0).random((9, *model.observation_space.shape), dtype=np.float32)\n"
        "np.save(sys.argv[1], model.predict(observations, deterministic=True)[0]); print(agents.__file__)"
    )
    environment = {**os.environ, "PYTHONPATH": f"{site}{os.pathsep}{ROOT}", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", program, str(tmp_path / "decisions.npy")]
    printed = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True, check=True).stdout
    assert printed.strip() == str(site / "agents" / "__init__.py")
    assert np.array_equal(np.load(tmp_path / "decisions.npy"), decisions(model))


def packed_patterns():
    """Patterns of the package data of `agents`, without a TOML reader, which Python 3.10 lacks."""
    [line] = [line for line in (ROOT / "pyproject.toml").read_text().splitlines() if line.startswith("agents = [")]
    return yaml.safe_load(line.partition("=")[2])
