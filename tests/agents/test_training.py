"""Training from options to files: every algorithm, the run folder, resume, TensorBoard, and evaluations."""

import csv
import io
import json
import re
import zipfile
from fractions import Fraction

import numpy as np
import pytest
import torch
import yaml
from stable_baselines3 import DQN
from stable_baselines3.common.save_util import load_from_zip_file
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from agents.algorithms import ALGORITHMS, find_algorithm
from agents.callbacks import Evaluate, score
from agents.hyperparameter_files import FOLDER, constructor_arguments, read_entry, run_settings
from agents.plan import TrainingOptions, make_plan
from agents.run_folder import find_saved_run, saved_steps
from agents.saving import reward_statistics_path
from agents.tensorboard import flat, subsystem_prefix
from agents.tensorboard_layout import layout_of
from agents.training import train
from agents.vector_env import make_native_vec_env
from kml_envs.command_line import parse_pairs
from kml_envs.errors import UserError

ON_POLICY = {"n_steps": 8, "batch_size": 16, "n_epochs": 1}
WITHOUT_TEACHERS = {**ON_POLICY, "imitate": False}  # they take most of the time of a short training
OFF_POLICY = {"learning_starts": 16, "batch_size": 16, "buffer_size": 500, "gradient_steps": 1, "train_freq": 4}
QUICK = {
    "ppo": WITHOUT_TEACHERS,
    "ppo_mask": ON_POLICY,
    "a2c": {"n_steps": 4},
    "dqn": OFF_POLICY,
    "qrdqn": OFF_POLICY,
    "sac": OFF_POLICY,
    "td3": OFF_POLICY,
    "ars": {"n_delta": 2, "n_top": 1, "env_threads": 1},
}
TUNE, VICTIM, PACING = "kml/LfsTune-v0", "kml/LfsVictim-v0", "kml/LfsPacing-v0"
FITTING = {TUNE: ("ppo", "a2c", "sac", "td3", "ars"), VICTIM: ("ppo", "ppo_mask", "a2c", "dqn", "qrdqn", "ars")}
FITTING[PACING] = FITTING[VICTIM]
CASES = [(env, algo) for env, algos in FITTING.items() for algo in algos]


def options(folder, small, *, env=TUNE, algo="ppo", **changes):
    arguments = {
        "env": env,
        "algo": algo,
        "n_timesteps": 64,
        "n_envs": 4,
        "env_kwargs": small,
        "hyperparameters": QUICK.get(algo, {}),
        "workloads": ("zipf-0.9", "uniform"),
        "eval_freq": 0,
        "eval_episodes": 1,
        "eval_deployment": 0,
        "log_folder": str(folder),
        "closing": False,
        "progress": False,
        "verbose": 0,
    }
    return TrainingOptions(**{**arguments, **changes})


@pytest.fixture(autouse=True)
def short_validation(monkeypatch, one_thread):
    """Two validation workloads instead of all, and short lessons of the teachers."""
    monkeypatch.setattr("agents.teaching.UPDATES", 20)
    monkeypatch.setattr("agents.plan.VALIDATION_SUITE", ("zipf-0.8", "hot-cold-0.5-0.5"))


@pytest.mark.parametrize(("env", "algo"), CASES)
def test_every_algorithm_trains_where_it_fits(env, algo, small, tmp_path):
    result = train(options(tmp_path, small, env=env, algo=algo, save_freq=0))
    assert result.num_timesteps >= 64 and not result.interrupted_by
    assert saved_steps(result.folder / f"{env.replace('/', '-')}.zip") == result.num_timesteps
    assert (result.folder / "best_model.zip").is_file()


@pytest.mark.parametrize("env", FITTING)
@pytest.mark.parametrize("algo", ALGORITHMS)
def test_algorithms_that_do_not_fit_say_which_do(env, algo, small):
    space = make_native_vec_env(env, 1, small).action_space
    if algo in FITTING[env]:
        assert find_algorithm(algo, space, env).name == algo
    else:
        with pytest.raises(UserError, match="choose one of ppo") as caught:
            find_algorithm(algo, space, env)
        assert "\n" not in str(caught.value)


def test_a_policy_that_an_algorithm_lacks_is_refused(small, tmp_path):
    with pytest.raises(UserError, match="CandidatePolicy"):
        train(options(tmp_path, small, env=VICTIM, algo="qrdqn", hyperparameters={"policy": "CandidatePolicy"}))
    assert not any(tmp_path.iterdir())


def test_run_folder_holds_what_rl_zoo_users_expect(small, tmp_path):
    result = train(options(tmp_path, small, save_freq=32, eval_freq=32))
    folder = tmp_path / "ppo" / "kml-LfsTune-v0_1"
    assert result.folder == folder
    names = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    settings = {f"kml-LfsTune-v0/{name}" for name in ("args.yml", "config.yml", "command.txt", "run.yml")}
    models = {"best_model.zip", "kml-LfsTune-v0.zip", "rl_model_32_steps.zip", "rl_model_64_steps.zip"}
    assert settings | models | {"evaluations.npz", "0.monitor.csv"} <= names
    assert not any(name.split("/")[-1].startswith(".") for name in names), "temporary files are left"

    arguments = yaml.safe_load((folder / "kml-LfsTune-v0" / "args.yml").read_text())
    assert arguments["algo"] == "ppo" and arguments["seed"] == 0 and arguments["env_kwargs"]["segments"] == 64
    config = yaml.safe_load((folder / "kml-LfsTune-v0" / "config.yml").read_text())
    assert config["n_timesteps"] == 64 and config["batch_size"] == 16 and config["learning_rate"].startswith("lin_")
    run = yaml.safe_load((folder / "kml-LfsTune-v0" / "run.yml").read_text())
    assert run["suite_version"] >= 1 and "torch" in run["versions"] and "git_revision" in run

    with np.load(folder / "evaluations.npz") as evaluations:
        assert evaluations["timesteps"].tolist() == [0, 32, 64]
        assert evaluations["results"].shape == evaluations["ep_lengths"].shape == (3, 2)
        assert evaluations["workloads"].tolist() == ["zipf-0.8", "hot-cold-0.5-0.5"]
    with (folder / "0.monitor.csv").open() as lines:
        assert json.loads(lines.readline()[1:])["env_id"] == TUNE
        episodes = list(csv.DictReader(lines))
    assert len(episodes) == 8 and {"r", "l", "t", "write_amplification"} <= set(episodes[0])
    assert train(options(tmp_path, small)).folder.name == "kml-LfsTune-v0_2"


def test_resume_continues_the_step_count_and_the_parameters(small, tmp_path):
    first = train(options(tmp_path, small, n_timesteps=96, save_freq=32))
    checkpoint = first.folder / "rl_model_32_steps.zip"
    again = train(TrainingOptions(**{**RESUME, "log_folder": str(tmp_path), "trained_agent": str(checkpoint)}))
    assert again.num_timesteps == 96  # what the plan had left
    assert again.folder.name == "kml-LfsTune-v0_2"
    further = train(
        TrainingOptions(
            **{**RESUME, "log_folder": str(tmp_path), "trained_agent": str(again.folder), "n_timesteps": 32}
        )
    )
    assert further.num_timesteps == 128
    with np.load(further.folder / "evaluations.npz") as late, np.load(again.folder / "evaluations.npz") as early:
        np.testing.assert_array_equal(late["results"][0], early["results"][-1])
    with pytest.raises(UserError, match="give -n"):
        train(TrainingOptions(**{**RESUME, "log_folder": str(tmp_path), "trained_agent": str(first.folder)}))


def test_resume_goes_on_with_the_scale_of_rewards(small, tmp_path):
    first = train(options(tmp_path, small))
    model = first.folder / "kml-LfsTune-v0.zip"
    resume = {**RESUME, "log_folder": str(tmp_path), "trained_agent": str(model), "n_timesteps": 32}
    again = train(TrainingOptions(**resume))
    steps = []
    for folder in (first.folder, again.folder):
        with np.load(reward_statistics_path(folder / model.name)) as statistics:
            steps.append(round(float(statistics["count"])))
    assert steps == [64, 96]
    reward_statistics_path(model).write_bytes(b"no statistics")
    with pytest.raises(UserError, match="holds no statistics of rewards"):
        train(TrainingOptions(**resume))


RESUME = {"eval_freq": 0, "eval_deployment": 0, "eval_episodes": 1, "closing": False, "progress": False, "verbose": 0}


def test_resume_goes_on_with_the_entropy_coefficient_that_sac_has_learned(small, tmp_path):
    first = train(options(tmp_path, small, algo="sac"))
    again = options(tmp_path, small, env=None, algo=None, trained_agent=str(first.folder), hyperparameters={})
    learned = []

    class Looking(Evaluate):
        def _on_training_start(self):
            learned.append(float(self.model.log_ent_coef.detach().exp()))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("agents.training.Evaluate", Looking)
        train(again)
    _, _, variables = load_from_zip_file(first.folder / "kml-LfsTune-v0.zip", load_data=False)
    saved = float(variables["log_ent_coef"].detach().exp())
    assert learned == [pytest.approx(saved)] and saved != pytest.approx(0.01)


def test_resume_fills_the_replay_buffer_before_the_first_update(small, tmp_path, monkeypatch):
    first = train(options(tmp_path, small, env=VICTIM, algo="dqn"))
    updates = []
    update = DQN.train

    def noted(model, *arguments, **keywords):
        updates.append(model.num_timesteps)
        update(model, *arguments, **keywords)

    monkeypatch.setattr(DQN, "train", noted)
    train(options(tmp_path, small, env=None, algo=None, trained_agent=str(first.folder), hyperparameters={}))
    assert min(updates) > 64 + OFF_POLICY["learning_starts"]
    assert max(updates) == 128


@pytest.mark.parametrize(("env", "algo"), [(TUNE, "ppo"), (TUNE, "sac"), (VICTIM, "dqn"), (TUNE, "ars")])
def test_evaluations_and_checkpoints_are_of_models_that_all_steps_before_have_made(
    env, algo, small, tmp_path, monkeypatch
):
    evaluated = {}

    class Looking(Evaluate):
        def _act(self):
            super()._act()
            evaluated[self.num_timesteps] = policy_numbers(self.model)

    monkeypatch.setattr("agents.training.Evaluate", Looking)
    folder = train(options(tmp_path, small, env=env, algo=algo, eval_freq=32, save_freq=32)).folder
    name = env.replace("/", "-")
    last = max(evaluated)
    saved = {last: folder / f"{name}.zip"} | {saved_steps(path): path for path in folder.glob("rl_model_*.zip")}
    assert len(saved) >= (2 if algo != "ars" else 1)
    for steps, path in saved.items():
        _, parameters, _ = load_from_zip_file(path, load_data=False)
        np.testing.assert_array_equal(numbers(parameters["policy"]), evaluated[steps])
    with np.load(folder / "evaluations.npz") as evaluations:
        assert evaluations["timesteps"].tolist() == sorted(evaluated)


def policy_numbers(model):
    """All parameters of a model's policy, one after the other."""
    return numbers(model.policy.state_dict())


def numbers(state):
    return np.concatenate([np.ravel(value.detach().numpy()) for value in state.values()])


def test_what_a_kill_has_left_of_a_file_is_not_taken_for_a_model(small, tmp_path):
    folder = train(options(tmp_path, small)).folder
    (folder / ".rl_model_64_steps.17.zip").write_bytes(b"half a")
    assert find_saved_run(folder).model == folder / "kml-LfsTune-v0.zip"


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda folder: (folder / "kml-LfsTune-v0/args.yml").unlink(), "args.yml: the settings of the run cannot be"),
        (lambda folder: (folder / "kml-LfsTune-v0/config.yml").write_text("a: [1"), "config.yml: the settings of the"),
        (lambda folder: (folder / "kml-LfsTune-v0/args.yml").write_text("[1]"), "not a mapping of names to values"),
        (lambda folder: put_code_into(folder / "kml-LfsTune-v0.zip"), "refused, it holds more than numbers"),
    ],
)
def test_a_damaged_run_is_refused_in_one_line(damage, message, small, tmp_path):
    folder = train(options(tmp_path / "runs", small)).folder
    damage(folder)
    with pytest.raises(UserError, match=message):
        train(options(tmp_path / "more", small, env=None, algo=None, trained_agent=str(folder)))
    assert not (tmp_path / "more").exists()


def put_code_into(path):
    """Replace the networks of a saved model by an object that only running code can make."""
    with zipfile.ZipFile(path) as archive:
        content = {name: archive.read(name) for name in archive.namelist()}
    pickled = io.BytesIO()
    torch.save(Fraction(1, 2), pickled)
    content["policy.pth"] = pickled.getvalue()
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in content.items():
            archive.writestr(name, data)


@pytest.mark.parametrize(
    ("algo", "hyperparameters", "message"),
    [
        ("ppo", {"n_epochs": 2.5}, "n_epochs 2.5: must be a whole number from 1 on"),
        ("ppo", {"n_epochs": 0}, "n_epochs 0: must be a whole number from 1 on"),
        ("ppo", {"gae_lambda": "high"}, "gae_lambda 'high': must be a number in 0..1"),
        ("ppo", {"ent_coef": "abc"}, "ent_coef 'abc': must be a number from 0 on"),
        ("ppo", {"ent_coef": "auto"}, "ent_coef 'auto': only sac learns it"),
        ("ppo", {"target_kl": "abc"}, "target_kl 'abc': must be a number from 0 on"),
        ("ppo", {"learning_rate": "lin_-1"}, "learning_rate 'lin_-1': must be a number, or lin_X"),
        ("ppo", {"eval_freq": float("inf")}, "eval_freq inf: must be"),
        ("ppo", {"n_timesteps": float("inf")}, "n_timesteps inf: must be"),
        ("sac", {"gradient_steps": 1.5}, "gradient_steps 1.5: must be a whole number from -1 on"),
        ("sac", {"train_freq": [1, "week"]}, "train_freq .*: must be a whole number from 1 on, or"),
        ("sac", {"imitate": True}, "imitate: teachers recommend numbers, to a policy of ppo or a2c"),
    ],
)
def test_wrong_hyperparameters_are_found_before_anything_is_written(algo, hyperparameters, message, small, tmp_path):
    given = {**QUICK[algo], **hyperparameters}
    asked = options(tmp_path / "runs", small, algo=algo, hyperparameters=given, n_timesteps=None, eval_freq=None)
    with pytest.raises(UserError, match=message):
        train(asked)
    assert not (tmp_path / "runs").exists()


def test_a_recording_that_cannot_be_imitated_is_found_before_anything_is_written(small, tmp_path):
    record = str(tmp_path / "recording")
    folder = train(options(tmp_path, small, record=record)).folder
    assert "_decision" not in (folder / "0.monitor.csv").read_text()
    with pytest.raises(UserError, match="imitation needs a policy that gives actions"):
        train(options(tmp_path / "runs", small, algo="ars", offline=record))
    assert not (tmp_path / "runs").exists()


def test_whole_numbers_and_frequencies_as_yaml_has_them():
    given = constructor_arguments({"n_steps": 1e3, "train_freq": [2, "episode"], "clip_range_vf": None})
    assert given == {"n_steps": 1000, "train_freq": (2, "episode"), "clip_range_vf": None}
    assert isinstance(given["n_steps"], int)


def test_runs_of_two_log_folders_do_not_share_their_event_files(small, tmp_path):
    board = tmp_path / "board"
    for name in ("here", "there"):
        train(options(tmp_path / name, small, tensorboard_log=str(board)))
    assert sorted(path.name for path in (board / "kml-LfsTune-v0").iterdir()) == ["ppo_1", "ppo_2"]
    assert all(len(list(folder.iterdir())) == 1 for folder in (board / "kml-LfsTune-v0").iterdir())


def test_ars_logs_its_episodes_too(small, tmp_path):
    folder = train(options(tmp_path, small, algo="ars")).folder
    with (folder / "0.monitor.csv").open() as lines:
        next(lines)
        episodes = list(csv.DictReader(lines))
    assert len(episodes) >= 4 and float(episodes[0]["write_amplification"]) >= 1
    [events] = (folder / "tensorboard").iterdir()
    tags = EventAccumulator(str(events)).Reload().Tags()["scalars"]
    assert {"lfs/write_amplification", "rollout/ep_rew_mean"} <= set(tags)


def test_a_model_of_something_else_is_refused(small, tmp_path):
    first = train(options(tmp_path / "one", small))
    changed = {**RESUME, "log_folder": str(tmp_path / "two"), "trained_agent": str(first.folder), "n_timesteps": 32}
    with pytest.raises(UserError, match="does not fit"):
        train(TrainingOptions(**changed, hyperparameters={"policy_kwargs": {"net_arch": [8]}}))
    assert not (tmp_path / "two").exists()


@pytest.mark.parametrize("content", (b"", b"no zip at all"))
def test_files_that_are_no_models_are_refused(content, tmp_path):
    path = tmp_path / "model.zip"
    path.write_bytes(content)
    with pytest.raises(UserError, match="not a model"):
        find_saved_run(path)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("data", "[]")
    with pytest.raises(UserError, match="not a model"):
        find_saved_run(path)
    with pytest.raises(UserError, match="no such file"):
        find_saved_run(tmp_path / "nothing.zip")


def test_same_seed_same_model(small, tmp_path):
    arguments = {"eval_freq": 32, "hyperparameters": ON_POLICY}
    one, other = (train(options(tmp_path / name, small, **arguments)).folder for name in ("a", "b"))
    with np.load(one / "evaluations.npz") as first, np.load(other / "evaluations.npz") as second:
        np.testing.assert_array_equal(first["results"], second["results"])


@pytest.mark.parametrize("mode", ("learning", "collaboration", "recommendation", "emergency"))
def test_every_mode_trains_and_is_recorded(mode, small, tmp_path):
    result = train(options(tmp_path, {**small, "episode_volumes": 5.0}, mode=mode))
    events = EventAccumulator(str(result.folder / "tensorboard")).Reload()
    assert events.Scalars(f"proxy/mode_fraction/{mode}")[-1].value == 1.0
    share = events.Scalars("proxy/agent_share")[-1].value
    assert share == 0.0 if mode == "emergency" else share > 0.0


def test_tensorboard_holds_proxy_subsystem_agent_and_figures(small, tmp_path):
    train(options(tmp_path, small, n_timesteps=96, tensorboard_log=str(tmp_path / "board")))
    [folder] = (tmp_path / "board" / "kml-LfsTune-v0").iterdir()
    assert folder.name == "ppo_1"
    events = EventAccumulator(str(folder)).Reload()
    scalars = set(events.Tags()["scalars"])
    proxy = {"proxy/mode", "proxy/agent_share", "proxy/efficiency/agent", "proxy/efficiency/builtin"}
    assert {name for name in scalars if "verdict" in name} == {"proxy/verdict/accepted"}  # no other one was given
    subsystem = {
        f"lfs/{name}" for name in ("write_amplification", "free_sections", "moved_blocks", "stall_ms", "latency_p99_ms")
    }
    agent = {"rollout/ep_rew_mean", "train/value_loss", "time/fps"}
    evaluated = {"eval/mean_reward", "eval/score", "eval/score/zipf-0.8", "eval/write_amplification"}
    assert proxy | subsystem | agent | evaluated <= scalars
    assert not {"lfs/mode", "lfs/acted_by_agent"} & scalars
    assert {"figures/segment_map", "figures/mode_timeline"} <= set(events.Tags()["images"])
    plugins = events.summary_metadata
    assert any(data.plugin_data.plugin_name == "hparams" for data in plugins.values())
    assert any(data.plugin_data.plugin_name == "custom_scalars" for data in plugins.values())
    assert events.Scalars("lfs/write_amplification")[-1].value >= 1.0
    charts = [chart for charts in layout_of(TUNE, auto=False, deployed=False).values() for chart in charts.values()]
    for kind, patterns in charts:
        assert kind == "Multiline" and any(re.match(pattern, tag) for pattern in patterns for tag in scalars), patterns


@pytest.mark.parametrize("env_id", ["kml/LfsPacing-v0", "kml/DamonTier-v0", "readahead:tutorial/Readahead-v0"])
def test_layouts_show_the_own_subsystem_only(env_id):
    layout = layout_of(env_id, auto=True, deployed=True)
    assert {"Proxy", "Agent"} <= layout.keys()
    assert ("Log-structured file system" in layout) == env_id.startswith("kml/Lfs")
    assert ("DAMON" in layout) == env_id.startswith("kml/Damon")
    assert "evidence of mode auto" in layout["Proxy"] and "trust in evaluations" in layout["Proxy"]


def test_evaluations_say_whether_the_proxy_would_trust_the_agent(small, tmp_path):
    result = train(options(tmp_path, small, eval_freq=32, eval_deployment=12.0))
    events = EventAccumulator(str(result.folder / "tensorboard")).Reload()
    trusted, mode = (events.Scalars(f"eval/auto/{name}") for name in ("trusted_fraction", "mode"))
    assert [event.step for event in trusted] == [event.step for event in mode] == [0, 32, 64]
    assert all(0.0 <= event.value <= 1.0 for event in trusted) and all(0.0 <= event.value <= 3.0 for event in mode)
    needed = events.Scalars("eval/auto/evidence_needed")[0].value
    assert needed >= np.log(2 / 0.05) - 1e-6 and "eval/auto/evidence_better" in events.Tags()["scalars"]


def test_learning_online_begins_as_the_builtin_algorithm(small, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("agents.imitation.DECISIONS", 64)
    changes = {"env": VICTIM, "algo": "ppo_mask", "n_timesteps": 512, "verbose": 1}
    result = train(options(tmp_path, {**small, "episode_volumes": 24.0}, mode="auto", **changes))
    agreement = float(re.search(r"imitated the built-in algorithm: agreement (\S+)", capsys.readouterr().out)[1])
    assert agreement > 0.5  # there are ties, and to a policy that does not see the order they are alike
    events = EventAccumulator(str(result.folder / "tensorboard")).Reload()
    share = events.Scalars("proxy/agent_share")[-1].value
    assert 0.0 < share < 0.9
    assert events.Scalars("proxy/evidence_needed")[-1].value > 0.0


def test_where_the_builtin_algorithm_is_no_recommendation_learning_begins_without_it(
    small, tmp_path, capsys, monkeypatch
):
    monkeypatch.setattr("agents.imitation.DECISIONS", 4)
    train(options(tmp_path, {**small, "episode_volumes": 8.0}, mode="auto", verbose=1))
    assert "began without imitation: no ppo policy can express the built-in algorithm" in capsys.readouterr().out


def test_episodes_of_online_learning_are_long_and_those_of_evaluations_are_not(small, tmp_path):
    length = small.pop("episode_volumes")
    plan = make_plan(options(tmp_path, small, mode="auto"))
    assert plan.training_kwargs["episode_volumes"] > 10 * length and "episode_volumes" not in plan.played_kwargs
    assert "episode_volumes" not in make_plan(options(tmp_path, small)).training_kwargs


def test_a_deployment_that_holds_no_two_windows_is_refused(small, tmp_path):
    with pytest.raises(UserError, match="two windows"):
        train(options(tmp_path, small, eval_deployment=1.0))
    assert not any(tmp_path.iterdir())


def test_tensorboard_can_be_left_out(small, tmp_path):
    folder = train(options(tmp_path, small, tensorboard_log="")).folder
    assert not (folder / "tensorboard").exists()


@pytest.mark.parametrize("algo", ALGORITHMS)
def test_every_algorithm_has_hyperparameters_for_what_it_fits(algo):
    assert (FOLDER / f"{algo}.yml").is_file()
    for env, algos in FITTING.items():
        if algo in algos:
            settings = run_settings(read_entry(algo, env))
            assert settings.n_timesteps > 0
            assert settings.model.get("batch_size", 512) >= 512
            constructor_arguments(settings.model)


@pytest.mark.parametrize(
    ("pairs", "message"), ((["gamma"], "KEY:VALUE"), (["gamma:[1"], "YAML"), (["net-arch:1"], "KEY:VALUE"))
)
def test_pairs_that_cannot_be_read(pairs, message):
    with pytest.raises(UserError, match=message):
        parse_pairs(pairs, "--hyperparameters")


def test_pairs_are_yaml():
    assert parse_pairs(["gamma:0.9", "learning_rate=1e-3", "normalize:false", "net:{a: [1, 2]}", "s:text"], "") == {
        "gamma": 0.9,
        "learning_rate": 0.001,
        "normalize": False,
        "net": {"a": [1, 2]},
        "s": "text",
    }


@pytest.mark.parametrize(
    "entry",
    (
        {},
        {"n_timesteps": 0},
        {"n_timesteps": 10, "n_envs": "many"},
        {"n_timesteps": 10, "env_kwargs": "efficiency"},
        {"n_timesteps": 10, "eval_freq": -1},
        {"n_timesteps": 10, "eval_deployment": "long"},
        {"n_timesteps": 10, "normalize": {"norm_obs": True}},
    ),
)
def test_run_settings_out_of_range(entry):
    with pytest.raises(UserError):
        run_settings(entry)


def test_an_entry_may_say_how_often_to_evaluate(small, tmp_path):
    entry = {**ON_POLICY, "eval_freq": 32, "eval_deployment": 0}
    asked = {name: None for name in ("eval_freq", "eval_deployment")}
    folder = train(options(tmp_path, small, hyperparameters=entry, **asked)).folder
    with np.load(folder / "evaluations.npz") as evaluations:
        assert evaluations["timesteps"].tolist() == [0, 32, 64]
    folder = train(options(tmp_path, small, hyperparameters=entry, **{**asked, "eval_freq": 0})).folder  # comes first
    with np.load(folder / "evaluations.npz") as evaluations:
        assert evaluations["timesteps"].tolist() == [0, 64]
    written = run_settings(read_entry("ppo_mask", "kml/LfsVictim-v0"))
    assert (written.eval_freq, written.eval_deployment) == (0, 0) and not {"eval_freq"} & set(written.model)


def test_an_entry_may_hold_arguments_of_the_environment(monkeypatch):
    monkeypatch.setattr("agents.plan.VALIDATION_SUITE", "validation")
    plan = make_plan(TrainingOptions(env="kml/DamonMonitor-v0"))
    assert plan.env_kwargs["efficiency"] == "none"
    assert "efficiency" not in plan.played_kwargs
    assert "env_kwargs" not in plan.settings.model
    asked = make_plan(TrainingOptions(env="kml/DamonMonitor-v0", env_kwargs={"efficiency": "shadow"}))
    assert asked.env_kwargs["efficiency"] == "shadow"


def test_schedules():
    schedule = constructor_arguments({"learning_rate": "lin_1e-3"})["learning_rate"]
    assert schedule(1.0) == pytest.approx(1e-3) and schedule(0.5) == pytest.approx(5e-4)
    with pytest.raises(UserError, match="lin_X"):
        constructor_arguments({"learning_rate": "exp_1e-3"})


def test_score_is_the_log_of_what_the_builtin_paid_over_what_the_agent_paid():
    assert score({"moved_blocks": 100, "user_blocks": 100, "efficiency": 200.0}) == pytest.approx(np.log(2))
    assert score({"r": 3.0}) == 3.0


def test_names_and_values_for_tensorboard():
    assert subsystem_prefix("kml/LfsTune-v0") == "lfs" and subsystem_prefix("kml/DamonMonitor-v0") == "damon"
    assert subsystem_prefix("readahead:tutorial/Readahead-v0") == "readahead"
    assert flat({"a": {"b": [1], "c": 2}, "d": None}) == {"a.b": "[1]", "a.c": 2, "d": "None"}
