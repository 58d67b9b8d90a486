"""What a page's scripts read: depth in 16 bits, a smaller camera, data that cannot end a script."""

import base64
import json
import re

import numpy as np

from depthkd.batch import AFFINE_DISPARITY, METRIC_DEPTH
from depthkd.report.interactive import FARTHEST, cloud, cloud_data, comparison
from depthkd.report.pictures import SheetRow

CAMERA = np.array([[400.0, 0, 319.5], [0, 400.0, 239.5], [0, 0, 1]])


def decoded(source: dict[str, object]) -> np.ndarray:
    """Depth as cloud.js decodes it, and NaN where it draws no point."""
    codes = np.frombuffer(base64.b64decode(str(source["depth"])), "<u2").astype(np.float64)
    near, far = float(str(source["near"])), float(str(source["far"]))
    return np.where(codes > 0, near + (codes - 1) / 65534 * (far - near), np.nan)


def test_depth_survives_and_what_is_no_depth_is_no_point() -> None:
    rng = np.random.default_rng(0)
    depth = rng.uniform(1.0, 3.0, (120, 160)).astype(np.float32)
    depth[0, :4] = np.nan, np.inf, -1.0, 0.0
    depth[1, 0] = FARTHEST * 2.1
    image = np.zeros((120, 160, 3), np.uint8)
    data = cloud_data(image, {"a": depth}, CAMERA, side=160)
    assert (data["width"], data["height"]) == (160, 120)
    found = decoded(data["sources"][0]).reshape(120, 160)
    assert np.isnan(found[0, :4]).all() and np.isnan(found[1, 0])
    known = np.isfinite(found)
    assert known.sum() == depth.size - 5
    assert np.abs(found - depth)[known].max() < 2e-5 * 3


def test_a_smaller_image_has_a_smaller_camera_and_every_map_its_size() -> None:
    image = np.zeros((480, 640, 3), np.uint8)
    depth = np.tile(np.linspace(1, 2, 480, dtype=np.float32)[:, None], (1, 640))
    data = cloud_data(image, {"a": depth, "none": np.full_like(depth, np.nan)}, CAMERA)
    assert (data["width"], data["height"]) == (320, 240) and data["focal"] == [200.0, 200.0]
    assert data["center"] == [159.5, 119.5]
    assert len(decoded(data["sources"][0])) == 320 * 240
    assert np.isnan(decoded(data["sources"][1])).all()


def test_a_row_without_truth_and_one_without_a_model_are_compared_too() -> None:
    image = np.zeros((30, 40, 3), np.uint8)
    depth = np.tile(np.linspace(1, 2, 30, dtype=np.float32)[:, None], (1, 40))
    whole = SheetRow("</script><b>", image, depth, {"m": depth}, {"m": METRIC_DEPTH}, {"m": "AbsRel 0.1"})
    photo = SheetRow("photo", image, None, {"n": depth}, {"n": AFFINE_DISPARITY})
    page = comparison([whole, photo])
    data = [json.loads(text) for text in re.findall(r"json\">(.*?)</script>", page)]
    assert [[p["name"] for p in pictures] for pictures in data] == [["image", "truth", "m"], ["image", "n"]]
    options = re.findall(r'<option value="([^"]+)"( selected)?', page)
    assert [name for name, _ in options] == ["image", "truth", "m", "n"] * 2
    assert [name for name, chosen in options if chosen] == ["image", "m"]
    assert "</script><b>" not in page and "m: AbsRel 0.1" in page
    shown = cloud("x", cloud_data(image, {"</script>": depth}, CAMERA), ["</script>"])
    assert shown.count("</script>") == 1 and "\\u003c/script>" in shown
