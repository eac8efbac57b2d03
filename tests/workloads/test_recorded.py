"""The recorded programs in the package, and the file format that carries them."""

import lzma

import numpy as np
import pytest

from kml_envs.errors import UserError
from kml_envs.memory_suites import make_memory_workload, memory_suites
from kml_envs.workloads.access import build_table
from kml_envs.workloads.recorded import DIRECTORY, load_recorded, recorded_index
from kml_envs.workloads.recorded.table_format import decode_table, encode_table

MIB = 1 << 20


def test_at_least_three_programs_are_there_and_one_is_held_out():
    programs = recorded_index().values()
    assert len({program.program for program in programs}) >= 3
    for split in ("train", "held-out"):
        assert memory_suites()[f"memory-real-{split}"]
    by_program = {}
    for program in programs:
        by_program.setdefault(program.program, set()).add(program.split)
    assert all(len(splits) == 1 for splits in by_program.values())
    assert sum(path.stat().st_size for path in DIRECTORY.iterdir() if path.is_file()) <= MIB


@pytest.mark.parametrize("name", sorted(recorded_index()))
def test_every_pattern_is_what_its_row_says(name):
    row = recorded_index()[name]
    table = load_recorded(name, stretched=False)
    assert table.size == row.touched_pages * 4096
    assert (DIRECTORY / row.file).stat().st_size == row.bytes
    assert table.phase_end_us[-1] == pytest.approx(row.instructions, rel=0.02)
    wide = make_memory_workload(name).table
    assert wide.size == pytest.approx(4 << 30, rel=0.1)
    assert wide.phase_end_us[-1] == pytest.approx(row.instructions * row.time_factor, rel=0.02)
    assert np.unique(wide.start).size > 20 and wide.phase_end_us.size > 20


def test_a_pattern_survives_its_file_but_for_the_rounding_of_rates():
    phases = [
        (4000, [(0, 8192, 1.0, 0.0), (8192, 12288, 1.02, 0.0), (20480, 24576, 500.0, 0.0)]),
        (4000, []),
        (2000, [(4096, 8192, 0.003, 0.0)]),
    ]
    table = build_table("t", phases, 32768)
    found = decode_table(encode_table(table))
    assert found.phase_end_us.tolist() == [4000, 8000, 10000]
    assert found.first_range.tolist() == [0, 2, 2, 3]
    assert found.start.tolist() == [0, 20480, 4096]
    assert found.end.tolist() == [12288, 24576, 8192]
    assert found.rate == pytest.approx([1.0, 500.0, 0.003], rel=0.1)
    assert found.size == 32768


def test_damaged_files_and_unknown_programs_are_told(monkeypatch, tmp_path):
    content = encode_table(build_table("t", [(4000, [(0, 8192, 1.0, 0.0)])], 8192))
    for wrong in (b"nothing", content[:-9], lzma.compress(b"KMLMEM2\n" + bytes(32))):
        with pytest.raises(ValueError, match="not a file of an access pattern"):
            decode_table(wrong)
    with pytest.raises(UserError, match="unknown recorded program 'emacs'"):
        load_recorded("emacs")
    name, row = next(iter(recorded_index().items()))
    monkeypatch.setattr("kml_envs.workloads.recorded.DIRECTORY", tmp_path)
    (tmp_path / row.file).write_bytes(content)
    with pytest.raises(ValueError, match="is damaged"):
        load_recorded(name)
