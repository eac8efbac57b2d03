"""What several packages' tests share."""

import importlib.util
import re
import sys
from pathlib import Path

import pytest

TUTORIAL = Path(__file__).parent.parent / "docs" / "tutorial.md"


@pytest.fixture(scope="session")
def tutorial_module(tmp_path_factory):
    """The file of the tutorial's page, as it stands there, and imported under its own name."""
    source = re.findall(r"```python\n(.*?)```", TUTORIAL.read_text(), flags=re.DOTALL)[0]
    assert len(source.splitlines()) <= 60
    path = tmp_path_factory.mktemp("tutorial") / "readahead.py"
    path.write_text(source)
    spec = importlib.util.spec_from_file_location("readahead", path)
    module = importlib.util.module_from_spec(spec)
    sys.modules["readahead"] = module
    spec.loader.exec_module(module)
    return module
