"""`depthkd demo`: its page in Chromium, and what it answers to files of any kind."""

import io
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from depthkd.batch import AFFINE_DEPTH, AFFINE_DISPARITY, METRIC_DEPTH, SCALE_DISPARITY, DepthSpace
from depthkd.errors import UserError
from depthkd.models import InterpolatedPoints
from depthkd.models.inference import WrongPredictionError
from depthkd.models.model import DepthOutput
from depthkd.verbs import demo as module
from depthkd.verbs.demo import (
    LARGEST,
    RATIO,
    Answers,
    application,
    demo,
    distances,
    is_local,
    listening,
    server_of,
)
from tests.models.smallest import Level
from tests.report.conftest import Opened, axe, broken_images, scrolls_sideways


class Ramp(Level):
    """Depth that grows to the right."""

    space = AFFINE_DISPARITY

    def forward(self, image: Tensor) -> DepthOutput:
        width = image.shape[-1]
        return DepthOutput(
            torch.linspace(3, 1, width).expand(len(image), image.shape[-2], width).contiguous()
        )


def photograph(height: int = 60, width: int = 90) -> bytes:
    image = np.random.default_rng(0).integers(0, 255, (height, width, 3), dtype=np.uint8)
    return bytes(cv2.imencode(".jpg", image)[1])


@pytest.fixture
def page(opened: Opened) -> Iterator[Any]:
    pytest.importorskip("starlette", reason="starlette is not installed")
    pytest.importorskip("uvicorn", reason="uvicorn is not installed")
    with listening("127.0.0.1", 0) as heard:
        server = server_of(application(Answers(Ramp(), torch.device("cpu")), "A ramp.", ["127.0.0.1"]))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [heard]})
        thread.start()
        url = f"http://127.0.0.1:{heard.getsockname()[1]}/"
        yield opened(url, 360, allowed=url)
        server.should_exit = True
        thread.join(20)
        assert not thread.is_alive()


def test_a_photograph_becomes_depth_and_points_and_another_file_a_sentence(page: Any) -> None:
    assert "A ramp." in page.content() and not page.locator("#result").is_visible()
    page.get_by_role("button", name="coffee").click()
    page.locator("#result").wait_for(state="visible")
    page.get_by_text("coffee: 600 x 400 pixels, affine disparity.").wait_for()
    assert "leaves open how much farther" in page.locator("#meaning").inner_text()
    assert not scrolls_sideways(page) and not broken_images(page)
    assert not axe(page)
    pixels = "document.querySelector('canvas').toDataURL()"
    before = page.evaluate(pixels)
    page.locator("canvas").focus()
    page.keyboard.press("ArrowLeft")
    page.wait_for_timeout(150)
    assert page.evaluate(pixels) != before
    page.locator("input[type=range]").focus()
    page.keyboard.press("ArrowRight")
    assert page.locator("input[type=range]").input_value() == "51"
    for name, data, said in (
        ("notes.txt", b"hello", "It cannot be used: this file is not a JPEG, PNG or WebP image."),
        ("mine.jpg", photograph(), "mine.jpg: 90 x 60 pixels, affine disparity."),
        ("cut.jpg", photograph()[:300], "It cannot be used: this file"),
    ):
        file = {"name": name, "mimeType": "application/octet-stream", "buffer": data}
        page.set_input_files("#file", files=[file])
        page.get_by_text(said).wait_for()
        assert page.locator("#result").is_visible() is (name == "mine.jpg")


def test_what_cannot_be_shown_is_a_sentence_and_a_fault_stays_one() -> None:
    answers = Answers(Level(2.0), torch.device("cpu"))
    assert answers.answer(b"")["error"].endswith("is not a JPEG, PNG or WebP image, but empty.")
    assert "its prediction is 2 everywhere" in answers.answer(photograph())["error"]
    ramp = Answers(Ramp(), torch.device("cpu"), fov=90.0)
    found = ramp.answer(photograph(20, 2 * LARGEST))
    assert found["said"] == f"{LARGEST} x 10 pixels, affine disparity." and "assumed" not in found["meaning"]

    class Mute(Ramp):
        def infer(self, *arguments: Any, **options: Any) -> Tensor:
            raise self.error

    mute = Mute()
    for mute.error, says in ((UserError("not so"), "not so"), (WrongPredictionError("none"), "none")):
        assert says in Answers(mute, torch.device("cpu")).answer(photograph())["error"]
    mute.error = KeyError("a fault")
    with pytest.raises(KeyError):
        Answers(mute, torch.device("cpu")).answer(photograph())


def test_the_camera_is_the_one_that_predict_takes(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []
    monkeypatch.setattr(module, "cloud_data", lambda image, depths, camera: seen.append(camera[0, 0]))
    exif = Image.Exif()
    exif.get_ifd(0x8769)[0xA405] = 43  # mm of a full frame
    file = io.BytesIO()
    Image.fromarray(np.full((2000, 1000, 3), 90, np.uint8)).save(file, "jpeg", exif=exif)

    class Estimating(Ramp):
        def estimated_cameras(self, image: Tensor) -> Tensor:
            return torch.eye(3)[None] * 7

    for model, data, fov, said in (
        (Ramp(), file.getvalue(), None, "the camera is from EXIF."),
        (Ramp(), file.getvalue(), 90.0, "the camera is as given."),
        (Estimating(), photograph(), None, "the camera is estimated by the model."),
        (Ramp(), photograph(), None, "a field of view of 60 degrees is assumed."),
    ):
        assert Answers(model, torch.device("cpu"), fov).answer(data)["meaning"].endswith(said)
    diagonal = np.hypot(LARGEST, LARGEST / 2)
    assert seen == pytest.approx([43 * diagonal / np.hypot(36, 24), LARGEST / 4, 7, 45 / np.tan(np.pi / 6)])


@pytest.mark.parametrize("space", [METRIC_DEPTH, SCALE_DISPARITY, AFFINE_DISPARITY, AFFINE_DEPTH])
def test_what_is_nearer_is_drawn_nearer(space: DepthSpace) -> None:
    truth = np.linspace(1.0, 3.0, 50, dtype=np.float32).reshape(5, 10)
    prediction = truth if space.quantity.value == "depth" else 1 / truth
    if not space.invertible:
        prediction = 5 * prediction - 7
    found, said = distances(prediction, space)
    assert (np.diff(found.ravel()) >= 0).all() and found.ravel()[-1] > 2.5 * found.ravel()[0]
    if space.invertible:
        assert np.allclose(found, truth, rtol=1e-5)
    else:
        assert found.max() / found.min() == pytest.approx(RATIO) and "leaves open" in said
    assert np.isnan(distances(np.array([[-1.0, 0.0, 2.0]], np.float32), METRIC_DEPTH)[0][0, :2]).all()


def test_a_busy_port_and_other_mistakes_are_sentences(monkeypatch: pytest.MonkeyPatch) -> None:
    with listening("127.0.0.1", 0) as heard:
        port = heard.getsockname()[1]
        with pytest.raises(UserError, match=f"port {port} of 127.0.0.1 is in use: give another"):
            listening("127.0.0.1", port)
    with pytest.raises(UserError, match="port would be a number from 0 to 65535, not 70000"):
        listening("127.0.0.1", 70000)
    with pytest.raises(UserError, match=r"nothing can listen at port 0 of 203\.0\.113\.7: "):
        listening("203.0.113.7", 0)
    with pytest.raises(UserError, match="completes sparse depth, which a photograph alone does not bring"):
        demo(InterpolatedPoints("nearest"), port=0)
    with pytest.raises(UserError, match="fov would be degrees"):
        demo(fov=180.0)
    assert [is_local(h) for h in ("127.0.0.1", "localhost", "::1", "0.0.0.0", "example")] == [True] * 3 + [
        False
    ] * 2
    monkeypatch.setitem(sys.modules, "starlette", None)
    with pytest.raises(UserError, match=r"pip install 'depthkd\[demo\]'"):
        demo()


@pytest.mark.long
def test_ctrl_c_ends_it_cleanly(tmp_path: Path) -> None:
    pytest.importorskip("starlette", reason="starlette is not installed")
    code = "from depthkd.cli import console; console()"
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = str(free.getsockname()[1])
    pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    words = [sys.executable, "-c", code, "demo", "--port", port]
    started = subprocess.Popen(words, cwd=tmp_path, env=dict(os.environ), **pipes)
    assert started.stdout is not None
    for line in started.stdout:
        if "Ctrl-C" in line:
            break
    time.sleep(1)
    started.send_signal(signal.SIGINT)
    out, wrong = started.communicate(timeout=30)
    assert started.returncode == 0 and out.strip() == "ended" and not wrong
