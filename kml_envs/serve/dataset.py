"""The data set as bytes, and the text that describes them to a reader who knows nothing else.

A record is little-endian and of a fixed size for a subsystem: a header of 40 bytes, F float32 features, and for a
choice K bytes of mask, 1 where the candidate may be chosen.

| offset | type | field |
| --- | --- | --- |
| 0 | char[4] | magic, `KMLD` |
| 4 | uint16 | version of this format, 1 |
| 6 | uint16 | size of the header, 40: where the features begin |
| 8 | int64 | generation, which a recommendation has to name |
| 16 | int64 | progress: work done for the user |
| 24 | uint32 | F, number of features |
| 28 | uint32 | K, number of candidates; 0 where the recommendation is not a choice |
| 32 | uint32 | microseconds that the agent has from the publication to its recommendation |
| 36 | uint32 | flags: bit 0 is set where the data set is corrupted |
"""

from __future__ import annotations

import struct
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from kml_envs.proxy import BatchedSubsystem, Bounds, Choice
from kml_envs.proxy.specs import BoolArray

MAGIC, VERSION = b"KMLD", 1
HEADER = struct.Struct("<4sHHqqIIII")
CORRUPTED = 1
_HEADER_FIELDS = (
    ("char[4]", "magic"),
    ("uint16", "version"),
    ("uint16", "header_size"),
    ("int64", "generation"),
    ("int64", "progress"),
    ("uint32", "feature_count"),
    ("uint32", "candidate_count"),
    ("uint32", "deadline_us"),
    ("uint32", "flags"),
)
_SIZES = {"char[4]": 4, "uint16": 2, "int64": 8, "uint32": 4}


class DataSet(NamedTuple):
    """One data set as an agent sees it.

    Attributes:
        generation: What a recommendation has to name.
        progress: Work done for the user.
        features: (F,) float32.
        mask: (K,) bool, the candidates that may be chosen; None where the recommendation is not a choice.
        deadline_us: Microseconds from publication until the built-in algorithm acts.
        corrupted: Whether the features are zeros that stand for damage; what is recommended is rejected then.
    """

    generation: int
    progress: int
    features: npt.NDArray[np.float32]
    mask: BoolArray | None
    deadline_us: int
    corrupted: bool


def pack(data_set: DataSet) -> bytes:
    """The record of a data set."""
    mask = b"" if data_set.mask is None else data_set.mask.astype(np.uint8).tobytes()
    header = HEADER.pack(
        MAGIC,
        VERSION,
        HEADER.size,
        data_set.generation,
        data_set.progress,
        len(data_set.features),
        len(mask),
        data_set.deadline_us,
        CORRUPTED if data_set.corrupted else 0,
    )
    return header + data_set.features.astype("<f4", copy=False).tobytes() + mask


def unpack(record: bytes) -> DataSet:
    """The data set of a record.

    Raises:
        ValueError: It is no record of this format.
    """
    if len(record) < HEADER.size:
        raise ValueError(f"a data set has at least {HEADER.size} bytes, got {len(record)}")
    magic, version, header, generation, progress, features, candidates, deadline_us, flags = HEADER.unpack_from(record)
    if magic != MAGIC or version != VERSION:
        raise ValueError(f"not a data set of version {VERSION}: it begins with {record[:6].hex(' ')}")
    if len(record) != header + 4 * features + candidates:
        raise ValueError(f"{features} features and {candidates} candidates do not fit into {len(record)} bytes")
    numbers = np.frombuffer(record, "<f4", features, header).astype(np.float32)
    mask = np.frombuffer(record, np.uint8, candidates, header + 4 * features).astype(np.bool_)
    return DataSet(generation, progress, numbers, mask if candidates else None, deadline_us, bool(flags & CORRUPTED))


def describe(environment: str, subsystem: BatchedSubsystem) -> str:
    """The text of `dataset_schema`: what every byte of a record means, and what may be recommended.

    Args:
        environment: Id of the environment.
        subsystem: What is served.
    """
    seen, asked = subsystem.observation, subsystem.recommendation
    candidates = asked.count if isinstance(asked, Choice) else 0
    size = HEADER.size + 4 * seen.size + candidates
    lines = [f"format kml-dataset {VERSION} little-endian", f"environment {environment}", f"size {size}"]
    offset = 0
    for kind, name in _HEADER_FIELDS:
        lines.append(f"field {offset} {kind} {name}")
        offset += _SIZES[kind]
    lines.append(f"field {offset} float32[{seen.size}] features")
    if candidates:
        lines.append(f"field {offset + 4 * seen.size} uint8[{candidates}] mask")
    lines += _numbers("feature", seen)
    if isinstance(asked, Choice):
        lines.append(f"recommendation choice {asked.count}")
    else:
        lines += [f"recommendation numbers {asked.size}", *_numbers("number", asked)]
    return "\n".join(lines) + "\n"


def _numbers(what: str, bounds: Bounds) -> list[str]:
    """One line per number: its place, its bounds, and its name, which may hold spaces."""
    each = zip(bounds.low.tolist(), bounds.high.tolist(), bounds.names, strict=True)
    return [f"{what} {place} {low:g} {high:g} {name}" for place, (low, high, name) in enumerate(each)]
