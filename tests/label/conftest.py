from pathlib import Path

import pytest

from tests.label.teachers import write_images


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """See `write_images`."""
    return write_images(tmp_path / "images")
