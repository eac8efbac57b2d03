"""Explanations: what drives a policy, what its parts are worth, pictures, and the words of the model card."""

import dataclasses
import sys

import gymnasium
import numpy as np
import pytest

from agents import explaining
from agents.baselines import PACING, TUNE, VICTIM, BuiltinPolicy, ConstantPolicy, Contender, RandomPolicy
from agents.damon_environments import DAMON_ENVIRONMENTS, MONITOR, RECLAIM
from agents.damon_pictures import SETTINGS as DAMON_SETTINGS
from agents.damon_pictures import draw_settings
from agents.explaining import explain, plain_words, words_of
from agents.explanation_pictures import draw_actions, draw_choices
from agents.importance import feature_kinds, importance_of_features, parts_of, worth_of_parts
from agents.judging import JudgingOptions, judge
from agents.lfs_pictures import draw_tuning, draw_victims
from agents.measures import WRITE_AMPLIFICATION
from agents.pacing_pictures import draw_pacing, shares_by_free_sections
from agents.playing import play
from agents.shipped import CARD, find_agent, shipped_names
from agents.watching import Changed, Decisions, decisions_of
from kml_envs.errors import UserError
from kml_envs.lfs.pace import CHOICE_NAMES, CHOICES
from kml_envs.lfs.pace import FEATURE_NAMES as PACING_FEATURE_NAMES
from kml_envs.lfs.tune import ACTION_NAMES, FEATURE_NAMES
from kml_envs.lfs.victim import FEATURE_NAMES as VICTIM_FEATURE_NAMES

NUMBERS = len(ACTION_NAMES)
SEEDS = (1, 2)


class Listening:
    """Sets the weight of the age from one feature, and nothing else."""

    def __init__(self, feature):
        self.column = FEATURE_NAMES.index(feature)

    def predict(self, observation, state=None, episode_start=None, deterministic=True):
        action = np.zeros((len(observation), NUMBERS), np.float32)
        action[:, ACTION_NAMES.index("age")] = np.clip(observation[:, self.column], 0.0, 1.0)
        return action, state


@pytest.fixture
def kwargs(small):
    return {key: value for key, value in small.items() if key != "workloads"}


def contender(policy, kwargs, env_id=TUNE):
    return Contender("agent", env_id, kwargs, lambda space: policy)


def test_features_of_one_kind_are_named_without_their_numbers():
    assert feature_kinds(("a_0", "a_1", "b", "share_10_percent", "share_20_percent")) == {
        "a": (0, 1),
        "b": (2,),
        "share_percent": (3, 4),
    }
    names = ("level_none", "level_to_0.02", "slow_accessed_often", "accessed_often", "accessed_always", "in_force_age")
    assert feature_kinds(names) == {"level": (0, 1), "slow_accessed": (2,), "accessed": (3, 4), "in_force": (5,)}
    kinds = feature_kinds(VICTIM_FEATURE_NAMES)
    assert len(kinds["candidate_age"]) == 32 and "overwrite_age" in kinds and len(kinds) == 5 + 8
    assert sorted(column for columns in kinds.values() for column in columns) == list(range(len(VICTIM_FEATURE_NAMES)))


def test_only_what_a_policy_listens_to_is_important(kwargs):
    judged = contender(Listening("recent_write_amplification"), kwargs)
    workloads = ("uniform", "hot-cold-0.95-0.05")
    decisions = {workload: decisions_of(judged, workload, SEEDS)[0] for workload in workloads}
    found = importance_of_features(
        judged, feature_kinds(FEATURE_NAMES), decisions, WRITE_AMPLIFICATION, SEEDS, lambda name: None
    )
    assert found[0].name == "recent_write_amplification" and found[0].action > 0.001
    own = np.array([play(judged, workload, SEEDS)["write_amplification"].mean() for workload in workloads])
    for other in found[1:]:
        assert other.action == 0.0 and np.array_equal(other.values, own)


def test_parts_of_the_action_are_replaced_alone(kwargs):
    action = (0.0,) * 8 + (0.3, 0.0, 0.5, 0.0)
    judged = contender(ConstantPolicy(gymnasium.spaces.Box(-1, 1, (NUMBERS,)), action), kwargs)
    parts = parts_of(TUNE, ACTION_NAMES)
    assert sorted(number for numbers in parts.values() for number in numbers) == list(range(NUMBERS))
    worth = worth_of_parts(judged, parts, np.zeros(NUMBERS), ("zipf-0.99",), WRITE_AMPLIFICATION, SEEDS)
    values = {each.name: each.values[0] for each in worth}
    own = play(judged, "zipf-0.99", SEEDS)["write_amplification"].mean()
    assert values["victim score"] == own  # was greedy's before
    together = contender(ConstantPolicy(gymnasium.spaces.Box(-1, 1, (NUMBERS,)), (*action[:10], 0.0, 0.0)), kwargs)
    assert values["split of the user's blocks"] == play(together, "zipf-0.99", SEEDS)["write_amplification"].mean()
    assert parts_of("another", ("a", "b")) == {"a": (0,), "b": (1,)}


def test_masks_reach_the_policy_that_wants_them(kwargs):
    space = gymnasium.spaces.Discrete(32)
    judged = contender(RandomPolicy(space), kwargs, VICTIM)
    decisions, infos = decisions_of(judged, "uniform", SEEDS)
    assert decisions.masks.shape == (*decisions.actions.shape, 32)
    assert np.take_along_axis(decisions.masks, decisions.actions[..., None], axis=2).all()
    assert np.asarray(infos["write_amplification"]).shape == (2,)
    assert Changed(BuiltinPolicy(space)).predict(np.zeros((3, 4)))[0].tolist() == [0, 0, 0]


@pytest.mark.parametrize(("env_id", "draw"), [(TUNE, draw_tuning), (VICTIM, draw_victims)])
def test_the_built_in_algorithm_chooses_as_greedy_does(env_id, draw, kwargs, monkeypatch):
    # The zero action scores as greedy does, and candidate 0 is greedy's; looking changes nothing.
    space = gymnasium.spaces.Discrete(32) if env_id == VICTIM else gymnasium.spaces.Box(-1, 1, (NUMBERS,))
    policy = BuiltinPolicy(space) if env_id == VICTIM else ConstantPolicy(space, (0.0,))
    judged = contender(policy, kwargs, env_id)
    figures = draw(judged, ("zipf-0.9",), SEEDS)
    assert "same victim: greedy 100 %" in figures["victims"].axes[0].get_title()
    assert len(figures["victims"].axes) == 1 and ("thresholds" in figures) == (env_id == TUNE)
    played = []
    watch = sys.modules["agents.lfs_pictures"].watch
    monkeypatch.setattr(
        "agents.lfs_pictures.watch", lambda *arguments: played.append(watch(*arguments)["write_amplification"])
    )
    draw(judged, ("zipf-0.9",), SEEDS)
    for looked in played:
        assert np.array_equal(looked, play(judged, "zipf-0.9", SEEDS)["write_amplification"])


def test_the_candidates_of_pacing_are_named_by_their_rules():
    kinds = feature_kinds(PACING_FEATURE_NAMES, PACING)
    assert len(kinds) == 5 + 14 + 8 and len(kinds["candidate_age"]) == 4 and "last_gap" in kinds
    assert sorted(column for columns in kinds.values() for column in columns) == list(range(len(PACING_FEATURE_NAMES)))


def test_pictures_of_pacing_show_when_it_cleans_and_what(kwargs):
    judged = contender(RandomPolicy(gymnasium.spaces.Discrete(CHOICES)), {**kwargs, "episode_volumes": 0.5}, PACING)
    figures = draw_pacing(judged, ("uniform@bursts-50-2000-20",), SEEDS)
    assert set(figures) == {"pace", "victims"} and len(figures["pace"].axes) == 2
    assert "same victim: greedy" in figures["victims"].axes[0].get_title()
    seen = np.zeros((4, len(PACING_FEATURE_NAMES)))
    seen[:, PACING_FEATURE_NAMES.index("free_sections")] = np.log2(1 + np.array([3, 3, 3, 40])) / 6
    seen[3, PACING_FEATURE_NAMES.index("foreground")] = 1.0
    shares = shares_by_free_sections(seen, np.array([1, 1, 5, 4]))
    assert shares[0, 3].tolist() == [0.0, 2 / 3, 1 / 3, 0.0, 0.0] and shares[1, -1].tolist() == [0, 0, 0, 0, 1]
    assert np.isnan(shares[1, :-1]).all()
    decisions = {"uniform": Decisions(np.zeros((1, 2, 1)), np.array([[1, 4]]), None)}
    labels = [label.get_text() for label in draw_actions(decisions, (), CHOICE_NAMES).axes[0].get_yticklabels()]
    assert labels == ["wait", "greedy 1/16"]


def test_environments_without_a_picture_get_a_map_of_actions(kwargs, tmp_path):
    judged = contender(RandomPolicy(gymnasium.spaces.Discrete(13)), {}, "another")
    chosen = np.array([[0, 3], [3, 3]])
    decisions = {name: Decisions(np.zeros((2, 2, 1)), chosen, None) for name in ("uniform", "zipf-0.9")}
    texts = {text.get_text() for text in draw_actions(decisions, ()).axes[0].texts}
    assert texts == {"0.25", "0.75"}
    [path] = draw_choices(tmp_path, "pace", judged, decisions, (1,), ())
    assert path == tmp_path / "pace-actions.png" and path.read_bytes().startswith(b"\x89PNG")


def test_an_explanation_tells_numbers_words_and_pictures(kwargs, tmp_path):
    judged = contender(Listening("recent_write_amplification"), kwargs)
    name = shipped_names()[0]
    text = explain(
        judged, ("uniform", "zipf-0.9"), (1,), name="ear", shipped=name, folder=tmp_path / "new", tell=lambda what: None
    )
    assert "+recent_write_amplification" in text and "victim score" in text
    assert plain_words((find_agent(name).folder / CARD).read_text()) in text
    pictures = [tmp_path / "new" / f"ear-{kind}.png" for kind in ("actions", "victims", "thresholds")]
    assert text.splitlines()[-1] == "Pictures: " + ", ".join(map(str, pictures))
    assert all(path.stat().st_size > 0 for path in pictures)
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="--output"):
        explain(judged, ("uniform",), (1,), name="ear", shipped=None, folder=tmp_path / "file", tell=lambda what: None)


def test_the_words_are_a_section_of_the_card():
    assert plain_words("# a\n\n## In plain words\n\nIt waits.\n\n## Limits\n\nNone.\n") == "It waits."
    assert plain_words("# a\n\n## Limits\n") == ""


def test_words_of_another_training_seed_say_so(monkeypatch, tmp_path):
    (tmp_path / CARD).write_text("## In plain words\n\nOf training seed 2: it waits.\n")
    agent = dataclasses.replace(find_agent("lfs-tune"), folder=tmp_path, seeds=(1, 2))
    monkeypatch.setattr("agents.explaining.find_agent", lambda name: agent)
    assert words_of("waiter:2") == "In plain words\n\nOf training seed 2: it waits."
    for name in ("waiter", "waiter:1"):
        note = "(of training seed 2: waiter:2, while all above is of seed 1)"
        assert words_of(name) == f"In plain words {note}\n\nOf training seed 2: it waits."
    (tmp_path / CARD).write_text("## In plain words\n\nIt waits.\n")  # of the agent that the bare name stands for
    assert words_of("waiter") == "In plain words\n\nIt waits."
    assert words_of("waiter:2").startswith("In plain words (of training seed 1: ")
    (tmp_path / CARD).write_text("# nothing\n")
    assert words_of("waiter") == ""


@pytest.mark.parametrize("env_id", DAMON_ENVIRONMENTS)
def test_settings_of_agents_are_drawn_beside_those_of_the_builtin_algorithms(env_id):
    kwargs = {"episode_s": 20.0, "warm_s": 2.0, "max_nr_regions": 100}
    known = DAMON_ENVIRONMENTS[env_id]
    judged = Contender("agent (still)", env_id, kwargs, lambda space: ConstantPolicy(space, (0.0,)))
    figure = draw_settings(judged, ("bursts-2-1",), (1,))["settings"]
    assert len(figure.axes) == len(DAMON_SETTINGS[env_id])
    names = [text.get_text() for text in figure.axes[0].get_legend().get_texts()]
    assert names == ["agent", *known.builtins]
    first = DAMON_SETTINGS[env_id][0].label
    marks = {line.get_label(): float(line.get_ydata()[0]) for line in figure.axes[0].lines}
    if env_id == MONITOR:
        assert first == "sampling interval, ms" and marks["defaults"] == 5.0 and marks["hmsdk"] == 100.0
        assert marks["agent"] == pytest.approx(5.0 * 2.0**6)  # half of eleven powers of two, rounded up
    elif env_id == RECLAIM:
        assert marks["damon_reclaim"] > 6.0 == marks["pdarc"] and np.isnan(marks["senpai"])
        assert marks["agent"] == 4.0  # 1.25 s a GiB, in whole aggregations of 2 s
    else:
        assert marks["agent"] == 25.0 and marks["fixed_thresholds"] == 5.0 and np.isnan(marks["none"])


def test_the_command_explains_agents_only(monkeypatch):
    asked = []
    monkeypatch.setattr(
        "agents.judging.explain", lambda *arguments, **named: asked.append((arguments, named)) or "said"
    )
    options = JudgingOptions(agent="lfs-tune:1", explain=True, workloads=("uniform",))
    assert judge(options, sys.stderr) == "said"
    [((judged, workloads, seeds), named)] = asked
    assert (judged.env_id, workloads, len(seeds)) == (TUNE, ("uniform",), explaining.EPISODES)
    assert (named["name"], named["shipped"], named["folder"]) == ("lfs-tune-seed-1", "lfs-tune:1", None)
    for changes, reason in (
        ({"agent": None, "policy": "greedy"}, "is for agents"),
        ({"mode": "learning"}, "--mode do not go with it"),
        ({"workloads": ("lfs-tune",)}, "suites of workloads"),
        ({"explain": False, "output": "folder"}, "--output"),
    ):
        with pytest.raises(UserError, match=reason):
            judge(dataclasses.replace(options, **changes), sys.stderr)
