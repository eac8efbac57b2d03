"""A workload of a suite cannot change without a new version of the suites."""

import dataclasses

import pytest

from kml_envs import suites as block_suites
from kml_envs.errors import UserError
from kml_envs.suites import SUITE_VERSION, make_workload
from tools import suite_digests
from tools.suite_digests import changes, digest_of_accesses, digest_of_writes, digests, read, renew


@pytest.fixture(scope="module")
def now():
    """Everything as it is now."""
    return digests()


def test_the_suites_are_those_of_their_version(now):
    version, noted = read()
    assert version == SUITE_VERSION, "raise SUITE_VERSION and run python -m tools.suite_digests"
    assert noted == now, changes(noted, now)


def test_digests_tell_workloads_and_their_changes_apart(now, monkeypatch):
    for kind in ("writes", "accesses"):
        assert len(set(now[kind].values())) == len(now[kind])
    phases = block_suites._SHIFTING["shifting-mixture"]
    later = (*phases[:-1], dataclasses.replace(phases[-1], shift=0.2))
    monkeypatch.setitem(block_suites._SHIFTING, "shifting-mixture", later)  # the last of its phases
    assert digest_of_writes("shifting-mixture") != now["writes"]["shifting-mixture"]
    slower = dataclasses.replace(make_workload("maildir@slowed-8"), time_scale=9.0)
    monkeypatch.setattr(suite_digests, "make_workload", lambda name: slower)
    assert digest_of_writes("maildir@slowed-8") != now["writes"]["maildir@slowed-8"]
    roomier = dataclasses.replace(suite_digests.make_memory_workload("needle"), limit_bytes=1)
    monkeypatch.setattr(suite_digests, "make_memory_workload", lambda name: roomier)
    assert digest_of_accesses("needle") != now["accesses"]["needle"]


def test_a_version_is_noted_once(now, monkeypatch, tmp_path):
    monkeypatch.setattr(suite_digests, "digests", lambda: now)
    file = tmp_path / "digests.yml"
    assert "written for version 4" in renew(file, 4) and read(file) == (4, now)
    assert "nothing has changed" in renew(file, 4)
    more = {**now, "writes": {**now["writes"], "new": "1"}}
    monkeypatch.setattr(suite_digests, "digests", lambda: more)
    assert "written for version 4" in renew(file, 4) and read(file) == (4, more)
    changed = {**more, "writes": {**more["writes"], "uniform": "0", "new": "2"}}
    monkeypatch.setattr(suite_digests, "digests", lambda: changed)
    with pytest.raises(UserError, match=r"raise SUITE_VERSION first; changed are writes: new, uniform$"):
        renew(file, 4)
    monkeypatch.setattr(suite_digests, "digests", lambda: now)
    with pytest.raises(UserError, match=r"raise SUITE_VERSION first; changed are writes: new$"):  # which is gone
        renew(file, 4)
    monkeypatch.setattr(suite_digests, "digests", lambda: changed)
    assert "written for version 5" in renew(file, 5) and read(file) == (5, changed)
