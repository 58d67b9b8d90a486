"""`depthkd predict`: depth of photographs as arrays, as pictures and, where it is metric, point clouds."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, UInt8
from PIL import Image
from PIL.PngImagePlugin import PngInfo
from tqdm import tqdm

from depthkd.batch import METRIC_DEPTH, DepthSpace
from depthkd.cluster.processors import use_processors
from depthkd.errors import UserError
from depthkd.formats.images import IMAGE_SUFFIXES, decode_image
from depthkd.formats.ply import encode_ply
from depthkd.formats.sample import BadSample, Sample, read_file
from depthkd.formats.whole_files import whole_file
from depthkd.geometry import back_project, focal_length, intrinsics_matrix
from depthkd.models.dpt.packaged_weights import EMBEDDED
from depthkd.models.inference import (
    Inference,
    WrongPredictionError,
    device_of,
    image_tensor,
    predict_sample,
    says_nothing,
)
from depthkd.models.model import DepthModel
from depthkd.parsing import numbers
from depthkd.paths import expand_paths, user_path
from depthkd.report.pictures import panel
from depthkd.resolution import Resolution, size_range
from depthkd.runs.named_models import named_model
from depthkd.shapes import OneMap
from depthkd.verbs.configs import Command
from depthkd.verbs.options import parsed

USAGE = "depthkd predict IMAGE ... [--model RUN|FILE.onnx|FOLDER|HUB_ID] [options]"
FIELD_OF_VIEW = 60.0  # degrees, of photographs whose camera nobody knows
MADE_BY = "depthkd predict"  # what our pictures say in their header


@dataclass(frozen=True)
class Predictions:
    """What `predict` wrote, a sentence for each image that it left out, and one for each without a
    prediction."""

    arrays: list[Path]
    left_out: list[str]
    empty: list[str]


def predict(
    images: str | list[str],
    model: str | DepthModel = EMBEDDED,
    out: Path = Path("runs/predict"),
    intrinsics: str | list[float] | None = None,
    fov: float | None = None,
    points: bool | None = None,
    farthest: float = 100.0,
    resolution: int | str | None = None,
    scale: float = 1.0,
    flip: bool = False,
    device: str = "auto",
    seed: int = 0,
) -> Predictions:
    """Predict depth; for photo.jpg, write photo.npy, photo.png and, of metric depth, photo.ply below `out`.

    The array holds what the model says, float32, at the image's size: meters, where its space is metric
    depth. The picture shows it beside the image, near things bright. The point cloud has each pixel
    where the camera sees it, with its color.

    Args:
        images: files, folders or patterns such as 'photos/*.jpg'.
        model: a run folder, one of its checkpoints, an .onnx file, a folder or hub id of transformers, or any
            DepthModel; "embedded" is the teacher that depthkd carries.
        out: the folder for results.
        intrinsics: fx,fy,cx,cy of the camera of all images in pixels, top-left pixel's center at (0, 0).
        fov: instead, their horizontal field of view in degrees.
        points: whether to write point clouds; by default where depth is metric. Without intrinsics or
            fov, a field of view of 60 degrees is assumed, and the model hears nothing of it.
        farthest: meters beyond which a pixel is no point.
        resolution: the size at which the model runs: the shorter side in pixels; "longer 756", the longer
            side; "native", the image's own size. None: a student's shorter side in training, where its run
            says that; a size of the model's own; or the image's.
        scale: a further factor on that size.
        flip: average with the mirrored image's depth.
        device: "auto" (a GPU where there is one), "cpu", "cuda" or "cuda:1".
        seed: of models that draw noise; every image's draws begin anew from it.

    Returns:
        The arrays' paths, what was left out, and which arrays say nothing.

    Raises:
        UserError, MissingFileError: one sentence on what does not fit.
        UserError: the model does not answer a single image with one map; of several, it is left out;
            or intrinsics or fov make no camera.
    """
    camera = _camera(intrinsics, fov)
    at = Resolution.parse(resolution).times(scale)
    out = user_path(out)
    paths = _photographs(images)
    targets = _targets(paths, out)
    place = device_of(device)
    network = _loaded(model)
    metric = network.space == METRIC_DEPTH
    if points and not metric:
        raise UserError(f"only {METRIC_DEPTH} makes a point cloud, and this model gives {network.space}")
    network = network.to(place).eval()
    use_processors(network, place)
    written: list[Path] = []
    sizes: list[tuple[int, int] | None] = []
    left_out, empty = list[str](), list[str]()
    how = Inference(resolution, scale, flip, seed)
    clouds = metric and points is not False
    for path, target in tqdm(targets, desc="predict", unit="image", disable=None):
        try:
            image = decode_image(read_file(path), str(path))
            height, width = image.shape[:2]
            known = intrinsics_of(camera, fov, height, width)
            matrix = None if known is None else known.double().numpy()
            depth = predict_sample(network, Sample(str(path), image, intrinsics=matrix), how, place)
        except (BadSample, WrongPredictionError) as error:
            sentence = str(error) if isinstance(error, BadSample) else f"{path}: {error}"
            if len(targets) == 1 and not isinstance(error, BadSample):
                raise UserError(sentence) from error
            left_out.append(sentence)
            print(f"left out: {sentence}")
            continue
        sizes.append(network.runs_at(height, width, at))
        if nothing := _nothing(depth, network.space):
            empty.append(f"{path}: the model answers with {nothing}")
            print(empty[-1])
        if known is None and clouds:
            known = intrinsics_of(None, FIELD_OF_VIEW, height, width)
        _write(target, depth[0], image, network.space, known if clouds else None, farthest)
        written.append(target.with_suffix(".npy"))
    if metric and points is not False and intrinsics is None and fov is None:
        print(f"point clouds assume a field of view of {FIELD_OF_VIEW:g} degrees: give --fov or --intrinsics")
    if sizes:
        sizes_text = size_range(sizes)
        print(f"run at {'a size of its own' if sizes_text == 'own' else f'{sizes_text} pixels'}")
    print(f"{len(written)} of {len(paths)} images, {network.space}: {out}")
    return Predictions(written, left_out, empty)


def _loaded(model: str | DepthModel) -> DepthModel:
    """The model of a word; of the embedded teacher it is said, for nobody may have asked for it."""
    if not isinstance(model, str):
        return model
    network = named_model(model).load()
    if model == EMBEDDED:
        print(
            f"model: {network.source}, which has learned from synthetic scenes alone; --model takes another"
        )
    return network


def _camera(intrinsics: str | list[float] | None, fov: float | None) -> list[float] | None:
    """fx, fy, cx and cy, where they are given.

    Raises:
        UserError: they, or the field of view, cannot be.
    """
    camera = None if intrinsics is None else numbers(intrinsics, "intrinsics")
    if camera is not None and (len(camera) != 4 or not min(camera[:2]) > 0 or not np.isfinite(camera).all()):
        raise UserError(f"intrinsics {camera} would be [fx, fy, cx, cy] in pixels, fx and fy above 0")
    if fov is not None and (intrinsics is not None or not 0.0 < fov < 180.0):
        raise UserError(f"fov would be degrees between 0 and 180, and not beside intrinsics; it is {fov}")
    return camera


def _nothing(depth: OneMap, space: DepthSpace) -> str | None:
    """What a prediction consists of, where that is not depth."""
    nothing = says_nothing(depth, space)
    none = nothing is None and space == METRIC_DEPTH and not bool((depth > 0).any())
    return "no depth above 0 m" if none else nothing


def _write(
    target: Path,
    depth: Float[torch.Tensor, "height width"],
    image: UInt8[np.ndarray, "height width 3"],
    space: DepthSpace,
    camera: Float[torch.Tensor, "3 3"] | None,
    farthest: float,
) -> None:
    """One image's array and picture; and its point cloud, where there is a camera for it."""
    with whole_file(target.with_suffix(".npy"), sync=False) as file:
        np.save(file, depth.cpu().numpy())
    with whole_file(target.with_suffix(".png"), sync=False) as file:
        pixels = image_tensor(image, depth.device)[0]
        picture = Image.fromarray(panel(pixels, [(depth, space)]))
        picture.save(file, format="PNG", pnginfo=_signature())
    if camera is not None:
        with whole_file(target.with_suffix(".ply"), sync=False) as file:
            file.write(point_cloud(depth.cpu(), image, camera, farthest))


def intrinsics_of(
    camera: list[float] | None, fov: float | None, height: int, width: int
) -> Float[torch.Tensor, "3 3"] | None:
    """The camera of an image, by its intrinsics or its horizontal field of view; None if neither is known."""
    if camera is not None:
        return intrinsics_matrix(*camera)
    if fov is None:
        return None
    focal = focal_length(width, fov)
    return intrinsics_matrix(focal, focal, (width - 1) / 2, (height - 1) / 2)


def point_cloud(
    depth: Float[torch.Tensor, "height width"],
    image: UInt8[np.ndarray, "height width 3"],
    camera: Float[torch.Tensor, "3 3"],
    farthest: float,
) -> bytes:
    """A PLY file with every pixel that is nearer than `farthest`."""
    places = back_project(depth, camera.to(depth.dtype)).permute(1, 2, 0)
    near = (torch.isfinite(depth) & (depth > 0) & (depth < farthest)).numpy()
    return encode_ply(places.numpy()[near].astype(np.float32), image[near])


def _photographs(images: str | list[str]) -> list[Path]:
    """The images that patterns stand for, but for pictures that `predict` made among them."""
    paths = [Path(path) for path in expand_paths(images, IMAGE_SUFFIXES)]
    photographs = [path for path in paths if not _is_ours(path)]
    if not photographs:
        raise UserError(f"{images} has no photographs, only pictures that `{MADE_BY}` made")
    if len(photographs) < len(paths):
        print(f"left alone: {len(paths) - len(photographs)} pictures of an earlier prediction")
    return photographs


def _signature() -> PngInfo:
    info = PngInfo()
    info.add_text("Software", MADE_BY)
    return info


def _is_ours(path: Path) -> bool:
    """Whether a picture's header says that it is a prediction: its text stands before the pixels."""
    if path.suffix.lower() != ".png" or not path.is_file():
        return False
    with path.open("rb") as file:
        return f"Software\0{MADE_BY}".encode() in file.read(256)


def _targets(paths: list[Path], out: Path) -> list[tuple[Path, Path]]:
    """Each image with its results' path less the suffix; names that are not unique keep their folders."""
    names = [path.stem for path in paths]
    if len(set(names)) < len(names):
        names = ["-".join([*path.parent.parts, path.stem]).strip("/-") for path in paths]
    if len(set(names)) < len(names):
        repeated = next(name for name in names if names.count(name) > 1)
        raise UserError(f"two images would both be called '{repeated}' below {out}; predict one at a time")
    images = {path.resolve() for path in paths}
    targets = [out / f"{name}.npy" for name in names]
    for target in targets:
        if (picture := target.with_suffix(".png")).resolve() in images:
            raise UserError(f"{picture} is one of the images, and would be overwritten: choose another --out")
    return list(zip(paths, targets, strict=True))


def main(command: Command) -> int:
    """Run `depthkd predict`; returns the exit status: 1 if an image was left out, or the model says nothing
    of one.

    Raises:
        UserError, MissingFileError: a user's mistake, as a sentence.
    """
    options = parsed("predict", USAGE, predict, command.arguments, "images")
    made = predict(**options.as_dict())
    return 1 if made.left_out or made.empty else 0
