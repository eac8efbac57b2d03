"""What drives the simulated subsystems: block traces in the formats people have, and synthetic workloads.

Importing this package loads NumPy only; the compiled generators load with their own modules.
"""

from kml_envs.workloads.describe import TraceDescription, describe_requests, format_description
from kml_envs.workloads.formats import FORMATS, TraceFormat, detect_format
from kml_envs.workloads.trace import (
    BlockTrace,
    FittedTrace,
    RequestChunk,
    address_hash,
    block_writes,
    fit_to_volume,
    iterate_requests,
    read_trace,
)

__all__ = [
    "FORMATS",
    "BlockTrace",
    "FittedTrace",
    "RequestChunk",
    "TraceDescription",
    "TraceFormat",
    "address_hash",
    "block_writes",
    "describe_requests",
    "detect_format",
    "fit_to_volume",
    "format_description",
    "iterate_requests",
    "read_trace",
]
