"""`depthkd predict` of videos: frames, rates, what is written, and depth that stands still."""

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from depthkd.batch import AFFINE_DISPARITY, METRIC_DEPTH, SCALE_DISPARITY, DepthSpace
from depthkd.errors import UserError
from depthkd.formats.sample import BadSample
from depthkd.models.model import DepthOutput
from depthkd.verbs.predict import Predictions, predict
from depthkd.verbs.predict.smoothing import Smoother
from depthkd.verbs.predict.video import Sampling, Video
from tests.test_predict_files import Bright, names


def video(path: Path, frames: int = 12, rate: float = 24.0) -> Path:
    """Stripes that move to the right."""
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), rate, (48, 32))
    for i in range(frames):
        row = 40 + 20 * np.sin((np.arange(48) - i) / 4)
        writer.write(np.broadcast_to(row[None, :, None], (32, 48, 3)).astype(np.uint8) * 2)
    writer.release()
    return path


def facts(path: Path) -> tuple[float, int, tuple[float, float]]:
    file = cv2.VideoCapture(str(path))
    found = [
        file.get(name) for name in (cv2.CAP_PROP_FPS, cv2.CAP_PROP_FRAME_WIDTH, cv2.CAP_PROP_FRAME_HEIGHT)
    ]
    count = 0
    while file.read()[0]:
        count += 1
    return found[0], count, (found[1], found[2])


def test_a_video_of_depth_keeps_the_rate(tmp_path: Path) -> None:
    path = video(tmp_path / "a.avi")
    made = predict(str(path), Bright(AFFINE_DISPARITY), tmp_path / "o")
    assert names(tmp_path / "o") == ["a.mp4", "predict.json"]
    assert made.files == [tmp_path / "o/a.mp4"] and facts(made.files[0]) == (24, 12, (96, 32))
    model = Bright(AFFINE_DISPARITY)
    again = predict(str(path), model, tmp_path / "o")
    assert again.kept == 12 and not model.asked and again.files == made.files
    predict(str(path), Bright(AFFINE_DISPARITY), tmp_path / "half", every=2)
    assert facts(tmp_path / "half/a.mp4") == (12, 6, (96, 32))


def test_a_video_whose_rate_cannot_be(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = video(tmp_path / "a.mkv", rate=90_000)  # as where a container knows no rate
    predict(str(path), Bright(), tmp_path / "o")
    assert "a.mkv does not say how many frames a second it has: 30 are assumed" in capsys.readouterr().out
    assert facts(tmp_path / "o/a.mp4")[0] == 30


def test_frames_as_arrays_go_on_where_they_were_left(tmp_path: Path) -> None:
    path = video(tmp_path / "a.avi", rate=10)
    made = predict(str(path), Bright(), tmp_path / "o", formats=["npy", "tum"], fps=5, batch_size=4)
    numbers = [0, 2, 4, 6, 8, 10]
    assert made.arrays == [tmp_path / f"o/a/{number:06}.npy" for number in numbers]
    lines = (tmp_path / "o/a/rgb.txt").read_text().splitlines()[2:]
    assert lines[1] == "0.200000 rgb/000002.png" and len(lines) == 6
    made.arrays[3].unlink()
    model = Bright()
    again = predict(str(path), model, tmp_path / "o", formats=["npy", "tum"], fps=5)
    assert again.kept == 5 and model.asked == [1] and len(again.arrays) == 6


def test_smoothed_frames_are_made_together_or_not_at_all(tmp_path: Path) -> None:
    path, out = video(tmp_path / "a.avi"), tmp_path / "o"

    class Pulsing(Bright):
        """Each answer has a scale of its own, which only the frames before tell."""

        def forward(self, image: torch.Tensor) -> DepthOutput:
            depth = super().forward(image).depth
            if len(self.asked) == self.stops:
                raise KeyboardInterrupt
            return DepthOutput(depth * (1 + 0.2 * (len(self.asked) % 3)))

        caches = ("asked", "stops")
        stops = 0

    def made(stops: int = 0, formats: str = "npy") -> Predictions:
        model = Pulsing(SCALE_DISPARITY)
        model.stops = stops
        return predict(str(path), model, out, formats=formats, smooth=0.9)

    def arrays() -> np.ndarray:
        return np.stack([np.load(file) for file in sorted((out / "a").glob("*.npy"))])

    made()
    first = arrays()
    assert made().kept == 12
    (out / "a/000005.npy").unlink()
    assert made().kept == 0
    np.testing.assert_array_equal(arrays(), first)
    with pytest.raises(KeyboardInterrupt):
        made(stops=6, formats="npy png16")
    assert made(formats="npy png16").kept == 0
    np.testing.assert_array_equal(arrays(), first)
    assert made(formats="npy png16").kept == 12


def test_which_frames_are_wanted() -> None:
    def chosen(sampling: Sampling, rate: float) -> list[int]:
        return [number for number in range(12) if sampling.wants(number, rate)]

    assert chosen(Sampling(), 24) == list(range(12))
    assert chosen(Sampling(every=5), 24) == [0, 5, 10]
    assert chosen(Sampling(fps=10), 30) == [0, 3, 6, 9]
    assert chosen(Sampling(fps=20), 30) == [0, 2, 3, 5, 6, 8, 9, 11]
    assert chosen(Sampling(fps=60), 30) == list(range(12)) and Sampling(fps=60).rate(30) == 30


def test_a_video_that_breaks_off_or_is_none(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    whole = video(tmp_path / "a.avi", 40)
    torn = tmp_path / "torn.avi"
    torn.write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
    (tmp_path / "text.mp4").write_text("no video")
    with pytest.raises(BadSample, match=r"text.mp4 is not a video that OpenCV can read"):
        Video(tmp_path / "text.mp4", Sampling())
    made = predict([str(whole), str(tmp_path / "text.mp4")], Bright(), tmp_path / "o", formats="npy")
    assert len(made.arrays) == 40 and "text.mp4 is not a video" in made.left_out[0]
    frames = list(Video(torn, Sampling()).frames(lambda number: False))
    assert isinstance(frames[-1], BadSample) and "torn.avi breaks off after" in str(frames[-1])
    assert capfd.readouterr().err == ""


def flicker(frames: list[torch.Tensor]) -> float:
    """Mean change from frame to frame of a static scene, as a share of its range."""
    maps = torch.stack(frames)
    return float(maps.diff(dim=0).abs().mean() / (maps[-1].max() - maps[-1].min()))


def static_scene(space: DepthSpace, jitter: float, frames: int = 40) -> list[torch.Tensor]:
    """One map, each time with a scale, a shift and noise of its own; a block moves over it."""
    generator = torch.Generator().manual_seed(0)
    rows, columns = torch.meshgrid(torch.linspace(0, 3, 48), torch.linspace(0, 4, 64), indexing="ij")
    scene = 3 + rows.sin() + columns.cos()
    found = []
    for i in range(frames):
        one = scene.clone()
        one[10:22, i : i + 12] = 6
        one += 0.01 * torch.randn(48, 64, generator=generator)
        scale, shift = (1 + jitter * (2 * torch.rand(2, generator=generator) - 1)).tolist()
        found.append(one[None] * scale + (0 if space != AFFINE_DISPARITY else 3 * (shift - 1)))
    return found


@pytest.mark.parametrize("space", [AFFINE_DISPARITY, SCALE_DISPARITY])
def test_smoothing_takes_the_flicker_out(space: DepthSpace) -> None:
    before = static_scene(space, 0.2)
    still = flicker(static_scene(space, 0.0))  # what noise and the block alone make
    smoother = Smoother(space, 0.9)
    after = [smoother(depth) for depth in before]
    assert flicker(before) > 5 * still and flicker(after) < 1.1 * still
    spread = float(after[-1].std() / after[0].std())
    assert 0.9 < spread < 1.1  # the range does not shrink


def test_metric_depth_keeps_its_course_and_loses_its_jitter() -> None:
    jittered = static_scene(METRIC_DEPTH, 0.1, 60)
    nearer = [depth * 0.97**i for i, depth in enumerate(jittered)]
    smoother = Smoother(METRIC_DEPTH, 0.8)
    after = [float(smoother(depth).median()) for depth in nearer]
    truth = [3 * 0.97**i for i in range(60)]
    ratios = np.array(after) / truth
    changes = np.abs(np.diff(np.log(after)) - np.log(0.97))
    raw = np.abs(np.diff([float(depth.median()) for depth in nearer] / np.array(truth)))
    assert ratios[-1] == pytest.approx(np.median(ratios[-30:]), rel=0.1) and ratios[-1] < 1.5
    assert changes[10:].mean() < 0.4 * raw[10:].mean()


def test_a_cut_begins_anew() -> None:
    smoother = Smoother(AFFINE_DISPARITY, 0.9)
    first = static_scene(AFFINE_DISPARITY, 0.0, 3)
    other = torch.rand(1, 48, 64, generator=torch.Generator().manual_seed(1)) * 100
    assert torch.equal(smoother(first[0]), first[0])
    smoother(first[1])
    assert torch.equal(smoother(other), other)
    unknown = other.clone()
    unknown[:, :4] = torch.inf
    assert torch.isfinite(smoother(unknown)[:, 4:]).all()
    with pytest.raises(UserError, match="from 0 to below 1"):
        Smoother(AFFINE_DISPARITY, -0.1)
