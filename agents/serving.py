"""The user-space daemon: a trained agent answers the data sets of a served subsystem, and learns on if asked to.

It may come before the server and outlives its restarts. The kernel side needs none of its care: when the daemon is
killed the built-in algorithm acts, and when it comes back it is asked again.
"""

from __future__ import annotations

import inspect
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import gymnasium
import torch
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.vec_env import DummyVecEnv

from agents.loading import LoadedModel, load_model
from agents.run_folder import find_saved_run
from agents.shipped import check_complete, load_agent
from agents.standardize import standardization
from kml_envs.errors import UserError
from kml_envs.files import check_writable, write_atomically
from kml_envs.serve.client import ModelFiles, connect, next_data_set, recommend_and_go_on
from kml_envs.serve.remote import RETRY_S, ServedEnv, StopServing

_POLL_S = 1.0


@dataclass(frozen=True)
class ServingOptions:
    """What the daemon is asked for.

    Attributes:
        model: Run folder or zip file; None where `agent` is given.
        agent: Name of a shipped agent.
        mount: Folder where the subsystem is mounted, or None.
        socket: Socket where it is served, or None.
        learn: Whether to learn on. Works for every algorithm that learns step by step: all but ARS.
        save: Where to save what was learned; None: `served_model.zip` beside the model.
        save_freq: Decisions between two savings.
        env: Environment id of a model that has no run folder.
        algo: Its algorithm.
        trust: Whether such a model may run code.
        quiet: Whether to say nothing.
    """

    model: Path | None = None
    agent: str | None = None
    mount: Path | None = None
    socket: Path | None = None
    learn: bool = False
    save: Path | None = None
    save_freq: int = 10_000
    env: str | None = None
    algo: str | None = None
    trust: bool = False
    quiet: bool = False


def serve_agent(options: ServingOptions) -> int:
    """Answer until SIGINT or SIGTERM.

    Returns:
        The exit status, 0.

    Raises:
        UserError: The model cannot be loaded, or it does not fit what is served.
    """
    torch.set_num_threads(1)
    if (options.socket is None) == (options.mount is None):
        raise UserError("give either --mount FOLDER or --socket PATH")
    if options.socket is not None and options.socket.is_dir():
        raise UserError(f"--socket {options.socket}: is a folder, a socket is needed")
    if options.save is not None and not options.learn:
        raise UserError(f"--save {options.save}: is where --learn saves")
    if options.save_freq < 1:
        raise UserError(f"--save-freq {options.save_freq}: must be at least 1")
    if (options.model is None) == (options.agent is None):
        raise UserError("give either a model or --agent NAME")
    if options.agent is not None:
        check_complete(options.env, options.algo, options.trust)
        if options.learn and options.save is None:
            raise UserError("--learn: say by --save FILE where the agent is to be saved")
        loaded = load_agent(options.agent)
    else:
        assert options.model is not None
        loaded = load_model(options.model, env_id=options.env, algo=options.algo, trust=options.trust)
    if options.learn and loaded.algo == "ars":
        raise UserError("--learn: ARS judges whole episodes, which a served subsystem does not repeat")
    stop = _StopRequest()
    say: Callable[[str], None] = (lambda text: None) if options.quiet else partial(print, file=sys.stderr, flush=True)
    open_files = _Connecting(partial(connect_to, options, loaded), options.socket or options.mount, say)
    if options.learn:
        _learn(loaded, options, open_files, stop, say)
    else:
        _answer(loaded, open_files, stop, say)
    return 0


def connect_to(options: ServingOptions, loaded: LoadedModel) -> ModelFiles:
    """Connect, and see that the model fits.

    Raises:
        OSError: The server is not there.
        UserError: It asks for something else than the model was trained for.
    """
    files = connect(socket_path=options.socket, mount=options.mount)
    schema = [line.split() for line in files.read("dataset_schema").decode().splitlines()]
    features = sum(words[0] == "feature" for words in schema)
    [asked] = [words[1:] for words in schema if words[0] == "recommendation"]
    space = loaded.model.action_space
    if isinstance(space, gymnasium.spaces.Discrete):
        wanted = ["choice", str(space.n)]
    else:
        assert space.shape is not None
        wanted = ["numbers", str(space.shape[0])]
    if loaded.model.observation_space.shape != (features,) or asked != wanted:
        files.close()
        raise UserError(
            f"the model, trained on {loaded.env_id}, recommends {' '.join(wanted)} from features of shape "
            f"{loaded.model.observation_space.shape}: what is served asks for {' '.join(asked)} from {features}"
        )
    return files


def _answer(
    loaded: LoadedModel, open_files: Callable[[], ModelFiles], stop: _StopRequest, say: Callable[[str], None]
) -> None:
    """Answer data sets; wherever the server is gone, wait until it is back."""
    masked = "action_masks" in inspect.signature(loaded.model.predict).parameters
    predict: Any = loaded.model.predict
    connected = False
    while not stop.wanted:
        try:
            files = open_files()
        except OSError:
            time.sleep(RETRY_S)
            continue
        say("connected" if not connected else "connected again")
        connected = True
        try:
            data_set = None
            while not stop.wanted:
                if data_set is None:
                    data_set = next_data_set(files, _POLL_S)
                    continue
                masks = {"action_masks": data_set.mask} if masked else {}
                action, _ = predict(data_set.features, deterministic=True, **masks)
                data_set = recommend_and_go_on(files, data_set.generation, action, _POLL_S)
        except OSError as error:
            say(f"the server is gone ({error.strerror or error})")
        finally:
            files.close()


def _learn(
    loaded: LoadedModel,
    options: ServingOptions,
    open_files: Callable[[], ModelFiles],
    stop: _StopRequest,
    say: Callable[[str], None],
) -> None:
    """Learn from the feedback with the model's own algorithm, saving as it goes."""
    model = loaded.model
    where = options.save
    if where is None:
        assert options.model is not None
        where = find_saved_run(options.model).model.with_name("served_model.zip")
    spaces = model.observation_space, model.action_space
    model.set_env(DummyVecEnv([lambda: ServedEnv(open_files, *spaces, lambda: stop.wanted)]))
    check_writable(where, "--save")
    say(f"learning on; saving to {where} every {options.save_freq} decisions")
    save = partial(write_atomically, where, lambda temporary: model.save(temporary))
    with standardization(model.policy, learning=True):
        try:
            model.learn(sys.maxsize, callback=_Save(options.save_freq, save), reset_num_timesteps=False)
        except StopServing:
            pass
    save()


class _Connecting:
    """Connects, and says once that it waits where nobody serves."""

    def __init__(self, connect: Callable[[], ModelFiles], place: Path | None, say: Callable[[str], None]) -> None:
        self._connect, self._place, self._say = connect, place, say
        self._told = False

    def __call__(self) -> ModelFiles:
        try:
            files = self._connect()
        except OSError:
            if not self._told:
                self._say(f"waiting for {self._place}")
                self._told = True
            raise
        self._told = False
        return files


class _StopRequest:
    """Becomes true with the first SIGINT or SIGTERM."""

    def __init__(self) -> None:
        self.wanted = False
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._stop)

    def _stop(self, number: int, frame: object) -> None:
        self.wanted = True


class _Save(BaseCallback):
    """Saves every so many steps."""

    def __init__(self, every: int, save: Callable[[], None]) -> None:
        super().__init__()
        self._every, self._save = every, save

    def _on_step(self) -> bool:
        if self.n_calls % self._every == 0:
            self._save()
        return True
