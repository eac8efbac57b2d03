"""What a training saves, and what a continued one takes up again: the model, and the scale of its rewards beside it."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.save_util import load_from_zip_file
from stable_baselines3.common.vec_env import VecNormalize

from kml_envs.errors import UserError, in_one_line
from kml_envs.files import write_arrays, write_atomically

_STATISTICS = ("mean", "var", "count")


def save_model(model: BaseAlgorithm, path: Path) -> None:
    """Save a model in one go, after the scale of its rewards where they are normalized.

    Args:
        model: The model.
        path: Where to, `NAME.zip`; the statistics of the discounted returns go to `NAME.rewards.npz`.
    """
    normalizer = model.get_vec_normalize_env()
    if normalizer is not None:
        statistics = normalizer.ret_rms
        write_arrays(reward_statistics_path(path), {name: getattr(statistics, name) for name in _STATISTICS})
    write_atomically(path, lambda temporary: model.save(temporary))


def restore_parameters(model: BaseAlgorithm, saved: Path, what: str) -> None:
    """Go on with the numbers of a saved model, and with nothing else, so that no code of the file ever runs.

    Beside networks and optimizers these are single variables, such as the entropy coefficient that SAC has learned.

    Args:
        model: Gets them.
        saved: The zip file.
        what: What the model is, for messages.

    Raises:
        UserError: The file does not fit the model, or holds more than numbers.
    """
    try:
        _, parameters, variables = load_from_zip_file(str(saved), load_data=False, device=model.device)
        model.set_parameters(parameters, device=model.device)
        for name in model._get_torch_save_params()[1]:
            getattr(model, name).data.copy_((variables or {})[name].data)
    except pickle.UnpicklingError:
        raise UserError(f"{saved}: refused, it holds more than numbers where the networks should be") from None
    except (RuntimeError, ValueError, KeyError, AttributeError) as error:
        raise UserError(f"{saved}: does not fit {what}: {in_one_line(error)}") from None


def restore_reward_statistics(normalizer: VecNormalize, model: Path) -> bool:
    """Go on with the scale of rewards that a saved model was trained with.

    Args:
        normalizer: Gets the statistics.
        model: The saved model.

    Returns:
        Whether there were any; a model from elsewhere has none, and its scale begins anew.

    Raises:
        UserError: The file is not one of ours.
    """
    path = reward_statistics_path(model)
    try:
        with np.load(path, allow_pickle=False) as arrays:
            values = {name: np.float64(arrays[name]) for name in _STATISTICS}
    except FileNotFoundError:
        return False
    except (OSError, ValueError, KeyError, TypeError):
        raise UserError(f"{path}: holds no statistics of rewards; remove it to begin them anew") from None
    for name, value in values.items():
        setattr(normalizer.ret_rms, name, value)
    return True


def reward_statistics_path(model: Path) -> Path:
    """The file beside a saved model."""
    return model.with_suffix(".rewards.npz")
