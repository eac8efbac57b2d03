"""Print what choosing victims could reach at the most, for somebody who knows what no agent can know.

    python -m tools.victim_bounds

On each held-out workload of the suite `lfs-victim`: the best built-in algorithm, and the victims of the two oracles
while blocks are placed as in the environment. The informed oracle knows how likely each block is to be written, but not
when: as much as anybody could find out. The clairvoyant one has read the coming writes.
"""

from __future__ import annotations

import numpy as np

from agents.benchmark_results import SuiteResult
from agents.benchmark_suites import SUITES
from agents.playing import evaluate, evaluate_oracle
from agents.results import join
from agents.tables import format_table
from kml_envs.errors import OneLineParser, run_command
from kml_envs.lfs.oracle import OracleKind


def main() -> None:
    """Play, and print the table."""
    parser = OneLineParser(prog="python -m tools.victim_bounds", description=__doc__.partition("\n")[0])
    parser.add_argument("--workload", nargs="+", metavar="NAME", help="single workloads (default: all held-out ones)")
    workloads = tuple(parser.parse_args().workload or SUITES["lfs-victim"].played)
    print(victim_bounds(workloads))


def victim_bounds(workloads: tuple[str, ...]) -> str:
    """The table."""
    suite = SUITES["lfs-victim"]
    measure, seeds = suite.measure, suite.episode_seeds
    builtins = join([evaluate(builtin, workloads, seeds) for builtin in suite.builtins])
    names, best = SuiteResult(suite, builtins, {}, {}, {}).best_builtin()
    header = ["workload", "best built-in", "its value"]
    columns = [[*workloads, measure.average], [*names, "of each workload"]]
    columns.append([measure.value_text(value) for value in (*best, measure.mean(best))])
    for kind in OracleKind:
        played = evaluate_oracle(kind, suite.env_id, suite.env_kwargs, workloads, seeds, victims_only=True)
        values = played.metrics[measure.metric][0].mean(axis=1)
        known = ~np.isnan(values)
        changes = [*measure.change(values, best), measure.change(*(measure.mean(v[known]) for v in (values, best)))]
        header += [f"victims of the {kind.value}", "against the built-in"]
        columns.append([*(measure.value_text(value) if not np.isnan(value) else "-" for value in values), ""])
        columns.append([measure.change_text(change) if not np.isnan(change) else "-" for change in changes])
    title = f"{suite.name}: {measure.title}, {len(seeds)} episodes a workload"
    note = "(the last row: over the workloads that the oracle knows anything about)"
    return "\n".join([title, note, "", format_table(header, list(zip(*columns, strict=True)))])


if __name__ == "__main__":
    run_command(main)
