from .datamodule import ShardDataModule as ShardDataModule
from .stream import ShardSource as ShardSource
from .transforms import CrossContextCrop as CrossContextCrop
from .transforms import ResizeCrop as ResizeCrop
from .transforms import SquareCrop as SquareCrop
from .transforms import WholeImage as WholeImage
