"""What several packages' tests share."""

import re
from pathlib import Path

import pytest

PROXY_PAGE = Path(__file__).parent.parent / "docs" / "proxy.md"


@pytest.fixture(scope="session")
def proxy_page_example():
    """The names that the third-party example of the proxy's page defines, run as it stands there."""
    [source] = re.findall(r"```python\n(.*?)```", PROXY_PAGE.read_text(), flags=re.DOTALL)
    assert len(source.splitlines()) <= 60
    names = {"__name__": "proxy_page_example"}
    exec(source, names)
    return names
