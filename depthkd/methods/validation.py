"""Validation during training: each benchmark under its own protocol, summed over ranks, with pictures."""

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from depthkd.batch import Batch, DepthSpace, Quantity
from depthkd.benchmarks.benchmark import Benchmark
from depthkd.metrics.depth import MeanOverImages
from depthkd.report.pictures import panel

if TYPE_CHECKING:
    from depthkd.methods.method import Method

LOGGED = ("abs_rel", "delta1")


class Validation:
    """Scores the evaluated student on the datamodule's benchmarks; logs `val/<benchmark>/<figure>`."""

    def __init__(self, method: "Method") -> None:
        self.method = method
        self.means: dict[str, MeanOverImages] = {}

    def benchmarks(self) -> dict[str, Benchmark]:
        """Those of the datamodule that Lightning has brought together with the method."""
        benchmarks: dict[str, Benchmark] = self.method.trainer.datamodule.validation  # type: ignore[attr-defined]
        return benchmarks

    def step(self, batch: Batch, batch_idx: int, dataloader_idx: int) -> None:
        """Score one sample."""
        name, benchmark = list(self.benchmarks().items())[dataloader_idx]
        assert batch.depth is not None and batch.mask is not None and batch.space is not None
        student = self.method.evaluated()
        image = batch.images()
        depth = student.predict(image, benchmark.protocol.resolution)
        sample = (depth, student.space, batch.depth, batch.space, batch.mask)
        if name not in self.means:
            self.means[name] = MeanOverImages(LOGGED).to(image.device)
        self.means[name].update(benchmark.protocol.score(*sample))
        if batch_idx == 0:
            truth = torch.where(batch.mask, batch.depth, torch.nan)
            depth_space = batch.space if batch.space.quantity is Quantity.DEPTH else batch.space.inverse()
            aligned = benchmark.protocol.aligned(*sample)
            self.picture(name, image, [(truth, batch.space), (aligned, depth_space)])

    def finish(self) -> None:
        """Log the means over all ranks and start anew."""
        for name in self.benchmarks():
            figures = self.means.pop(name, None) or MeanOverImages(LOGGED).to(self.method.device)
            for figure, value in figures.compute().items():
                if figure in LOGGED:
                    self.method.log(
                        f"val/{name}/{figure}", value, prog_bar=figure == "abs_rel", sync_dist=False
                    )
        latest = self.method.latest
        if latest:
            space = self.method.student.space
            maps = [(latest["target"], space), (latest["student"], space)]
            self.picture("training", latest["image"], maps)

    def picture(self, name: str, image: Tensor, maps: list[tuple[Tensor, DepthSpace]]) -> None:
        """Image | target | student, for the first image, in the log of rank 0."""
        experiment = getattr(self.method.logger, "experiment", None)
        if not self.method.trainer.is_global_zero or not hasattr(experiment, "add_image"):
            return
        picture = panel(image[0], [(values[0], space) for values, space in maps])
        experiment.add_image(f"{name}", picture, self.method.global_step, dataformats="HWC")
