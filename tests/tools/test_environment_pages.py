"""The environments' pages are what their docstrings say."""

import dataclasses

import kml_envs
from tools.environment_pages import FOLDER, file_name, page

HEADINGS = (
    "Description",
    "Action Space",
    "Observation Space",
    "Rewards",
    "Starting State",
    "Episode End",
    "Information",
    "Arguments",
    "Version History",
)


def test_pages_are_up_to_date_and_complete():
    for env_id in kml_envs.environment_ids():
        text = page(env_id)
        assert (FOLDER / file_name(env_id)).read_text(encoding="utf-8") == text
        for heading in HEADINGS:
            assert f"\n## {heading}\n" in text


def test_pages_name_every_argument():
    from kml_envs.envs.damon_monitor import DamonMonitorEnv
    from kml_envs.envs.damon_reclaim import DamonReclaimEnv
    from kml_envs.envs.lfs_tune import LfsTuneEnv
    from kml_envs.envs.lfs_victim import LfsVictimEnv

    for env in (LfsTuneEnv, LfsVictimEnv, DamonMonitorEnv, DamonReclaimEnv):
        documented = env.__doc__.split("## Arguments")[1].split("## Version History")[0]
        for field in dataclasses.fields(env.arguments):
            assert field.name in documented
