"""Make the monitors made by hand importable, which the tests of the monitor use too."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2] / "damon"))
