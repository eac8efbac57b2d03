"""Make the helpers beside the tests of the simulator and of the environments importable."""

import sys
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parents[1] / folder) for folder in ("lfs", "envs")]
