"""`python -m kml_envs serve`, also installed as `kml_envs`."""

from __future__ import annotations

from kml_envs.errors import run_command


def main() -> None:
    """Run the command line."""
    from kml_envs.serve.command import main as command

    run_command(command)


if __name__ == "__main__":
    main()
