"""The photographs that scikit-image carries."""

from pathlib import Path

import skimage.data

from depthkd.datasets.dataset import Dataset
from depthkd.formats.images import decode_image
from depthkd.formats.sample import Sample, content_digest, read_file

NAMES = ("astronaut.png", "coffee.png", "chelsea.png", "rocket.jpg")


def bundled(name: str) -> Path:
    """A file among scikit-image's data."""
    return Path(skimage.data.__file__).parent / name


class Photographs(Dataset):
    """Four photographs without depth: astronaut, coffee, chelsea (a cat) and rocket; 300x451 to 512x512."""

    name = "photographs"
    bundled = True
    space = None

    def __len__(self) -> int:
        return len(NAMES)

    def sample(self, index: int) -> Sample:
        """One photograph, RGB."""
        name, data = self.image_file(index)
        return Sample(self.key(index), decode_image(data, name), digest=content_digest(data))

    def key(self, index: int) -> str:
        """What it shows."""
        return Path(NAMES[index]).stem

    def image_file(self, index: int) -> tuple[str, bytes]:
        """See `Dataset.image_file`."""
        return NAMES[index], read_file(bundled(NAMES[index]))
