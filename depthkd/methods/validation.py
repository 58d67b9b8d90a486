"""Validation during training: each benchmark under its own protocol, summed over ranks, with pictures."""

import logging
from collections.abc import Callable, Mapping
from typing import Any

import torch
from lightning.pytorch import LightningModule

from depthkd.batch import METRIC_DEPTH, Batch, DepthSpace
from depthkd.benchmarks.benchmark import Benchmark
from depthkd.metrics.catalogue import CATALOGUE
from depthkd.metrics.mean import MeanOverImages
from depthkd.models.model import DepthModel
from depthkd.report.pictures import panel
from depthkd.shapes import Image, Map
from depthkd.watching.loggers import log_picture, takes_pictures

Pictures = Mapping[str, tuple[Image, list[Map]]]  # title -> images, and maps in the student's space
log = logging.getLogger(__name__)
LOGGED = [entry.name for entry in CATALOGUE if entry.main and entry.formula]


class Validation:
    """Scores the evaluated student on the datamodule's benchmarks; logs `val/<benchmark>/<metric>`.

    Args:
        method: whose log it is.
        student: returns the network to score.
        pictures: returns what else the log shows, made of the last training batch.
    """

    def __init__(
        self, method: LightningModule, student: Callable[[], DepthModel], pictures: Callable[[], Pictures]
    ) -> None:
        self.method = method
        self.student = student
        self.pictures = pictures
        self.means: dict[str, MeanOverImages] = {}

    def benchmarks(self) -> dict[str, Benchmark]:
        """The benchmarks of the datamodule, by name."""
        trainer: Any = self.method.trainer  # whose `datamodule` Lightning sets without declaring it
        benchmarks: dict[str, Benchmark] = trainer.datamodule.validation
        return benchmarks

    def step(self, batch: Batch, batch_idx: int, dataloader_idx: int) -> None:
        """Score one sample."""
        name, benchmark = list(self.benchmarks().items())[dataloader_idx]
        assert batch.depth is not None and batch.mask is not None and batch.space is not None
        student = self.student()
        image = batch.images()
        how = benchmark.protocol
        points = {"sparse": batch.sparse} if student.takes_sparse_depth else {}
        depth = student.predict(image, how.resolution, how.scale, how.flip, batch.intrinsics, **points)
        sample = (depth, student.space, batch.depth, batch.space, batch.mask)
        if name not in self.means:
            self.means[name] = MeanOverImages(LOGGED).to(image.device)
        self.means[name].update(benchmark.protocol.score(*sample))
        if batch_idx == 0:
            truth = torch.where(batch.mask, batch.depth, torch.nan)
            aligned = benchmark.protocol.aligned(*sample)
            self.picture(f"val/{name}", image, [(truth, batch.space), (aligned, METRIC_DEPTH)])

    def finish(self) -> None:
        """Log the means over all ranks and start anew."""
        for name in self.benchmarks():
            metrics = self.means.pop(name, None) or MeanOverImages(LOGGED).to(self.method.device)
            found = metrics.compute()
            if not found["images"] and self.method.trainer.is_global_zero:
                log.warning(
                    "validation on %s has no metrics: no image has truth in the range of its protocol", name
                )
            for metric, value in found.items():
                if metric in LOGGED:
                    self.method.log(
                        f"val/{name}/{metric}", value, prog_bar=metric == "abs_rel", sync_dist=False
                    )

    def show_latest(self) -> dict[str, list[Map]]:
        """Log pictures of the last training batch; title -> the maps that they show."""
        space, shown = self.student().space, self.pictures()
        for title, (image, maps) in shown.items():
            self.picture(title, image, [(values, space) for values in maps])
        return {title: maps for title, (_, maps) in shown.items()}

    def picture(self, name: str, image: Image, maps: list[tuple[Map, DepthSpace]]) -> None:
        """The first image beside its maps, in every log that takes pictures."""
        loggers = [logger for logger in self.method.loggers if takes_pictures(logger)]
        if loggers and self.method.trainer.is_global_zero:
            picture = panel(image[0], [(values[0], space) for values, space in maps])
            log_picture(loggers, name, picture, self.method.global_step)
