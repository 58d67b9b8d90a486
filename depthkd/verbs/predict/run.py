"""`depthkd predict`: depth of photographs, shards and videos, in the formats that are asked for."""

from pathlib import Path

from depthkd.cluster.processors import use_processors
from depthkd.errors import UserError
from depthkd.formats.depth import Number
from depthkd.models.completion.points import given_none
from depthkd.models.dpt.packaged_weights import EMBEDDED
from depthkd.models.inference import Inference, device_of
from depthkd.models.model import DepthModel
from depthkd.models.tiles import TiledDepth
from depthkd.paths import user_path
from depthkd.resolution import Resolution
from depthkd.verbs.predict.cameras import Cameras
from depthkd.verbs.predict.forms import FORMS, VIDEO, chosen, for_space
from depthkd.verbs.predict.making import Maker, Predictions
from depthkd.verbs.predict.measured import Pair
from depthkd.verbs.predict.network import Predictor, build
from depthkd.verbs.predict.pictures import find_sources
from depthkd.verbs.predict.record import Record
from depthkd.verbs.predict.smoothing import Smoother
from depthkd.verbs.predict.video import Sampling


def predict(
    images: str | list[str],
    model: str | DepthModel = EMBEDDED,
    out: Path = Path("runs/predict"),
    intrinsics: str | list[float] | None = None,
    fov: Number | None = None,
    points: bool | None = None,
    farthest: Number = 100.0,
    resolution: int | str | None = None,
    scale: Number = 1.0,
    flip: bool = False,
    device: str = "auto",
    seed: int = 0,
    formats: str | list[str] | None = None,
    batch_size: int = 1,
    overwrite: bool = False,
    tiles: int | str | None = None,
    align_to: str | DepthModel | None = None,
    preprocessing: str | None = None,
    every: int | None = None,
    fps: Number | None = None,
    smooth: Number | None = None,
    sparse: str | list[str] | None = None,
    sparse_scale: Number = 1.0,
    pair: Pair = "name",
) -> Predictions:
    """Predict depth; for photo.jpg, write photo.npy, photo.png and, of metric depth, photo.ply below `out`.

    The array holds what the model says, float32, at the image's size: meters, where its space is metric
    depth. The picture shows it beside the image, near things bright. The point cloud has each pixel
    where the camera sees it, with its color. Of a video, a video with depth beside it is written. `formats`
    chooses others. What is there already is kept: after an interruption, the same command goes on.

    Args:
        images: files, folders or patterns such as 'photos/*.jpg', of photographs, of videos (mp4, mov, avi,
            mkv, webm) or of tar shards. A folder stands for the photographs in it, or in its subfolders.
        model: a run folder, one of its checkpoints, an .onnx file, a folder or hub id of transformers, or any
            DepthModel; "embedded" is the teacher that depthkd carries.
        out: the folder for results.
        intrinsics: fx,fy,cx,cy of the camera of all images in pixels, top-left pixel's center at (0, 0).
        fov: instead, their horizontal field of view in degrees.
        points: whether to write point clouds; by default where depth is metric. Without intrinsics or
            fov, the focal length is that of the image's EXIF block; where it has none, a field of view
            of 60 degrees is assumed, and the model hears nothing of it.
        farthest: meters beyond which a pixel is no point.
        resolution: the size at which the model runs: the shorter side in pixels; "longer 756", the longer
            side; "native", the image's own size. None: a student's shorter side in training, where its run
            says that; a size of the model's own; or the image's.
        scale: a further factor on that size.
        flip: average with the mirrored image's depth.
        device: "auto" (a GPU where there is one), "cpu", "cuda" or "cuda:1".
        seed: of models that draw noise; every image's draws begin anew from it.
        formats: npy, npz, png16, exr (arrays), png (colors with a legend), side (image and depth side by
            side), ply, glb, mesh (metric depth in space), tum (TUM RGB-D's layout), video; see
            docs/predict.md. None: npy, side, and ply of metric depth; of a video, video.
        batch_size: how many images of one size run together.
        overwrite: make anew what is there already, with other settings too.
        tiles: how many tiles along each side of an image are predicted one by one, or a tile's side in
            pixels, such as "1024 px", for more detail of very large images.
        align_to: a metric model, to which each image's depth is fitted by scale and shift.
        preprocessing: whose way of resizing images: depthkd, authors or transformers, of models that have it.
        every: of a video, every n-th frame.
        fps: of a video, instead, so many frames a second.
        smooth: of a video, bring the frames to one scale; the share of the past in the mean that they are
            fitted to, such as 0.9.
        sparse: of photographs, files of measured depth (.png, .npy), for models that complete it: of the
            photograph's size, 0 where nothing was measured.
        sparse_scale: meters for a number in them, such as 0.001 for millimeters.
        pair: whether they belong to photographs by "name", or in their "order".

    Returns:
        the files, what was left out, and which predictions say nothing.

    Raises:
        UserError, MissingFileError: one sentence on what does not fit.
        UserError: the model does not answer a single image with one map; of several, it is left out;
            or intrinsics or fov make no camera.
    """
    cameras = Cameras.parse(intrinsics, fov)
    at = Resolution.parse(resolution).times(float(scale))
    if batch_size < 1:
        raise UserError(f"batch_size counts images and would be 1 or more, not {batch_size}")
    folder, asked = user_path(out), chosen(formats, points)
    sources, bad = find_sources(images, folder, Sampling(every, fps), sparse, sparse_scale, pair)
    place = device_of(device)
    network = build(model, preprocessing, tiles, align_to)
    _check_sparse(network, sparse is not None, sparse_scale != 1.0 or pair != "name")
    forms = for_space(asked, points, network.space)
    if smooth is not None:
        Smoother(network.space, smooth)
    network = network.to(place).eval()
    use_processors(network, place)
    settings = {
        **_known(network),
        "resolution": str(at),
        "scale": scale,
        "flip": flip,
        "seed": seed,
        "smooth": smooth,
        "sparse": None if sparse is None else "FILES",
        "sparse_scale": None if sparse is None else sparse_scale,
        "intrinsics": cameras.intrinsics,
        "fov": fov,
        "farthest": farthest if any(word != VIDEO and FORMS[word].cloud for word in forms) else None,
    }
    made = Predictions(left_out=bad)
    predictor = Predictor(network, Inference(resolution, float(scale), flip, seed), place)
    record = Record(folder, settings, overwrite)
    maker = Maker(predictor, record, cameras, asked, forms, batch_size, farthest, smooth, at, made)
    maker(sources)
    return made


def _check_sparse(network: DepthModel, given: bool, described: bool) -> None:
    """Refuse measured depth that is of no use, or missing.

    Args:
        network: which predicts.
        given: whether there is measured depth.
        described: whether options say something of it.
    """
    if given and not network.takes_sparse_depth:
        tiled = isinstance(network, TiledDepth) and network.network.takes_sparse_depth
        other = "--tiles" if tiled else "--sparse"
        raise UserError(f"{network.source} takes no measured depth beside images: leave out {other}")
    if not given and network.needs_sparse_depth:
        raise given_none(network.unwrapped())
    if not given and described:
        raise UserError("sparse_scale and pair say how files of --sparse are read, and none are given")


def _known(network: DepthModel) -> dict[str, object]:
    """What tells a network's predictions from another's."""
    return {
        "model": network.source,
        "identity": network.identity(),
        "space": str(network.space),
        "preprocessing": network.preprocessing,
    }
