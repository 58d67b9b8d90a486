"""The formats of a prediction: which files each makes, and what is in them."""

import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, UInt32

from depthkd.batch import METRIC_DEPTH, DepthSpace
from depthkd.errors import UserError
from depthkd.formats.depth import Number
from depthkd.formats.depth_png import encode_depth_png, with_text
from depthkd.formats.exr import encode_exr
from depthkd.formats.glb import encode_glb
from depthkd.formats.images import RGB, encode_png
from depthkd.formats.ply import encode_ply
from depthkd.geometry import back_project
from depthkd.report.legend import picture_with_legend
from depthkd.report.pictures import colors, nearness
from depthkd.shapes import DepthArray
from depthkd.verbs.predict.cameras import Camera

MADE_BY = "depthkd predict"  # what our pictures say in their header
PER_METER = 5000  # of TUM RGB-D's depth
STEEPEST = 1.1  # of depths of neighbors: beyond that a mesh is torn


@dataclass
class Prediction:
    """One picture's depth, as formats are made of it.

    Attributes:
        image: RGB.
        depth: in `space`, at the image's size.
        space: what its numbers mean.
        camera: the picture's.
        farthest: meters beyond which a pixel is no point.
        source: where the picture is from.
        notes: what predict.json is to say of it besides.
    """

    image: RGB
    depth: DepthArray
    space: DepthSpace
    camera: Camera
    farthest: Number
    source: str
    notes: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Form:
    """A format: its files, by their names with {name}, or with {folder} and {leaf}, of the picture.

    Attributes:
        files: name -> what makes the bytes.
        metric: whether it needs metric depth.
        cloud: whether it places pixels in space.
    """

    files: dict[str, Callable[[Prediction], bytes]]
    metric: bool = False
    cloud: bool = False

    def names(self, name: str) -> list[str]:
        """The files of a picture of this name."""
        return [named(pattern, name) for pattern in self.files]


def named(pattern: str, name: str) -> str:
    """A file's name, of a picture's."""
    folder, slash, leaf = name.rpartition("/")
    return pattern.format(name=name, folder=folder + slash, leaf=leaf)


def npy(prediction: Prediction) -> bytes:
    """The array."""
    file = io.BytesIO()
    np.save(file, prediction.depth)
    return file.getvalue()


def npz(prediction: Prediction) -> bytes:
    """The array with what it means: depth, space, intrinsics (3x3) with their source, and the picture."""
    file, camera = io.BytesIO(), prediction.camera
    np.savez_compressed(
        file,
        depth=prediction.depth,
        space=np.array(str(prediction.space)),
        intrinsics=camera.matrix,
        intrinsics_from=np.array(camera.source),
        source=np.array(prediction.source),
    )
    return file.getvalue()


def png16(prediction: Prediction) -> bytes:
    """Codes of 16 bits, and in the file's text how they are read."""
    data, prediction.notes["depth"] = encode_depth_png(prediction.depth, prediction.space, MADE_BY)
    return data


def exr(prediction: Prediction) -> bytes:
    """The array, with its space as comment."""
    return encode_exr(prediction.depth, f"{prediction.space}, by {MADE_BY}")


def png(prediction: Prediction) -> bytes:
    """Colors with a legend."""
    return signed_png(picture_with_legend(prediction.depth, prediction.space))


def side(prediction: Prediction) -> bytes:
    """The picture and its depth in colors, side by side."""
    near = colors(nearness(prediction.depth, prediction.space))
    return signed_png(np.concatenate([prediction.image, near], axis=1))


def ply(prediction: Prediction) -> bytes:
    """A point cloud."""
    points, near = places(prediction)
    return encode_ply(points[near], prediction.image[near])


def glb(prediction: Prediction) -> bytes:
    """A point cloud as glTF."""
    points, near = places(prediction)
    return encode_glb(points[near], prediction.image[near])


def mesh(prediction: Prediction) -> bytes:
    """A surface as glTF, torn where depth jumps."""
    points, near = places(prediction)
    return encode_glb(points[near], prediction.image[near], triangles(prediction.depth, near))


def tum_depth(prediction: Prediction) -> bytes:
    """TUM RGB-D's depth: 5000 a meter, 0 where there is none, or more than 13.1 m."""
    depth = prediction.depth
    held = np.isfinite(depth) & (depth > 0) & (depth * PER_METER <= 65535)
    beyond = float(((depth > 0) & ~held).mean())
    if beyond:
        prediction.notes["beyond_tum"] = round(beyond, 6)
    codes = np.rint(np.where(held, depth, 0) * PER_METER).astype(np.uint16)
    return with_text(encode_png(codes), {"Software": MADE_BY})


def tum_image(prediction: Prediction) -> bytes:
    """TUM RGB-D's image."""
    return encode_png(prediction.image)


FORMS = {
    "npy": Form({"{name}.npy": npy}),
    "npz": Form({"{name}.npz": npz}),
    "png16": Form({"{name}.depth.png": png16}),
    "exr": Form({"{name}.exr": exr}),
    "png": Form({"{name}.color.png": png}),
    "side": Form({"{name}.png": side}),
    "ply": Form({"{name}.ply": ply}, metric=True, cloud=True),
    "glb": Form({"{name}.glb": glb}, metric=True, cloud=True),
    "mesh": Form({"{name}.mesh.glb": mesh}, metric=True, cloud=True),
    "tum": Form({"{folder}rgb/{leaf}.png": tum_image, "{folder}depth/{leaf}.png": tum_depth}, metric=True),
}
VIDEO = "video"  # of videos alone: one file for all frames
DEFAULT = ("npy", "side")


def chosen(formats: str | Sequence[str] | None, points: bool | None) -> list[str] | None:
    """The formats that a user names; None where that is left to us.

    Raises:
        UserError: there is no such format.
    """
    if formats is None:
        return None
    words = [formats] if isinstance(formats, str) else formats
    found = list(dict.fromkeys(word for some in words for word in some.replace(",", " ").split()))
    known = [*FORMS, VIDEO]
    for word in found:
        if word not in known:
            raise UserError(f"'{word}' is no format of predictions; it would be one of {', '.join(known)}")
    if not found:
        raise UserError(f"no format is named; it would be one of {', '.join(known)}")
    if points:
        found += ["ply"] if "ply" not in found else []
    elif points is False:
        found = [word for word in found if word == VIDEO or not FORMS[word].cloud]
    return found


def for_space(asked: list[str] | None, points: bool | None, space: DepthSpace) -> list[str]:
    """The formats for a model's space: by default arrays and pictures, and point clouds of metric depth.

    Raises:
        UserError: a format needs metric depth, and this is another.
    """
    metric = space == METRIC_DEPTH
    ours = [*DEFAULT, *(["ply"] if points or (metric and points is None) else [])]
    found = ours if asked is None else asked
    needing = [word for word in found if word != VIDEO and FORMS[word].metric]
    if needing and not metric:
        what = "a point cloud" if FORMS[needing[0]].cloud else f"the format {needing[0]}"
        raise UserError(
            f"only {METRIC_DEPTH} makes {what}, and this model gives {space}; with --align_to MODEL it gets "
            "the meters of a metric model"
        )
    return found


def places(prediction: Prediction) -> tuple[np.ndarray, Bool[np.ndarray, "height width"]]:
    """Where each pixel is, [height, width, 3] in meters, and which are nearer than `farthest`."""
    depth = torch.from_numpy(prediction.depth)
    matrix = torch.from_numpy(prediction.camera.matrix).float()
    points = back_project(depth, matrix).permute(1, 2, 0).numpy()
    near = np.isfinite(prediction.depth) & (prediction.depth > 0) & (prediction.depth < prediction.farthest)
    return points, near


def triangles(depth: DepthArray, near: Bool[np.ndarray, "height width"]) -> UInt32[np.ndarray, "triangles 3"]:
    """Two for each square of four neighbors, counterclockwise as the camera sees them, where the depth of
    no corner is more than 1.1 times another's; numbers count the pixels that are `near`."""
    numbers = np.cumsum(near).reshape(near.shape) - 1
    window = [
        (slice(a, a + len(depth) - 1), slice(b, b + depth.shape[1] - 1)) for a in (0, 1) for b in (0, 1)
    ]
    top_left, top_right, low_left, low_right = window
    found = []
    for corners in ((top_left, low_left, top_right), (top_right, low_left, low_right)):
        depths = np.stack([depth[place] for place in corners], -1)
        whole = np.logical_and.reduce([near[place] for place in corners])
        with np.errstate(all="ignore"):
            whole &= depths.max(-1) < STEEPEST * depths.min(-1)
        found.append(np.stack([numbers[place][whole] for place in corners], -1))
    return np.asarray(np.concatenate(found), np.uint32)


def signed_png(picture: RGB) -> bytes:
    """A picture that says in its header what it is, so that no later prediction takes it for a photograph."""
    return with_text(encode_png(picture), {"Software": MADE_BY})


def is_ours(head: bytes) -> bool:
    """Whether a PNG's first 256 bytes say that it is a prediction: their text stands before the pixels."""
    return f"Software\0{MADE_BY}".encode() in head
