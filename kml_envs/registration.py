"""The environment ids that `import kml_envs` registers with Gymnasium."""

from __future__ import annotations

import gymnasium

NAMESPACE = "kml"

ENVIRONMENTS: dict[str, tuple[str, str]] = {
    "LfsVictim-v0": ("kml_envs.envs.lfs_victim:LfsVictimEnv", "kml_envs.envs.lfs_victim:LfsVictimVectorEnv"),
    "LfsTune-v0": ("kml_envs.envs.lfs_tune:LfsTuneEnv", "kml_envs.envs.lfs_tune:LfsTuneVectorEnv"),
    "LfsPacing-v0": ("kml_envs.envs.lfs_pacing:LfsPacingEnv", "kml_envs.envs.lfs_pacing:LfsPacingVectorEnv"),
}


def environment_ids() -> tuple[str, ...]:
    """All ids, such as `kml/LfsTune-v0`."""
    return tuple(f"{NAMESPACE}/{name}" for name in ENVIRONMENTS)


def register_environments() -> None:
    """Register every id that is not registered yet; entry points are strings, so that nothing heavy is imported."""
    for name, (entry_point, vector_entry_point) in ENVIRONMENTS.items():
        if f"{NAMESPACE}/{name}" not in gymnasium.registry:
            gymnasium.register(id=f"{NAMESPACE}/{name}", entry_point=entry_point, vector_entry_point=vector_entry_point)
