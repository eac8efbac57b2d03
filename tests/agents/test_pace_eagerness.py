"""How eagerly the pacing rule cleans: the choice, and what it is chosen by."""

import pytest

from agents import pace_eagerness
from agents.hyperparameter_files import read_entry
from agents.pace_eagerness import EAGERNESS, MARGIN, Effect, choose_eagerness, with_bias

SHIPPED = read_entry("ppo", "kml/LfsPacing-v0")["policy_kwargs"]["initial_rule"]


@pytest.mark.parametrize(
    ("write_amplifications", "bias"),
    [((0.8, 0.85, 0.9, 0.91, 0.7), 0.55), ((0.91, 0.8), 0.4), ((0.5,) * 12, 1.0)],
)
def test_the_most_eager_rule_that_keeps_the_margin_is_chosen(monkeypatch, write_amplifications, bias):
    told = iter(write_amplifications)

    class Fake:
        def __init__(self, workloads, seeds):
            assert (workloads, seeds) == (["maildir@slowed-8"], (1,))

        def of(self, rule):
            assert {**rule, EAGERNESS: 0.4} == {"victim_age": 0.1, EAGERNESS: 0.4}
            return Effect(0.5, 0.5, next(told))

    monkeypatch.setattr(pace_eagerness, "Effects", Fake)
    chosen = choose_eagerness({"victim_age": 0.1, EAGERNESS: 0.4}, ["maildir@slowed-8"], (1,))
    assert chosen == {"victim_age": 0.1, EAGERNESS: bias}


def test_a_more_eager_rule_stalls_writers_less_and_moves_more():
    effects = pace_eagerness.Effects(["zipf-0.8@bursts-500-1500-80"], [1], {"episode_volumes": 1.0})
    shipped, eager = effects.of(SHIPPED), effects.of(with_bias(SHIPPED, 3))
    assert eager.stall < shipped.stall < 0.3 and shipped.write_amplification < 1.0 - MARGIN
    assert eager.write_amplification > shipped.write_amplification


def test_the_table_has_a_row_for_each_bias(monkeypatch, capsys):
    ratios = iter([Effect(0.5, 0.4, 1.25), Effect(0.25, 0.4, 1.5), Effect(0.125, 0.4, 2.0)])
    monkeypatch.setattr(pace_eagerness.Effects, "_play", lambda self, contender: Effect(1.0, 1.0, 1.0))
    monkeypatch.setattr(pace_eagerness.Effects, "of", lambda self, rule: next(ratios))
    monkeypatch.setattr("sys.argv", ["pace_eagerness", "--steps", "1"])
    pace_eagerness.main()
    rows = [line.split() for line in capsys.readouterr().out.splitlines()[-3:]]
    bias = SHIPPED[EAGERNESS]
    assert [float(row[0]) for row in rows] == pytest.approx([bias - 0.05, bias, bias + 0.05])
    assert rows[0][1:] == ["-50.0", "%", "-60.0", "%", "+25.0", "%"]
