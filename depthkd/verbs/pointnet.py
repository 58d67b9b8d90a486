"""`depthkd pointnet`: a PointNet that tells the embedded scenes' shapes apart, as one file of weights."""

import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
from tqdm import tqdm

from depthkd.errors import ExistingFileError, UserError
from depthkd.formats.whole_files import write_whole
from depthkd.paths import user_path
from depthkd.verbs.configs import Command
from depthkd.verbs.options import parsed

if TYPE_CHECKING:
    from torch import Tensor

USAGE = "depthkd pointnet --out FILE: a PointNet that tells the embedded scenes' shapes apart"
HELD_OUT = 10**7  # index of the first cloud that is tested on
ORTHOGONAL = 0.001  # weight of the feature transform's distance from a rotation (PointNet, Eq. 2)


def pointnet(
    out: str,
    seed: int = 0,
    clouds: int = 3000,
    points: int = 512,
    epochs: int = 6,
    batch_size: int = 32,
    learning_rate: float = 1e-3,
    transforms: bool = False,
    tested: int = 500,
) -> float:
    """Train a PointNet (Qi et al., arXiv 1612.00593) on point clouds of the embedded scenes' shapes.

    The same settings give the same file on the same machine; it computes on one thread. The file appears
    when training is over, and one that was made with these settings is left as it is. It carries its
    settings, its classes and its accuracy on clouds that it has not seen.

    Args:
        out: the file to make, .safetensors.
        seed: of clouds, first weights and order.
        clouds: how many it learns from.
        points: of each cloud.
        epochs: how often it sees each.
        batch_size: clouds of a step.
        learning_rate: of Adam at the start; it falls along a cosine.
        transforms: whether it has T-Nets, for points and for their features; twice as slow.
        tested: how many other clouds its accuracy is of.

    Returns:
        The accuracy, 0 to 1.

    Raises:
        UserError: a setting is out of its range.
        ExistingFileError: the file has something else in it.
    """
    settings = {
        "seed": seed,
        "clouds": clouds,
        "points": points,
        "epochs": epochs,
        "batch_size": batch_size,
        "learning_rate": learning_rate,
        "transforms": transforms,
        "tested": tested,
    }
    _check(out, settings)
    from safetensors.torch import save

    from depthkd.datasets.scenes.clouds import CLASSES
    from depthkd.models.pointnet import FACTS, PointNet

    known = _made_before(out, settings)
    if known is not None:
        print(f"{out} is there already: accuracy {known:.3f}")
        return known
    with _one_thread():
        tensors, accuracy = _trained(settings, len(CLASSES))
    digest = hashlib.sha256(b"".join(t.numpy().tobytes() for t in tensors.values())).hexdigest()
    facts = {"settings": settings, "classes": CLASSES, "accuracy": round(accuracy, 4), "digest": digest}
    write_whole(user_path(out), save(tensors, {FACTS: json.dumps(facts | {"license": PointNet.license})}))
    print(f"{out}: accuracy {accuracy:.3f} on {tested} clouds of {len(CLASSES)} shapes that it has not seen")
    return accuracy


def _check(out: str, settings: dict[str, int | float | bool]) -> None:
    path = user_path(out)
    if path.suffix != ".safetensors" or path.is_dir():
        raise UserError(
            f"--out {out}: it would be a file to make, such as runs/embedded/pointnet.safetensors"
        )
    for name in ("clouds", "points", "epochs", "tested"):
        if settings[name] < 1:
            raise UserError(f"{name} must be 1 or more, not {settings[name]}")
    if not 2 <= settings["batch_size"] <= settings["clouds"]:
        raise UserError(
            f"batch_size must be from 2, for batch normalization, to the number of clouds "
            f"({settings['clouds']}), not {settings['batch_size']}"
        )
    if settings["seed"] < 0 or not settings["learning_rate"] > 0:
        raise UserError("seed must be 0 or more, and learning_rate above 0")


def _made_before(out: str, settings: dict[str, int | float | bool]) -> float | None:
    """The accuracy of a file that was made with these settings; None where there is no file."""
    from depthkd.models.pointnet import read_facts
    from depthkd.models.weights import read_weights

    if not user_path(out).exists():
        return None
    try:
        read_weights(out)
        facts = read_facts(out)
    except UserError as error:
        raise ExistingFileError(f"--out {out} is there already, and no PointNet of ours: {error}") from error
    if facts["settings"] != settings:
        raise ExistingFileError(
            f"--out {out} was made with other settings ({json.dumps(facts['settings'])}): remove it, or "
            "choose another"
        )
    return float(facts["accuracy"])


@contextmanager
def _one_thread() -> Iterator[None]:
    """Sums of several threads depend on how many there are."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def _drawn(seed: int, first: int, count: int, points: int, what: str) -> tuple[np.ndarray, np.ndarray]:
    """Clouds [count, points, 3], and which shapes they are of."""
    from depthkd.datasets.scenes.clouds import cloud

    numbers = tqdm(range(first, first + count), desc=what, unit="cloud", disable=None)
    pairs = [cloud(seed, number, points) for number in numbers]
    return np.stack([points for points, _ in pairs]), np.array([label for _, label in pairs])


def _trained(settings: dict[str, int | float | bool], classes: int) -> "tuple[dict[str, Tensor], float]":
    """The weights, and the accuracy on held-out clouds."""
    import torch
    import torch.nn.functional as F

    from depthkd.models.pointnet import PointNet

    seed, points, size = int(settings["seed"]), int(settings["points"]), int(settings["batch_size"])
    count, epochs = int(settings["clouds"]), int(settings["epochs"])
    x, y = map(torch.from_numpy, _drawn(seed, 0, count, points, "clouds"))
    network = PointNet(transforms=bool(settings["transforms"]), classes=classes, seed=seed)
    optimizer = torch.optim.Adam(network.parameters(), float(settings["learning_rate"]))
    steps = epochs * (count // size)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    order = np.random.default_rng([seed, 6])
    batches = (
        b for _ in range(epochs) for b in order.permutation(count)[: count // size * size].reshape(-1, size)
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)  # of dropout
        for batch in tqdm(batches, desc="steps", total=steps, unit="step", disable=None):
            loss: Any = F.cross_entropy(network(x[batch]), y[batch])
            loss = loss + ORTHOGONAL * network.distance_from_rotation
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
    network.eval()
    x, y = map(torch.from_numpy, _drawn(seed, HELD_OUT, int(settings["tested"]), points, "held out"))
    with torch.no_grad():
        parts = [x[start : start + 100] for start in range(0, len(x), 100)]
        right = torch.cat([network(part).argmax(1) for part in parts]) == y
    tensors = {name: tensor.contiguous() for name, tensor in network.state_dict().items()}
    return tensors, float(right.double().mean())


def main(command: Command) -> int:
    """Run `depthkd pointnet`; returns the exit status."""
    options = parsed("pointnet", USAGE, pointnet, command.arguments)
    pointnet(**options.as_dict())
    return 0
