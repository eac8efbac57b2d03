"""The ML library: the proxy of a kernel subsystem, its protocols, checks and modes. It knows no subsystem."""

from kml_envs.proxy.modes import Mode, ModeController
from kml_envs.proxy.options import ProxyOptions
from kml_envs.proxy.protocols import BatchedSubsystem, Subsystem, SubsystemError, batch
from kml_envs.proxy.proxy import MLModelProxy
from kml_envs.proxy.specs import Bounds, Choice, Feedback, Snapshot
from kml_envs.proxy.verdict import Verdict

__all__ = [
    "BatchedSubsystem",
    "Bounds",
    "Choice",
    "Feedback",
    "MLModelProxy",
    "Mode",
    "ModeController",
    "ProxyOptions",
    "Snapshot",
    "Subsystem",
    "SubsystemError",
    "Verdict",
    "batch",
]
