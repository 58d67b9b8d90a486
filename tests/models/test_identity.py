"""`DepthModel.identity`: whatever changes answers changes it, and nothing else does."""

import copy
import inspect
import threading
from collections.abc import Callable, Iterator
from functools import cache, partial
from pathlib import Path
from typing import Any

import pytest
import torch

from depthkd import models
from depthkd.batch import METRIC_DEPTH
from depthkd.models.frozen import Frozen
from depthkd.models.latent_diffusion import diffusion, genpercept_dpt
from depthkd.models.model import DepthModel, DepthOutput
from depthkd.models.wrapper import Wrapper
from depthkd.runs.student import TrainedDepth
from tests.models.families import DEPTH_ANYTHING
from tests.models.graphs import mixer
from tests.models.smallest import ARGUMENTS, Instead, Level, run, smallest
from tests.models.stable_diffusion import marigold
from tests.models.test_metric import zoedepth
from tests.models.test_torch_hub import UNIDEPTH, clone, weights
from tests.processes import CONTEXT, identities

PUBLIC = {name: getattr(models, name) for name in models.__all__ if name not in ("DepthModel", "LatentDepth")}
NAMES = [name for name, kind in PUBLIC.items() if issubclass(kind, DepthModel)]
NAMES += ["TrainedDepth", "BestConstant", "VerticalRamp", "MeanMap"]


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, ARGUMENTS]]:
    with pytest.MonkeyPatch.context() as patch:
        for module in (diffusion, genpercept_dpt):  # each network is read from its files once
            for load in ("load_unet", "load_autoencoder"):
                patch.setattr(module, load, cache(getattr(module, load)))
        yield smallest(tmp_path_factory.mktemp("smallest"))


def build(kind: Callable[..., DepthModel], arguments: dict[str, Any]) -> DepthModel:
    torch.manual_seed(0)
    return kind(**arguments)


@pytest.mark.parametrize("name", NAMES)
def test_every_argument_of_every_model_counts(name: str, table: dict[str, ARGUMENTS]) -> None:
    """Alone, and through all that asks the model; the same model has the same identity twice."""
    assert name in table, "tests/models/smallest.py needs a model of every class"
    kind, arguments, others = table[name]
    parameters = inspect.signature(kind.__init__).parameters.items()  # of a class, Python 3.11.2 tells others
    named = {n for n, p in parameters if p.kind == p.POSITIONAL_OR_KEYWORD and n != "self"}
    assert named == set(others), "tests/models/smallest.py needs another value of every argument"
    found = {"": build(kind, arguments).identity()}
    assert build(kind, arguments).identity() == found[""]
    for argument, value in others.items():
        instead = value if isinstance(value, Instead) else Instead(value)
        changed = build(kind, {**arguments, argument: instead.value, **instead.others})
        found[argument] = changed.identity()
    assert len(set(found.values())) == len(found), found


@pytest.mark.parametrize("name", ["Level", "Metric3D", "OnnxDepth", "DepthAnything", "TrainedDepth"])
def test_a_change_is_seen_through_all_that_asks_the_model(name: str, table: dict[str, ARGUMENTS]) -> None:
    kind, arguments, others = table[name]
    model = build(kind, arguments)
    argument, value = list(others.items())[-1]
    asked = through(model)
    assert through(build(kind, arguments)) == asked
    assert not set(through(build(kind, {**arguments, argument: value})).values()) & set(asked.values())


def through(model: DepthModel) -> dict[str, str]:
    """The identities of models that ask this one."""
    asking: dict[str, Any] = {"wrapper": Wrapper(model), "frozen": Frozen(lambda: model)}
    if model.space == METRIC_DEPTH:
        asking["mask"] = models.UnsharpMask(model)
        asking["metric"] = models.AlignedDepth(Level(), model)
        torch.manual_seed(0)
        asking["sharp"] = models.SharpDepth(size="tiny", metric=lambda: model)
    else:
        asking["relative"] = models.AlignedDepth(model, Level())
    return {name: one.identity() for name, one in asking.items()}


def test_the_content_of_files_counts_behind_the_same_path(tmp_path: Path) -> None:
    """Of files that are read once, such as configurations, and of those that are run."""

    def replace(path: Path, old: str, new: str) -> None:
        text = path.read_text()
        assert old in text
        path.write_text(text.replace(old, new))

    zoe, source, graph = zoedepth(tmp_path / "zoe"), marigold(tmp_path / "m"), mixer(tmp_path / "g.onnx")
    repo, tensors, hf = clone(tmp_path / "repo", UNIDEPTH), weights(tmp_path), str(tmp_path / "hf")
    models.HuggingFaceDepth(config=DEPTH_ANYTHING).save_pretrained(hf)
    (tmp_path / "repo/settings.json").write_text('{"level": 3}')
    trained = run(tmp_path / "run", "DepthAnything", size="tiny")
    cases: list[tuple[Callable[[], DepthModel], Callable[[], object]]] = [
        (
            lambda: models.ZoeDepth(zoe),
            lambda: replace(Path(zoe) / "preprocessor_config.json", '"width": 128', '"width": 96'),
        ),
        (
            lambda: models.Marigold(source, text="zeros"),
            lambda: replace(Path(source) / "scheduler/scheduler_config.json", "trailing", "leading"),
        ),
        (
            lambda: models.SharpDepth(source, text="zeros"),
            lambda: replace(Path(source) / "scheduler/scheduler_config.json", "0.012", "0.013"),
        ),
        (
            lambda: models.HuggingFaceDepth(hf, preprocessing="transformers"),
            lambda: replace(Path(hf) / "preprocessor_config.json", '"height": 56', '"height": 70'),
        ),
        (lambda: models.OnnxDepth(graph), lambda: mixer(Path(graph), gain=2.0)),
        (lambda: models.UniDepth(repo, tensors), lambda: weights(tmp_path, 3.0)),
        (
            lambda: models.UniDepth(repo, tensors),
            lambda: replace(Path(repo) / "hubconf.py", "float()", "half()"),
        ),
        (lambda: models.UniDepth(repo, tensors), lambda: replace(Path(repo) / "settings.json", "3", "4")),
        (lambda: TrainedDepth(trained), lambda: run(Path(trained), "DepthAnything", seed=2, size="tiny")),
        (
            lambda: TrainedDepth(trained),
            lambda: replace(Path(trained) / "config.yaml", "tiny", "tiny\n        version: 1"),
        ),
    ]
    for make, change in cases:
        before = make().identity()
        assert make().identity() == before
        change()
        assert make().identity() != before


def test_what_is_changed_after_the_constructor_counts_too(tmp_path: Path) -> None:
    torch.manual_seed(0)
    student = models.FiffDepth(size="tiny")
    before, twin = student.identity(), copy.deepcopy(student)
    assert twin.identity() == before
    twin.step = -1
    assert twin.identity() != before
    twin.step = 0
    assert twin.identity() == before
    with torch.no_grad():
        next(twin.unet.parameters()).view(-1)[0] += 1
    assert twin.identity() != before
    labels = copy.deepcopy(student).eval().requires_grad_(False)
    labels.source, labels.license, labels.training_sets = "x", "mit", ("KITTI",)
    assert labels.identity() == before
    student.predict(torch.rand(1, 3, 16, 16))
    assert student.identity() == before
    graph = models.OnnxDepth(mixer(tmp_path / "g.onnx"), threads=1)
    before = graph.identity()
    graph.predict(torch.rand(2, 3, 8, 8))
    assert graph.identity() == before
    secret = Level()
    secret._factor = 2.0  # type: ignore[assignment]
    assert secret.identity() != Level().identity()


def test_a_teacher_s_precision_counts() -> None:
    def make() -> models.DepthAnything:
        torch.manual_seed(0)
        return models.DepthAnything(size="tiny")

    options: list[dict[str, Any]] = [{}, {"dtype": torch.bfloat16}, {"autocast": torch.bfloat16}]
    found = [Frozen(make, **how).identity() for how in options]
    assert len(set(found)) == 3
    assert Frozen(make).identity() == found[0]
    graph = [Frozen(Level, **how).identity() for how in options[:2]]  # which has no tensors
    assert len(set(graph)) == 2


def test_what_another_process_could_not_tell_is_never_the_same() -> None:
    """A function without a name; unless all that it builds is a companion, which has an identity."""
    assert models.SharpDepth(size="tiny", metric=Level).companions()[0].identity() == Level().identity()

    def sharp(metric: Callable[[], DepthModel]) -> str:
        torch.manual_seed(0)
        return models.SharpDepth(size="tiny", metric=metric).identity()

    assert sharp(lambda: Level(2.0)) == sharp(lambda: Level(2.0)) != sharp(lambda: Level(3.0))
    assert sharp(partial(Level, 2.0)) != sharp(partial(Level, 3.0))
    odd = Level()
    odd.change = lambda depth: depth + 1  # type: ignore[assignment]
    assert odd.identity() != odd.identity()
    handle = Level()
    handle.lock = threading.Lock()  # type: ignore[assignment]
    assert handle.identity() != handle.identity()

    def local(by: float | Callable[[], float]) -> str:
        class Local(Level):
            def forward(self, image: torch.Tensor) -> DepthOutput:
                assert Local is type(self)
                return DepthOutput(super().forward(image).depth * (by if isinstance(by, float) else by()))

        return Local().identity()

    assert local(2.0) == local(2.0) != local(3.0)
    assert local(lambda: 2.0) != local(lambda: 2.0)


def test_another_process_finds_the_same() -> None:
    """Also where Python orders its sets otherwise, from which diffusers makes lists."""
    with CONTEXT.Pool(1) as pool:
        assert pool.apply(identities) == identities()
