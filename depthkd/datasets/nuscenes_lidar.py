"""nuScenes' LiDAR, drawn into the images of its cameras: `map_pointcloud_to_image` of the owners' devkit.

The tables of a version, such as v1.0-trainval/sample_data.json, are lists of records that name each other by
tokens. Of a gigabyte of them, what belongs to images and LiDAR of key frames is kept, in arrays.
"""

import json
import re
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from jaxtyping import Float64
from scipy.spatial.transform import Rotation

from depthkd.datasets.archive import Archive
from depthkd.datasets.encodings import measured
from depthkd.errors import UserError
from depthkd.formats.sample import BadSample
from depthkd.shapes import DepthArray, MaskArray

TABLE = re.compile(r"(?:.*/)?v1\.0-\w+/sample_data\.json")
RECORD = re.compile(rb"\{[^{}]*\}")  # no record of these tables holds another
SAMPLES = "samples/"  # where the tables' names of key frames begin
LIDAR = f"{SAMPLES}LIDAR_TOP/"
KEY_FRAMES = (f"{SAMPLES}CAM_", LIDAR)
NEAREST = 1.0  # m in front of the camera; the devkit leaves out what is nearer, such as the car's own parts
MARGIN = 1  # px of the image in which the devkit draws no points
NUMBERS = 5  # of a point: x, y, z, intensity, ring

Points = Float64[np.ndarray, "points 3"]
Sensor = tuple[list[float], Float64[np.ndarray, "3 3"] | None]
Frame = Float64[np.ndarray, " 7"]
"""Where a frame lies in another: its origin in meters, and its rotation as a quaternion w, x, y, z."""


@dataclass(frozen=True)
class Recordings:
    """Where the sensors of key frames were when each file was recorded. Files go by their paths from samples/
    on; folders before that do not matter.

    Attributes:
        pairs: image -> the LiDAR's file of the same key frame.
        rows: file -> its rows in `egos` and in `sensors`.
        egos: the car's frame in the world, at the time of a file.
        sensors: a sensor's frame in the car's.
        cameras: row in `sensors` -> the matrix of a camera, in pixels.
    """

    pairs: Mapping[str, str]
    rows: Mapping[str, tuple[int, int]]
    egos: Float64[np.ndarray, "files 7"]
    sensors: Float64[np.ndarray, "sensors 7"]
    cameras: Mapping[int, Float64[np.ndarray, "3 3"]]

    def lidar(self, image: str) -> str | None:
        """The LiDAR's file of an image's key frame, below the same folder; None: no table knows it."""
        head, _, tail = image.rpartition(SAMPLES)
        found = self.pairs.get(SAMPLES + tail)
        return None if found is None else head + found

    def camera(self, image: str) -> Float64[np.ndarray, "3 3"]:
        """The camera of an image.

        Raises:
            BadSample: the tables do not have it.
        """
        found = self.cameras.get(self._rows(image)[1])
        if found is None:
            raise BadSample(f"{image} has no camera_intrinsic in calibrated_sensor.json")
        return found

    def in_camera(self, points: Points, lidar: str, image: str) -> Points:
        """Points of a LiDAR's file in the frame of an image's camera: x to the right, y down, z forward.

        Both are recorded at slightly different times, between which the car has moved.

        Raises:
            BadSample: the tables do not have the files.
        """
        (ego, sensor), (camera_ego, camera) = self._rows(lidar), self._rows(image)
        world = _out_of(self.egos[ego], _out_of(self.sensors[sensor], points))
        return _into(self.sensors[camera], _into(self.egos[camera_ego], world))

    def _rows(self, file: str) -> tuple[int, int]:
        found = self.rows.get(SAMPLES + file.rpartition(SAMPLES)[2])
        if found is None:
            raise BadSample(f"{file} is no key frame in a table sample_data.json")
        return found


def read_recordings(archive: Archive, tables: list[str]) -> Recordings:
    """What the tables say of key frames.

    Args:
        archive: the root's files.
        tables: paths of sample_data.json, one for each version that the root holds.

    Raises:
        UserError: a table is broken or lacks what another one names.
        BadSample: a table cannot be read.
    """
    files: dict[str, dict[str, str]] = {}
    sensors: dict[str, Sensor] = {}
    egos: dict[str, list[float]] = {}
    for path in tables:
        folder = path.removesuffix("sample_data.json")
        found = _table(archive, path, _key_frame)
        wanted = {file["ego_pose_token"] for file in found.values()}
        files |= found
        sensors |= _table(archive, f"{folder}calibrated_sensor.json", _sensor)
        egos |= _table(archive, f"{folder}ego_pose.json", partial(_ego, wanted))
    places = {token: row for row, token in enumerate(sensors)}
    try:
        rows = {
            f["filename"]: (i, places[f["calibrated_sensor_token"]]) for i, f in enumerate(files.values())
        }
        frames = [egos[file["ego_pose_token"]] for file in files.values()]
    except KeyError as error:
        raise UserError(
            f"the tables beside {tables[0]} do not go together: none has the token {error}"
        ) from error
    scans = {f["sample_token"]: f["filename"] for f in files.values() if LIDAR in f["filename"]}
    return Recordings(
        {
            file["filename"]: scans[file["sample_token"]]
            for file in files.values()
            if LIDAR not in file["filename"] and file["sample_token"] in scans
        },
        rows,
        np.array(frames, np.float64).reshape(-1, 7),
        np.array([frame for frame, _ in sensors.values()], np.float64).reshape(-1, 7),
        {places[token]: matrix for token, (_, matrix) in sensors.items() if matrix is not None},
    )


def read_points(data: bytes, name: str) -> Points:
    """LIDAR_TOP/*.pcd.bin: float32 numbers, five a point, of which x, y and z are kept: meters in the LiDAR's
    frame. Points that are not finite are left out.

    Raises:
        BadSample: it has another number of bytes.
    """
    if not data or len(data) % (4 * NUMBERS):
        raise BadSample(f"{name} has {len(data)} bytes; points have {NUMBERS} numbers of 4 bytes each")
    points = np.frombuffer(data, "<f4").reshape(-1, NUMBERS)[:, :3].astype(np.float64)
    return points[np.isfinite(points).all(1)]


def drawn(
    points: Points, camera: Float64[np.ndarray, "3 3"], height: int, width: int
) -> tuple[DepthArray, MaskArray]:
    """Depth in an image of points in its camera's frame, as the devkit chooses them: more than 1 m in front
    of it, and more than 1 px from the image's edges. Of the points in a pixel the nearest counts.
    """
    x, y, z = (points[points[:, 2] > NEAREST] @ camera.T).T
    column, row = x / z, y / z
    inside = (column > MARGIN) & (column < width - MARGIN) & (row > MARGIN) & (row < height - MARGIN)
    depth = np.full((height, width), np.inf)
    pixels = np.rint(row[inside]).astype(int), np.rint(column[inside]).astype(int)
    np.minimum.at(depth, pixels, z[inside])
    return measured(depth)


def _table(archive: Archive, path: str, keep: Callable[[dict[str, Any]], Any]) -> dict[str, Any]:
    """Token -> what is kept of each record of a table; those of which None is kept are left out."""
    try:
        kept = ((record["token"], keep(record)) for record in _records(archive.read(path), path))
        return {token: value for token, value in kept if value is not None}
    except (ValueError, KeyError, TypeError, IndexError) as error:
        if isinstance(error, UserError):
            raise
        raise UserError(f"{path} is not a table of nuScenes: {error!r}") from error


def _records(data: bytes, path: str) -> Iterator[dict[str, Any]]:
    """The records of a table one by one: all at once, they would take several times the file's size."""
    if data[:100].lstrip()[:1] != b"[" or data[-100:].rstrip()[-1:] != b"]":
        raise UserError(f"{path} is no list of records, or is cut off")
    for match in RECORD.finditer(data):
        yield json.loads(match[0])


def _key_frame(record: dict[str, Any]) -> dict[str, str] | None:
    """Of a file: its path, and its tokens."""
    if not record["filename"].startswith(KEY_FRAMES):
        return None
    names = ("filename", "sample_token", "ego_pose_token", "calibrated_sensor_token")
    return {name: record[name] for name in names}


def _ego(wanted: Collection[str], record: dict[str, Any]) -> list[float] | None:
    """The car's frame in the world, if anything wanted was recorded from there."""
    return _frame(record) if record["token"] in wanted else None


def _sensor(record: dict[str, Any]) -> Sensor:
    """A sensor's frame in the car's, and the matrix of a camera."""
    matrix = record["camera_intrinsic"]
    return _frame(record), np.array(matrix, np.float64).reshape(3, 3) if matrix else None


def _frame(record: dict[str, Any]) -> list[float]:
    numbers = [float(number) for number in (*record["translation"], *record["rotation"])]
    if len(numbers) != 7 or not any(numbers[3:]):
        raise ValueError(f"translation and rotation of {record['token']} are {numbers}")
    return numbers


def _out_of(frame: Frame, points: Points) -> Points:
    """Points of a frame in the one that it lies in."""
    return np.asarray(Rotation.from_quat(frame[3:], scalar_first=True).apply(points) + frame[:3])


def _into(frame: Frame, points: Points) -> Points:
    """The reverse."""
    return np.asarray(
        Rotation.from_quat(frame[3:], scalar_first=True).apply(points - frame[:3], inverse=True)
    )
