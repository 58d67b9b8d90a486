from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.datasets.files import Root, write


@pytest.fixture
def root(tmp_path: Path) -> Root:
    def make(files: Mapping[str, bytes], kind: str = "folder") -> Path:
        return write(tmp_path / f"root.{kind}", files, kind)

    return make
