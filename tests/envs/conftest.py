"""Make the helpers beside the tests of the environments importable."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
