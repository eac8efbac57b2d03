"""A volume in domains: when it is split, what is said of it, and how one agent serves all of them."""

import subprocess
import sys
from pathlib import Path

import gymnasium
import numpy as np
import pytest

from kml_envs.envs.domains import choose_domains, comparison_of, describe_comparison
from kml_envs.errors import UserError
from kml_envs.serve.channel import DATA_SET, RECOMMENDATION, Channel
from kml_envs.serve.command import make_served, served_arguments
from kml_envs.serve.dataset import unpack
from kml_envs.serve.kernel import SimulatedKernel
from kml_envs.serve.minari_export import episodes
from kml_envs.serve.options import ServeOptions
from kml_envs.serve.recording import Recorder, read_recording

ROOT = Path(__file__).parent.parent.parent
VICTIM = "kml/LfsVictim-v0"
LARGE = {"segments": 9 * 256, "blocks_per_segment": 8, "utilisation": 0.75, "warm_volumes": 1.0}


@pytest.mark.parametrize(
    ("wanted", "segments", "domains", "said"),
    [
        ("auto", 256, 1, "compared in time: 256 segments < 9 x 256"),
        ("auto", 2303, 1, "compared in time: 2303 segments < 9 x 256"),
        ("auto", 2304, 9, "compared in space: 9 domains of 256 segments"),
        ("auto", 4100, 16, "compared in space: 16 domains of 256 segments"),
        (9, 4096, 9, "compared in space: 9 domains of 455 segments"),
        (1, 4096, 1, "compared in time, as domains 1 says"),
    ],
)
def test_a_volume_is_split_if_nine_domains_of_256_segments_fit(wanted, segments, domains, said):
    assert choose_domains(wanted, segments) == domains
    assert describe_comparison(wanted, segments) == said


@pytest.mark.parametrize(("wanted", "segments"), [(8, 4096), (17, 4096), (0, 4096), (-1, 4096), ("some", 4096)])
def test_domains_that_are_too_few_or_too_small_are_refused(wanted, segments):
    with pytest.raises(UserError, match=f"domains {wanted}: 1, auto, and from 9 on .* 4096 segments are enough for 16"):
        choose_domains(wanted, segments)


def test_what_cannot_be_split_says_so(tutorial_module):
    assert comparison_of("readahead:tutorial/Readahead-v0", {}) == (1, "compared in time: it has no domains")
    assert comparison_of("kml/DamonTier-v0", {})[0] == 1
    pacing = {"mode": "auto", "segments": 4096, "domains": "auto"}
    assert comparison_of("kml/LfsPacing-v0", pacing) == (1, "compared in time: in time all cleaning shares one device")
    with pytest.raises(UserError, match="domains 9: in time all cleaning shares one device"):
        gymnasium.make("kml/LfsPacing-v0", mode="auto", domains=9)


def test_served_volumes_have_domains_only_where_the_proxy_compares():
    assert served_arguments(VICTIM, "auto", {})["domains"] == "auto"
    assert served_arguments(VICTIM, "auto", {"domains": 1})["domains"] == 1
    assert "domains" not in served_arguments(VICTIM, "recommendation", {})
    assert "domains" not in served_arguments("kml/DamonTier-v0", "auto", {})
    fixed = make_served(VICTIM, {**LARGE, "mode": "learning", "domains": "auto"})
    assert fixed.proxy.subsystem.instances == fixed.proxy.options.domains == 1


def test_the_domains_of_a_volume_have_the_same_workload_and_end_together():
    env = make_served(VICTIM, served_arguments(VICTIM, "auto", LARGE))
    subsystem = env.proxy.subsystem
    seen = set()
    for seed in range(6):
        env.reset(seed=seed)
        workloads = subsystem.metrics()["workload"]
        assert len(workloads) == 9 and len(set(workloads.tolist())) == 1
        seen.add(int(workloads[0]))
    assert len(seen) > 1
    assert len(np.unique(subsystem.state.volumes["random"])) == 9, "but each its own draws"
    env.close()
    arguments = {**served_arguments(VICTIM, "auto", LARGE), "autoreset_mode": "same_step"}
    with pytest.raises(UserError, match="autoreset_mode must be 'disabled'"):
        gymnasium.make_vec(VICTIM, 9, vectorization_mode="vector_entry_point", **arguments)


class Hands:
    """One agent that serves a volume in nine domains by a rule, and the clock's hands."""

    def __init__(self, speed, choose, **arguments):
        kwargs = {**LARGE, "workloads": ["hot-cold-0.95-0.05"], "efficiency": "none", **arguments}
        self.env = make_served(VICTIM, served_arguments(VICTIM, "auto", kwargs))
        self.now, self.choose = 0.0, choose
        self.decided = []
        self.kernel = SimulatedKernel(self.env, ServeOptions(speed, 50.0), 1, self.decided.append)
        self.channel = Channel(self.kernel, VICTIM, clock=lambda: self.now)
        self.data = self.channel.open(DATA_SET, reading=True)
        self.answers = self.channel.open(RECOMMENDATION, writing=True)

    def statistics(self):
        text = self.channel.open("statistics", reading=True).read(1 << 16).decode()
        return {name: float(value) for name, value in (line.split(" ") for line in text.splitlines())}

    def volumes(self):
        return self.env.proxy.course.made().mean() / self.env.proxy.subsystem.warm.config.geometry.volume_blocks

    def serve(self, volumes, think_s=0.0):
        """Answer every data set after some time, until so many volumes have been written."""
        while self.volumes() < volumes:
            if (record := self.data.read(1 << 16)) is not None:
                data_set = unpack(record)
                self.now += think_s
                self.answers.write(b"%d %d" % (data_set.generation, self.choose(data_set)))
            elif not self.kernel.open:
                self.now = max(self.now, self.kernel.due)
                self.kernel.advance(self.now)


def cost_benefit(data_set):
    return int(np.where(data_set.mask, data_set.features[29:].reshape(32, 8)[:, 6], -1.0).argmax())


def greedy(data_set):
    return 0


def test_a_better_agent_is_trusted_in_space():
    one = Hands(0.0, cost_benefit, utilisation=0.8)
    one.serve(24.0)
    found = one.statistics()
    assert found["mode"] == 3 and 0 < found["recommendation_after"]
    assert found["domains"] == 9 and "verdict/not_asked" not in found
    assert {decision.row for decision in one.decided} == set(range(1, 9)), "the first domain is never the agent's"
    assert found["agent_operations"] == sum(bool(one.feedback.acted_by_agent[0]) for one in one.decided)


def test_the_domains_keep_step_in_real_time_while_their_agent_thinks():
    one = Hands(1.0, greedy)
    one.serve(2.0)
    begin, now = one.env.proxy.course.made().sum(), one.now
    one.serve(4.0, think_s=0.0005)
    written = one.env.proxy.course.made().sum() - begin
    assert written == pytest.approx((one.now - now) * 50_000, rel=0.05), "20 us a block, whoever's it is"
    made = one.env.proxy.course.made()
    assert made.max() - made.min() < 0.2 * one.env.proxy.options.window


def test_a_hanging_agent_stops_no_domain():
    one = Hands(1.0, greedy, share=0.5)
    one.serve(6.0)
    begin, now = one.env.proxy.course.made().sum(), one.now
    while one.now < now + 1.0:
        one.data.read(1 << 16)
        one.now = max(one.now, one.kernel.due)
        one.kernel.advance(one.now)
    written = one.env.proxy.course.made().sum() - begin
    assert written == pytest.approx((one.now - now) * 50_000, rel=0.05)


def test_an_episode_of_domains_is_followed_by_the_next():
    one = Hands(0.0, greedy, episode_volumes=6.0)
    for _ in range(2):
        one.serve(5.9)
        before = one.env.proxy.subsystem.metrics()["user_blocks"].min()
        while one.env.proxy.subsystem.metrics()["user_blocks"].min() >= before:
            if (record := one.data.read(1 << 16)) is not None:
                one.answers.write(b"%d 0" % unpack(record).generation)
            elif not one.kernel.open:
                one.kernel.advance(one.now)
        assert one.volumes() < 5.0
    assert one.statistics()["evidence_needed"] > 0


def test_recorded_episodes_of_domains_end_in_every_domain(tmp_path):
    one = Hands(0.0, greedy, episode_volumes=4.0, share=0.5)
    recorder = Recorder(tmp_path / "recording", VICTIM, {}, one.kernel.proxy.subsystem)
    while len({decision.episode for decision in one.decided}) < 3:
        if (record := one.data.read(1 << 16)) is not None:
            one.answers.write(b"%d 0" % unpack(record).generation)
        elif not one.kernel.open:
            one.kernel.advance(one.now)
    for decision in one.decided:
        recorder.add_decision(decision)
    recorder.flush()
    read = read_recording(tmp_path / "recording")
    columns = read.columns
    rows = np.stack([columns["row"], columns["episode"]], axis=1)
    assert len(list(episodes(read))) == len(np.unique(rows, axis=0)) > len(np.unique(rows[:, 0]))
    for row, episode in np.unique(rows, axis=0):
        of_both = (rows == (row, episode)).all(axis=1)
        assert (np.diff(columns["progress"][of_both]) >= 0).all()
    assert columns["finished"].sum() == 2, "one decision of all domains ends an episode"


def test_the_split_of_a_served_volume_stays():
    one = Hands(0.0, greedy)
    with pytest.raises(OSError, match="a volume of 9 is served"):
        one.channel.open("options/domains", writing=True).write(b"1")


def test_the_server_says_how_it_compares(tmp_path):
    for segments, said in ((128, "128 segments < 9 x 256"), (2304, "in space: 9 domains of 256 segments")):
        words = ["--socket", str(tmp_path / "no" / "socket"), "--env-kwargs", f"segments:{segments}", "warm_volumes:0"]
        command = [sys.executable, "-m", "kml_envs", "serve", *words]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)
        assert done.returncode == 2 and said in done.stderr.splitlines()[1]
