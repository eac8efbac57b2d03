"""The environment ids that `import kml_envs` registers with Gymnasium."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

import gymnasium

from kml_envs.errors import UserError, unknown_name

NAMESPACE = "kml"

ENVIRONMENTS: dict[str, tuple[str, str]] = {
    "LfsVictim-v0": ("kml_envs.envs.lfs_victim:LfsVictimEnv", "kml_envs.envs.lfs_victim:LfsVictimVectorEnv"),
    "LfsTune-v0": ("kml_envs.envs.lfs_tune:LfsTuneEnv", "kml_envs.envs.lfs_tune:LfsTuneVectorEnv"),
    "LfsPacing-v0": ("kml_envs.envs.lfs_pacing:LfsPacingEnv", "kml_envs.envs.lfs_pacing:LfsPacingVectorEnv"),
    "DamonMonitor-v0": (
        "kml_envs.envs.damon_monitor:DamonMonitorEnv",
        "kml_envs.envs.damon_monitor:DamonMonitorVectorEnv",
    ),
    "DamonReclaim-v0": (
        "kml_envs.envs.damon_reclaim:DamonReclaimEnv",
        "kml_envs.envs.damon_reclaim:DamonReclaimVectorEnv",
    ),
    "DamonTier-v0": ("kml_envs.envs.damon_tier:DamonTierEnv", "kml_envs.envs.damon_tier:DamonTierVectorEnv"),
}


def environment_ids() -> tuple[str, ...]:
    """All ids, such as `kml/LfsTune-v0`."""
    return tuple(f"{NAMESPACE}/{name}" for name in ENVIRONMENTS)


def find_environment(env_id: str) -> str:
    """Look an environment up, and import what registers it.

    Args:
        env_id: One of `environment_ids`, or `MODULE:ID` for one that importing the module registers with Gymnasium;
            modules in the current folder are found too.

    Returns:
        The id that Gymnasium knows.

    Raises:
        UserError: There is no such module or environment.
    """
    module, _, name = env_id.rpartition(":")
    if module.startswith("."):
        raise UserError(f"environment '{env_id}': MODULE must be its full name, '{module}' is a relative one")
    if module:
        if (here := str(Path.cwd())) not in sys.path:
            sys.path.append(here)
        try:
            importlib.import_module(module)
        except ImportError as error:
            raise UserError(f"environment '{env_id}': {error}") from None
        if name in gymnasium.registry:
            return name
    if name not in environment_ids():
        raise unknown_name("environment", env_id, (*environment_ids(), "MODULE:ID"))
    return name


def register_environments() -> None:
    """Register every id that is not registered yet; entry points are strings, so that nothing heavy is imported."""
    for name, (entry_point, vector_entry_point) in ENVIRONMENTS.items():
        if f"{NAMESPACE}/{name}" not in gymnasium.registry:
            gymnasium.register(id=f"{NAMESPACE}/{name}", entry_point=entry_point, vector_entry_point=vector_entry_point)
