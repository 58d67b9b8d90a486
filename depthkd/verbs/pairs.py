"""`depthkd pairs`: pairs of points on which models disagree, for annotators, and what they decide (DA-2K)."""

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Literal
from zlib import crc32

import numpy as np
import torch
from tqdm import tqdm

from depthkd.cluster.processors import use_processors
from depthkd.datasets.da2k import ANNOTATIONS, SCENARIOS
from depthkd.datasets.pair_decisions import merged, read_all
from depthkd.errors import MissingFileError, UserError
from depthkd.evaluation.pair_proposals import (
    KeyPoints,
    PairRules,
    Prediction,
    ProposedPair,
    grid_points,
    proposed_pairs,
)
from depthkd.evaluation.pairs_folder import IMAGES, PairsFolder
from depthkd.formats.images import IMAGE_SUFFIXES, RGB, decode_image
from depthkd.formats.sample import BadSample, Sample, content_digest, read_file
from depthkd.formats.whole_files import write_whole
from depthkd.models.inference import (
    Inference,
    WrongPredictionError,
    device_of,
    predict_sample,
    says_nothing,
)
from depthkd.models.model import DepthModel
from depthkd.paths import expand_paths, user_path
from depthkd.report.annotation_page import AnnotatedImage, annotation_page
from depthkd.resolution import Resolution
from depthkd.runs.named_models import as_options, named_model
from depthkd.verbs.configs import Command
from depthkd.verbs.options import leading, parsed

USAGE = """depthkd pairs [RUN|FILE.onnx|FOLDER|HUB_ID ...] --images IMAGE ... [options]
       depthkd pairs --decisions FILE ... --out FOLDER"""
DECISIONS = "--decisions"

Sampler = Callable[[RGB, np.random.Generator], KeyPoints]


@dataclass(frozen=True, kw_only=True)
class PairRequest(PairRules):
    """Propose pairs of points on which models disagree; write annotations.json, images and annotate.html.

    Args:
        models: name -> a run folder, one of its checkpoints, an .onnx file, a folder or hub id of
            transformers, or any DepthModel; two or more.
        images: files, folders or patterns such as 'photos/**'; an image's folder names its scenario.
        out: the folder for results.
        points: where key points are from: a "grid", a point drawn in each of its cells; or "sam", the points
            that prompt SAM's masks.
        side: of the grid, in cells, or in SAM's prompts.
        sam: hub id or folder of that SAM.
        resolution: the size at which models run: the shorter side in pixels; "longer 756", the longer side;
            "native", the image's own size. None: each model's own.
        scale: a further factor on that size.
        flip: average with the mirrored image's prediction.
        device: "auto" (a GPU where there is one), "cpu", "cuda" or "cuda:1".
        seed: of what is drawn; an image's pairs do not depend on the other images.
    """

    models: dict[str, str | DepthModel]
    images: str | list[str]
    out: Path = Path("runs/pairs")
    points: Literal["grid", "sam"] = "grid"
    side: int = 32
    sam: str = "facebook/sam-vit-huge"
    resolution: int | str | None = None
    scale: float = 1.0
    flip: bool = False
    device: str = "auto"
    seed: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        Resolution.parse(self.resolution).times(self.scale)  # raises what is wrong with them
        if self.side < 2:
            raise UserError(f"side would be 2 cells or more, not {self.side}")
        if self.seed < 0:
            raise UserError(f"seed would be 0 or more, not {self.seed}")

    @property
    def how(self) -> Inference:
        """How models are run."""
        return Inference(self.resolution, self.scale, self.flip, self.seed)

    @property
    def settings(self) -> dict[str, Any]:
        """All that the pairs of an image depend on, besides it and the models."""
        rules = {field.name: getattr(self, field.name) for field in fields(PairRules)}
        return {"points": self.points, "side": self.side, **rules, **asdict(self.how)}


def propose(request: PairRequest) -> list[str]:
    """Carry out a request; returns a sentence for each image that is left out.

    Raises:
        UserError, MissingFileError: one sentence on what does not fit.
    """
    folder, device = PairsFolder(user_path(request.out)), device_of(request.device)
    names = _names(request.images, folder.path)
    networks = {
        name: (named_model(model).load() if isinstance(model, str) else model).to(device).eval()
        for name, model in request.models.items()
    }
    request.check({name: network.space for name, network in networks.items()})
    for network in networks.values():
        use_processors(network, device)
    about = {
        name: {
            "identity": network.identity(),
            "source": network.source,
            "license": network.license,
            "space": str(network.space),
        }
        for name, network in networks.items()
    }
    left_out = list[str]()
    with folder.in_use:
        key_points, sam = _key_points(request, device)
        folder.claim({"models": about, "settings": request.settings | sam})
        progress = tqdm(names.items(), "pairs", unit="image", disable=None)
        for name, path in progress:
            try:
                data = read_file(path)
                digest = content_digest(data)
                if folder.done(name, digest):
                    continue
                image = decode_image(data, str(path))
                pairs = _pairs(request, networks, key_points, name, image)
            except (BadSample, WrongPredictionError) as error:
                left_out.append(str(error) if isinstance(error, BadSample) else f"{path}: {error}")
                progress.write(f"left out: {left_out[-1]}")
                continue
            size = {"height": int(image.shape[0]), "width": int(image.shape[1])}
            known = {"digest": digest, "source": str(path), **size}
            folder.save(name, data, {**known, "pairs": [_entry(pair) for pair in pairs]})
        _finish(folder, len(names) - len(left_out), len(names))
    return left_out


def _pairs(
    request: PairRequest,
    networks: Mapping[str, DepthModel],
    key_points: Sampler,
    name: str,
    image: RGB,
) -> list[ProposedPair]:
    """An image's pairs; all draws begin anew from the seed and its name.

    Raises:
        WrongPredictionError: a model does not answer with depth.
    """
    random = np.random.default_rng([request.seed, crc32(name.encode())])
    predictions, device = dict[str, Prediction](), device_of(request.device)
    for model, network in networks.items():
        depth = predict_sample(network, Sample(name, image), request.how, device)
        if nothing := says_nothing(depth):
            raise WrongPredictionError(f"the model '{model}' answers with {nothing}")
        predictions[model] = Prediction(depth[0].float().cpu(), network.space)
    return proposed_pairs(predictions, key_points(image, random), request, random)


def _key_points(request: PairRequest, device: torch.device) -> tuple[Sampler, dict[str, Any]]:
    """What draws an image's key points, and what is noted of the network in it."""
    if request.points == "grid":
        return lambda image, random: grid_points(image.shape[0], image.shape[1], request.side, random), {}
    from depthkd.models.sam import SamKeyPoints

    sam = SamKeyPoints(request.sam, device, request.side)
    return lambda image, random: sam(image), {"sam": {"source": sam.source, "identity": sam.identity}}


def _entry(pair: ProposedPair) -> dict[str, Any]:
    """A pair as annotations.json has it."""
    first, second = (list(point) for point in pair.points)
    said = {"votes": pair.votes, "ratios": pair.ratios, "ratio": pair.ratio}
    return {"point1": first, "point2": second, "closer_point": None, **said}


def _finish(folder: PairsFolder, done: int, asked: int) -> None:
    """Write annotations.json and the page, of all images that are done in the folder."""
    records = folder.records()
    folder.write_annotations({image: record["pairs"] for image, record in records.items()})
    images = [
        AnnotatedImage(
            image,
            _scenario(image),
            record["height"],
            record["width"],
            [{point: pair[point] for point in ("point1", "point2")} for pair in record["pairs"]],
        )
        for image, record in records.items()
    ]
    write_whole(folder.page, annotation_page(images, folder.tag()))
    counts = Counter(_scenario(image) for image, record in records.items() for _ in record["pairs"])
    print(f"{done} of {asked} images are done; {folder.path} has {counts.total()} pairs in {len(records)}")
    print("pairs by scenario: " + (", ".join(f"{s} {n}" for s, n in counts.items()) or "none"))
    if strange := [scenario for scenario in counts if scenario not in SCENARIOS]:
        print(f"not among DA-2K's scenarios ({', '.join(SCENARIOS)}): {', '.join(strange)}")
    print(f"annotate: open {folder.page} in a browser")


def _scenario(image: str) -> str:
    return Path(image).parent.name


def _names(images: str | list[str], out: Path) -> dict[str, Path]:
    """Scenario and file name -> each image, but for those that were copied below `out`.

    Raises:
        UserError: two images have one name.
    """
    names: dict[str, Path] = {}
    own = (out / IMAGES).resolve()
    for path in map(Path, expand_paths(images, IMAGE_SUFFIXES)):
        if path.resolve().is_relative_to(own):
            continue
        folder = path.parent.name
        scenario = path.parent.resolve().name if folder in ("", "..") else folder
        other = names.setdefault(f"{scenario or 'images'}/{path.name}", path)
        if other != path:
            raise UserError(f"{other} and {path} would both be {IMAGES}/{scenario}/{path.name}: rename one")
    if not names:
        raise UserError(f"{images} has no other images than those that `depthkd pairs` copied to {own}")
    return names


def decide(decisions: str | list[str], out: Path = Path("runs/pairs")) -> int:
    """Merge annotators' files into annotations.json; pairs that one of them skipped, or on which they
    disagree, are dropped.

    Args:
        decisions: one file an annotator, as annotate.html saves them.
        out: the folder in which the pairs were proposed.

    Returns:
        how many pairs are left to decide.

    Raises:
        UserError, MissingFileError: one sentence on what does not fit.
    """
    folder = PairsFolder(user_path(out))
    if not (folder.made_by.is_file() and folder.annotations.is_file()):
        raise MissingFileError(f"{folder.path} has no {ANNOTATIONS} of `depthkd pairs`; give its --out")
    with folder.in_use:
        proposed = {image: record["pairs"] for image, record in folder.records().items()}
        paths = [decisions] if isinstance(decisions, str) else decisions
        files = read_all([user_path(path) for path in paths], folder.tag(), proposed)
        result = merged(proposed, files)
        left = sum(len(pairs) for pairs in result.annotations.values()) - result.undecided
        if not left:
            raise UserError(f"no pair is decided by all of the files, so {folder.annotations} stays as it is")
        folder.write_annotations(result.annotations)
    for sentence in result.disagreed:
        print(f"dropped, for annotators disagree: {sentence}")
    annotators = "1 annotator" if len(files) == 1 else f"{len(files)} annotators"
    print(
        f"{annotators}: {left} pairs decided, {result.skipped} skipped, {len(result.disagreed)} in dispute, "
        f"{result.undecided} undecided: {folder.annotations}"
    )
    return result.undecided


def expand(arguments: list[str]) -> list[str]:
    """Models named by one word each (see `named_model`), as `--models`.

    Raises:
        MissingFileError: there is no such model.
    """
    config, named, options = leading(arguments)
    for word in named:
        named_model(word)
    # Before all others: jsonargparse puts no class into a mapping that is not there, and no path behind one.
    return ["--models={}", *config, *as_options(named), *options]


def main(command: Command) -> int:
    """Run `depthkd pairs`; returns the exit status: 1 if an image was left out, or a pair is undecided.

    Raises:
        UserError, MissingFileError: a user's mistake, as a sentence.
    """
    words = command.arguments
    if any(word.partition("=")[0] == DECISIONS for word in words):
        options = parsed("pairs", USAGE, decide, words, several=("decisions",))
        return int(decide(**options.as_dict()) > 0)
    options = parsed("pairs", USAGE, PairRequest, expand(words), several=("images",))
    return int(bool(propose(PairRequest(**options.as_dict()))))
