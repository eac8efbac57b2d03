"""Make the helpers beside the tests of the simulator importable."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "lfs"))
