"""A depth network as a program of torch.export: a .pt2 file that torch alone runs."""

import json
import os
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from depthkd.batch import DepthSpace
from depthkd.errors import MissingFileError, UserError
from depthkd.models.model import DepthModel, DepthOutput
from depthkd.models.weights import FACTS
from depthkd.paths import user_path
from depthkd.shapes import Image

LARGEST = 1 << 20  # bytes of what it says
TRUST = "DEPTHKD_TRUST_PROGRAMS"  # set to 1, it is the user's word for every program that one word names


class TorchProgram(DepthModel):
    """What `depthkd export --format torch` wrote: the traced network with its weights, without its class.

    torch reads such a file with pickle and evaluates expressions in it, so that whoever wrote it can run code
    here: it is opened only where the user says that it is trusted. What it is (space, multiple, license) is
    read before, as plain text. On a GPU the program is moved there when it is first asked.

    Args:
        path: the .pt2 file.
        trusted: whether it is from someone whom you would let run code; None: what the environment variable
            DEPTHKD_TRUST_PROGRAMS says (1: yes).

    Raises:
        MissingFileError: there is no such file.
        UserError: nobody says that it is trusted, or it is no such program.
    """

    caches = ("_program", "_module", "_device")

    def __init__(self, path: str, trusted: bool | None = None) -> None:
        super().__init__()
        place = user_path(path)
        self.path, self.source = str(place), str(place)
        facts = stated_facts(place)
        if not (os.environ.get(TRUST) == "1" if trusted is None else trusted):
            raise UserError(
                f"'{place}' is a program of torch.export, and reading one runs code that its maker chose: if "
                f"you trust that, set {TRUST}=1, or give --model depthkd.models.TorchProgram "
                f"--model.path {place} --model.trusted true (load_model(..., trusted=True) in Python)"
            )
        try:
            self.space = DepthSpace.parse(facts["space"])
            self.multiple = int(facts["multiple"])
            fixed, at, sets = (facts[name] for name in ("size", "trained_at", "training_sets"))
            self.fixed_size = None if fixed is None else (int(fixed[0]), int(fixed[1]))
            self.trained_at = None if at is None else (int(at[0]), int(at[1]))
            self.training_sets = None if sets is None else tuple(sets)
            self.license = str(facts["license"])
        except (KeyError, TypeError, IndexError, ValueError) as error:
            raise UserError(f"{FACTS} in '{place}' does not say what the program is: {error!r}") from error
        self._program = loaded(place)
        self._module: tuple[Any, ...] = (self._program.module(),)  # as a child it would refuse eval()
        self._device = torch.device("cpu")

    def files(self) -> list[Path]:
        """The program."""
        return [Path(self.path)]

    def forward(self, image: Image) -> DepthOutput:
        """RGB in [0, 1] -> float32 depth at the rounded size.

        Raises:
            UserError: the program does not run at this size.
        """
        pixels = self.fit_input(image).float()
        if pixels.device != self._device:
            from torch.export.passes import move_to_device_pass

            self._module = (move_to_device_pass(self._program, pixels.device).module(),)
            self._device = pixels.device
        try:
            depth: Tensor = self._module[0](pixels)
        except (AssertionError, RuntimeError) as error:
            shape = " x ".join(str(n) for n in pixels.shape)
            raise UserError(f"'{self.path}' cannot run on {shape}: {first_line(error)}") from error
        return DepthOutput(depth)

    def parameters(self, recurse: bool = True) -> Iterator[nn.Parameter]:
        """The program's weights, which are no module's here."""
        found: Iterator[nn.Parameter] = self._program.parameters()
        return found

    def encoder_parameters(self) -> Iterator[nn.Parameter]:
        """None: nothing here can be trained."""
        return iter(())

    def head_parameters(self) -> Iterator[nn.Parameter]:
        """None, likewise."""
        return iter(())

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_program": None, "_module": ()}

    def __setstate__(self, state: dict[str, Any]) -> None:
        nn.Module.__setstate__(self, state)  # type: ignore[no-untyped-call]
        self._program = loaded(Path(self.path))
        self._module, self._device = (self._program.module(),), torch.device("cpu")


def loaded(path: Path) -> Any:
    """The program in a file that is trusted.

    Raises:
        UserError: torch cannot read it.
    """
    try:
        return torch.export.load(str(path))
    except Exception as error:  # whatever its deserializer meets in a file that another version wrote
        raise UserError(f"torch {torch.__version__} cannot read '{path}': {first_line(error)}") from error


def stated_facts(path: Path) -> dict[str, Any]:
    """What a program says of itself, read as text alone: nothing of it runs.

    Raises:
        MissingFileError: there is no such file.
        UserError: it is no program that `depthkd export` wrote.
    """
    if not path.is_file():
        raise MissingFileError(
            f"there is no file '{path}'; it would be a .pt2 of depthkd export --format torch"
        )
    try:
        with zipfile.ZipFile(path) as archive:
            name = next(n for n in archive.namelist() if n.endswith(f"extra/{FACTS}"))
            with archive.open(name) as file:
                facts = json.loads(file.read(LARGEST))
    except (zipfile.BadZipFile, StopIteration, ValueError, EOFError, RuntimeError, zlib.error) as error:
        raise UserError(
            f"'{path}' is no program that depthkd export --format torch wrote, or was cut short"
        ) from error
    if not isinstance(facts, dict):
        raise UserError(f"{FACTS} in '{path}' would be a mapping, not {facts}")
    return facts


def first_line(error: Exception) -> str:
    """What an error says first."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0][:300] if lines else type(error).__name__
