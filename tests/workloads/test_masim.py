"""masim's configuration files: what is read, what it means, and what is refused."""

import numpy as np
import pytest

from kml_envs.errors import UserError
from kml_envs.workloads.masim import masim_table, read_masim, shipped_configurations, shipped_masim

GOOD = """# two regions
a, 1048576   # a comment behind a line
b, 10000000, none

first phase
1000
a, 1, 64, 3
b, 0, 4096, 1, rw

# a comment does not part paragraphs
second

500
"""


def written(tmp_path, text):
    path = tmp_path / "x.cfg"
    path.write_text(text)
    return path


def test_a_file_is_read_as_it_is_written(tmp_path):
    found = read_masim(written(tmp_path, GOOD.replace("second\n\n500\n", "second\n500\na, 0, 1, 1, wo")))
    assert [(region.name, region.bytes) for region in found.regions] == [("a", 1048576), ("b", 10_000_000)]
    assert [(phase.name, phase.time_ms, len(phase.accesses)) for phase in found.phases] == [
        ("first phase", 1000, 2),
        ("second", 500, 1),
    ]
    assert found.phases[0].accesses[0].random and found.phases[0].accesses[0].mode == "wo"
    assert found.phases[0].accesses[1].stride == 4096 and found.phases[0].accesses[1].mode == "rw"


def test_accesses_become_touches_of_pages(tmp_path):
    configuration = read_masim(written(tmp_path, GOOD.replace("second\n\n500\n", "second\n500\na, 0, 1, 1, wo")))
    table = masim_table(configuration, accesses_per_s=1e6)
    assert table.phase_end_us.tolist() == [1_000_000, 1_500_000]
    assert table.start.tolist() == [0, 1048576, 0]
    assert table.end.tolist() == [1048576, 1048576 + 2442 * 4096, 1048576]
    assert table.rate[0] == pytest.approx(750_000 / 256)
    assert table.sweep_us[1] == pytest.approx(10_000_000 / 4096 / 250_000 * 1e6)
    assert table.sweep_us[2] == pytest.approx(1048576)


def test_a_stride_beyond_a_page_visits_its_pages_only(tmp_path):
    text = "a, 8388608\n\np\n100\na, 0, 2097152, 1\n"
    table = masim_table(read_masim(written(tmp_path, text)), accesses_per_s=1000)
    assert table.start.tolist() == [0, 2 << 20, 4 << 20, 6 << 20]
    assert (table.end - table.start == 4096).all()
    assert table.rate == pytest.approx(250.0)


def test_several_lines_of_one_region_add_up(tmp_path):
    text = "a, 409600\n\np\n100\na, 1, 64, 1\na, 0, 2048, 3\n"
    table = masim_table(read_masim(written(tmp_path, text)), accesses_per_s=4000)
    assert table.rate == pytest.approx([10 + 30 / 2])


def test_shipped_configurations_are_read():
    assert {"stairs", "zigzag"} <= set(shipped_configurations())
    for name in shipped_configurations():
        table = masim_table(shipped_masim(name))
        assert table.size >= 64 << 20 and table.phase_end_us.size > 1
    stairs = masim_table(shipped_masim("stairs"))
    assert np.diff(stairs.first_range).tolist() == [10] + [1] * 10


@pytest.mark.parametrize(
    "text, message",
    [
        ("", "line 1: a paragraph of regions"),
        ("a, 100\n", "line 1: a phase is expected"),
        ("a, 10M\n\np\n1\na,1,1,1\n", "line 1: a region's size in bytes is a whole number"),
        ("a, 0\n\np\n1\na,1,1,1\n", "line 1: a region's size"),
        ("a, " + "9" * 5000 + "\n\np\n1\na,1,1,1\n", "line 1: a region's size"),
        ("a\n\np\n1\na,1,1,1\n", "line 1: 'name, bytes"),
        ("a, 1\na, 1\n\np\n1\na,1,1,1\n", "line 1: region 'a' is named twice"),
        ("a, 1\n\np\n", "line 3: a phase is a name"),
        (GOOD, "line 11: a phase is a name"),
        ("a, 1\n\np\nfive\na,1,1,1\n", "line 4: a phase's length in milliseconds"),
        ("a, 1\n\np\n1\nb,1,1,1\n", "line 5: no region 'b': accepted are a"),
        ("a, 1\n\np\n1\na,2,1,1\n", "line 5: randomness is 1"),
        ("a, 1\n\np\n1\na,1,0,1\n", "line 5: a stride in bytes"),
        ("a, 1\n\np\n1\na,1,1,-1\n", "line 5: a relative probability"),
        ("a, 1\n\np\n1\na,1,1,1,ro,x\n", "line 5: 'region, randomness"),
        ("a, 1\n\np\n1\na,1,1,1,x\n", "line 5: mode is one of ro, wo, rw"),
        ("a, 1\n\np\n1\na,1,1,0\n", "line 5: at least one access"),
    ],
)
def test_what_does_not_fit_the_grammar_is_named(tmp_path, text, message):
    with pytest.raises(UserError, match=f"x.cfg, {message}"):
        read_masim(written(tmp_path, text))


@pytest.mark.parametrize("speed", [0.0, -1.0, float("nan"), float("inf")])
def test_a_speed_that_is_none_is_refused(tmp_path, speed):
    with pytest.raises(UserError, match="accesses a second: a positive number"):
        masim_table(read_masim(written(tmp_path, "a, 1\n\np\n1\na,0,1,1\n")), accesses_per_s=speed)


def test_files_that_cannot_be_read(tmp_path):
    with pytest.raises(UserError, match="no such file"):
        read_masim(tmp_path / "none.cfg")
    path = tmp_path / "binary.cfg"
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UserError, match="not a text file"):
        read_masim(path)


def test_a_byte_order_mark_is_no_part_of_a_name(tmp_path):
    path = tmp_path / "marked.cfg"
    path.write_bytes(b"\xef\xbb\xbf" + b"a, 4096\n\np\n1\na,1,1,1\n")
    assert read_masim(path).regions[0].name == "a"
