from pathlib import Path

import numpy as np
import skimage.data

from depthkd.benchmarks import Motorcycle
from depthkd.datasets import FolderDataset, Photographs
from depthkd.formats.sample import content_digest

BUNDLED = Path(skimage.data.__file__).parent


def test_photographs_are_images_without_depth() -> None:
    photographs = Photographs()
    samples = [photographs.sample(index) for index in range(len(photographs))]
    assert [s.key for s in samples] == ["astronaut", "coffee", "chelsea", "rocket"]
    assert all(s.image.ndim == 3 and s.depth is None for s in samples)
    np.testing.assert_array_equal(samples[1].image, skimage.data.coffee())
    assert samples[0].digest == content_digest((BUNDLED / "astronaut.png").read_bytes())


def test_a_run_that_trained_on_the_motorcycle_is_seen() -> None:
    """Its digest is that of the file, which shards hold as it is."""
    folder = FolderDataset([str(BUNDLED / "motorcycle_left.png")])
    assert Motorcycle().sample(0).digest == folder.sample(0).digest is not None
