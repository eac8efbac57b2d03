"""Train an agent: `python train.py` learns to tune a log-structured file system's cleaner; `--help` lists the rest."""

from __future__ import annotations

import argparse

from kml_envs.errors import OneLineParser, run_command


def main() -> int:
    """Parse the command line and train."""
    arguments = parser().parse_args()
    from agents.plan import TrainingOptions
    from agents.training import train
    from kml_envs.command_line import parse_pairs

    values = vars(arguments)
    workloads = [*(values.pop("workload") or ()), *(f"trace:{path}" for path in values.pop("trace") or ())]
    values["env_kwargs"] = parse_pairs(values["env_kwargs"], "--env-kwargs")
    values["hyperparameters"] = parse_pairs(values["hyperparameters"], "--hyperparameters")
    result = train(TrainingOptions(workloads=tuple(workloads), **values))
    return 130 if result.interrupted_by == "SIGINT" else 143 if result.interrupted_by else 0


def parser() -> argparse.ArgumentParser:
    """The command line; flags are those of RL Zoo where it has them."""
    result = OneLineParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = result.add_argument
    add("--env", help="environment id (default: kml/LfsTune-v0)")
    add("--algo", help="ppo, ppo_mask, a2c, dqn, qrdqn, sac, td3 or ars (default: ppo)")
    add("--seed", type=int, help="of network, exploration and environments (default: 0)")
    add("-n", "--n-timesteps", type=int, help="steps; with -i, further steps (default: hyperparameter file)")
    add("--n-envs", type=int, help="environments stepped together (default: hyperparameter file)")
    add("--env-kwargs", nargs="+", metavar="KEY:VALUE", help="arguments of the environment, such as segments:128")
    add(
        "-params",
        "--hyperparams",
        "--hyperparameters",
        dest="hyperparameters",
        nargs="+",
        metavar="KEY:VALUE",
        help="replace values of the file",
    )
    add("--mode", help="learning, collaboration, recommendation, emergency or auto (default: recommendation)")
    add("--workload", nargs="+", metavar="NAME", help="suites or workloads to train on (default: train)")
    add(
        "--trace",
        nargs="+",
        metavar="FILE",
        help="traces to train on: of blocks; for DAMON damo records, masim configurations, lackey, CSV of accesses",
    )
    add("--eval-freq", type=int, help="steps between evaluations; 0: first and last only (default: an eighth)")
    add("--eval-episodes", type=int, help="episodes of an evaluation (default: two per validation workload)")
    add(
        "--eval-deployment",
        type=float,
        metavar="VOLUMES",
        help="length of its runs under mode auto; 0: none (default: 60, LfsVictim 40, LfsPacing 0)",
    )
    add("--save-freq", type=int, help="steps between checkpoints; 0: none (default: a quarter of the training)")
    add("-tb", "--tensorboard-log", metavar="FOLDER", help="event files; '': none (default: in the run's folder)")
    add("-f", "--log-folder", default="logs", help="where runs go (default: %(default)s)")
    add("-i", "--trained-agent", metavar="MODEL", help="continue from a saved model or run folder")
    add("--offline", metavar="FOLDER", help="recorded decisions: begin by imitating the built-in algorithm in them")
    add("--record", metavar="FOLDER", help="store every decision of the training there")
    add("--device", default="cpu", help="cpu, cuda or auto (default: %(default)s)")
    add("--num-threads", type=int, default=1, help="threads of torch (default: %(default)s)")
    add("-P", "--progress", action=argparse.BooleanOptionalAction, help="progress bar (default: on a terminal)")
    add("--closing", action=argparse.BooleanOptionalAction, default=True, help="held-out table at the end")
    add("--verbose", type=int, default=1, choices=(0, 1, 2), help="how much to print (default: %(default)s)")
    return result


if __name__ == "__main__":
    run_command(main)
