"""From shards to training batches."""

from typing import TYPE_CHECKING

from depthkd.lazy import lazy_exports

if TYPE_CHECKING:
    from depthkd.data.datamodule import ShardDataModule
    from depthkd.data.stream import ShardSource
    from depthkd.data.transforms import CrossContextCrop, ResizeCrop, SquareCrop, WholeImage

__all__ = ["CrossContextCrop", "ResizeCrop", "ShardDataModule", "ShardSource", "SquareCrop", "WholeImage"]

__getattr__ = lazy_exports(
    __name__,
    {
        "CrossContextCrop": "transforms",
        "ResizeCrop": "transforms",
        "ShardDataModule": "datamodule",
        "ShardSource": "stream",
        "SquareCrop": "transforms",
        "WholeImage": "transforms",
    },
)
