"""The length of episodes under mode `auto`, which serving, judging and training share."""

import gymnasium
import pytest

import kml_envs  # noqa: F401 - registers the environments
from kml_envs.long_episodes import episode_length, unit_of, window_of, with_long_episodes
from kml_envs.registration import environment_ids
from kml_envs.serve.command import main, make_served

OWN = "readahead:tutorial/Readahead-v0"


@pytest.mark.parametrize("env_id", environment_ids())
def test_a_long_episode_holds_many_units(env_id):
    options = gymnasium.make(env_id, **with_long_episodes(env_id, {"mode": "auto"})).unwrapped.proxy.options
    assert options.episode_progress >= 30 * options.window
    assert unit_of(env_id) in ("volumes", "half minutes")


def test_an_own_subsystem_counts_in_windows(tutorial_module):
    assert unit_of(OWN) == "windows" and window_of(OWN, {}) == 500
    assert episode_length(OWN, {"window": 40}, 3) == {"episode_progress": 120}
    assert with_long_episodes(OWN, {"mode": "auto"}) == {"mode": "auto", "episode_progress": 30_000}
    assert with_long_episodes(OWN, {"window": None}) == {"window": None}


@pytest.mark.parametrize("given", [{"episode_volumes": 7.0}, {"episode_progress": 900}])
def test_a_length_that_is_given_stays(tutorial_module, given):
    assert with_long_episodes("kml/LfsVictim-v0" if "episode_volumes" in given else OWN, given) == given


def test_what_is_served_has_long_episodes(tutorial_module, monkeypatch):
    made = []

    def stop_there(env_id, env_kwargs):
        made.append(make_served(env_id, env_kwargs))
        raise KeyboardInterrupt

    monkeypatch.setattr("kml_envs.serve.command.make_served", stop_there)
    for words in (["--env", OWN], ["--env", OWN, "--env-kwargs", "episode_progress:2000"], []):
        with pytest.raises(KeyboardInterrupt):
            main(["serve", "--socket", "nowhere", *words])
    options = [env.proxy.options for env in made]
    assert [one.mode for one in options] == ["auto"] * 3
    assert [one.episode_progress / one.window for one in options] == [60, 4, 30]
