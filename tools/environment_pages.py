"""Write the documentation pages of the environments from their class docstrings.

    python -m tools.environment_pages

A test checks that the pages in `docs/environments` are what this prints.
"""

from __future__ import annotations

import inspect
from pathlib import Path

import gymnasium
from gymnasium.envs.registration import load_env_creator

import kml_envs
from kml_envs.errors import OneLineParser, run_command

FOLDER = Path(__file__).parents[1] / "docs" / "environments"


def page(env_id: str) -> str:
    """The page of one environment, as Markdown.

    Args:
        env_id: A registered id.

    Returns:
        The text, ending in a newline.
    """
    spec = gymnasium.spec(env_id)
    creator = load_env_creator(spec.entry_point)
    title, _, body = inspect.cleandoc(creator.__doc__ or "").partition("\n")
    snippet = f'gymnasium.make("kml_envs:{env_id}")'
    vector = f'gymnasium.make_vec("kml_envs:{env_id}", num_envs=256, vectorization_mode="vector_entry_point")'
    return (
        f"# {env_id}\n\n{title}\n\n```python\nimport gymnasium\n\nenv = {snippet}\nenvs = {vector}\n```\n\n"
        "What all environments have in common, such as `info`, `reset` and pictures, is described in\n"
        "[The environments in your own code](../using.md).\n\n"
        f"{body.strip()}\n\n"
        f"*Written from the docstring of `{spec.entry_point}` by `python -m tools.environment_pages`.*\n"
    )


def file_name(env_id: str) -> str:
    """File name of an environment's page."""
    return env_id.partition("/")[2] + ".md"


def main() -> None:
    """Write all pages."""
    OneLineParser(prog="python -m tools.environment_pages", description=__doc__.partition("\n")[0]).parse_args()
    FOLDER.mkdir(exist_ok=True)
    for env_id in kml_envs.environment_ids():
        (FOLDER / file_name(env_id)).write_text(page(env_id), encoding="utf-8")


if __name__ == "__main__":
    run_command(main)
