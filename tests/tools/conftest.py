"""The repository's tools are not installed with the package: their tests find them from the repository root."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))
