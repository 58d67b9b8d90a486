"""The photographs that scikit-image carries, for pictures without truth."""

import numpy as np
from skimage import data

from depthkd.formats.sample import Sample


def photographs() -> list[Sample]:
    """astronaut, coffee, chelsea (a cat) and rocket; RGB, without depth."""
    images = {
        "astronaut": data.astronaut(),
        "coffee": data.coffee(),
        "chelsea": data.chelsea(),
        "rocket": data.rocket(),
    }
    return [Sample(key, np.array(image)) for key, image in images.items()]
