"""The rows of the tables: the models that are tested, and those that give their metrics a meaning."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from depthkd.benchmarks.labelled_shards import ShardBenchmark
from depthkd.benchmarks.trivial import BestConstant, MeanMap, VerticalRamp, mean_disparity_map, spread
from depthkd.evaluation.honest_rows import of_points
from depthkd.models.model import DepthModel
from depthkd.paths import user_path
from depthkd.runs.named_models import named_model
from depthkd.runs.student import load_student

MEAN_MAP_SAMPLES = 500


def given_truth(name: str) -> str:
    """The name of the row of the truth, passed through the autoencoder of the model of that name."""
    return f"{name}, given the truth"


@dataclass(frozen=True)
class Row:
    """A row: a model that is loaded when its turn comes.

    Args:
        name: the row's.
        load: builds the model.
        trivial: not in pictures, and left out where a protocol does not suit it.
        run: the run folder or checkpoint that it is from.
        completes: only for benchmarks of depth completion.
    """

    name: str
    load: Callable[[], DepthModel]
    trivial: bool = False
    run: Path | None = None
    completes: bool = False


def rows(
    models: dict[str, str | DepthModel],
    mean_map: str | list[str] | None,
    untrained: bool,
    completion: bool = False,
) -> Iterator[Row]:
    """All rows, the models first.

    Of benchmarks of depth completion each model also has the rows `honest_rows.of_model`, which are made when
    it is loaded.

    Args:
        models: name -> a model, or what `named_model` reads.
        mean_map: labelled training shards, whose mean disparity map becomes a row.
        untrained: whether each run also gets a row for its student before training.
        completion: whether there is a benchmark of depth completion.
    """
    for name, model in models.items():
        if isinstance(model, DepthModel):
            yield Row(name, partial(_itself, model))
            continue
        named = named_model(model)
        if named.run is None:
            yield Row(name, named.load)
            continue
        yield Row(name, named.load, run=user_path(model))
        if untrained:
            fresh = partial(load_student, named.run.checkpoint, fresh=True)
            yield Row(f"{name}, untrained", fresh, trivial=True)
    yield Row("best constant per image", BestConstant, trivial=True)
    yield Row("vertical ramp", VerticalRamp, trivial=True)
    if mean_map is not None:
        yield Row("mean training map", partial(_mean_map, mean_map), trivial=True)
    for name, build in (of_points() if completion else {}).items():
        yield Row(name, build, trivial=True, completes=True)


def _mean_map(urls: str | list[str]) -> DepthModel:
    shards = ShardBenchmark(urls, name="mean_map", min_depth=None, max_depth=None)
    return MeanMap(mean_disparity_map(spread(shards, MEAN_MAP_SAMPLES)))


def _itself(model: DepthModel) -> DepthModel:
    return model
