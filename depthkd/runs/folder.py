"""A run is one folder, `runs/<name>/{config.yaml, checkpoints/last.ckpt, logs/, trained_on/}`: what is where,
how far it has come, and who works in it."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from depthkd.errors import MissingFileError, UserError
from depthkd.in_use import InUse
from depthkd.models.weights import read_content, refuse_broken
from depthkd.old_names import modern, modern_teacher
from depthkd.parsing import read_yaml
from depthkd.paths import user_path

CONFIG = "config.yaml"
CHECKPOINT = "checkpoints/last.ckpt"
LOGS = "logs"
TRAINED_ON = "trained_on"
BAD_SAMPLES = "bad_samples"
LOCK = ".in_use"


@dataclass(frozen=True)
class Progress:
    """How far a run has come.

    Args:
        steps: optimizer steps that its last checkpoint has behind it.
        wanted: how many it was asked for.
        ended: whether it ended before by a rule of its own config, such as early stopping.
    """

    steps: int
    wanted: int
    ended: bool = False

    @property
    def finished(self) -> bool:
        """Whether nothing is left to do."""
        return self.ended or self.steps >= self.wanted

    def __str__(self) -> str:
        return f"step {self.steps} of {self.wanted}"


class Run:
    """One run's folder.

    Args:
        path: the folder, or one of the run's checkpoints; `~` is read.
    """

    def __init__(self, path: str | Path) -> None:
        found = user_path(path)
        self._of_checkpoint = found.is_file() or found.suffix == ".ckpt"
        self.folder = found.parent.parent if self._of_checkpoint else found
        self.checkpoint = found if self._of_checkpoint else self.last
        self.in_use = InUse(
            self.folder / LOCK,
            f"{self.folder} is being trained in by {{who}}: wait for it, or give this run another folder "
            "(--run)",
        )

    @property
    def config(self) -> Path:
        """Its config, as it was last trained with."""
        return self.folder / CONFIG

    @property
    def last(self) -> Path:
        """Its latest checkpoint; `checkpoint` is another, where the run was named by that."""
        return self.folder / CHECKPOINT

    @property
    def logs(self) -> Path:
        """The folder with what it has logged."""
        return self.folder / LOGS

    @property
    def trained_on(self) -> Path:
        """The folder with the digests of the images that it has met."""
        return self.folder / TRAINED_ON

    @property
    def bad_samples(self) -> Path:
        """The folder with a list of the samples that could not be used, one file of each rank."""
        return self.folder / BAD_SAMPLES

    @property
    def title(self) -> str:
        """What tables call it: the folder's name, and the checkpoint's, where it was named by one."""
        return f"{self.folder.name}-{self.checkpoint.stem}" if self._of_checkpoint else self.folder.name

    def settings(self) -> dict[str, Any]:
        """What its config says.

        Raises:
            MissingFileError: the folder has no config.
            UserError: that is broken.
        """
        if not self.config.is_file():
            if self.checkpoint.is_file() and self.checkpoint != self.last:
                raise MissingFileError(
                    f"{self.checkpoint} is not in a run folder, whose config tells the network: it would be "
                    f"RUN/{CHECKPOINT}, beside RUN/{CONFIG}"
                )
            raise MissingFileError(f"{self.folder} is not a run folder: it has no {CONFIG}")
        tree = read_yaml(self.config.read_bytes(), str(self.config))
        if not isinstance(tree, dict):
            raise UserError(f"{self.config} holds no config; it would have keys such as 'model:'")
        return dict(modern(tree))

    def progress(self) -> Progress | None:
        """How far its checkpoint is; None where it has none. Reads no weights.

        Raises:
            UserError: the checkpoint is broken.
        """
        if not self.checkpoint.is_file():
            return None
        content = read_checkpoint(self.checkpoint, lazily=True)
        if "global_step" not in content:
            raise UserError(f"{self.checkpoint} does not say how many steps it has behind it: it is no run's")
        facts, steps = content["depthkd"], int(content["global_step"])
        wanted, asked = facts.get("steps"), self._asked()
        if asked in (None, wanted):
            return Progress(steps, int(steps if wanted is None else wanted), bool(facts.get("ended", False)))
        return Progress(steps, int(asked))

    def teachers(self) -> dict[str, dict[str, Any]]:
        """Name -> source, license and training sets of those that taught its student; none without a
        checkpoint."""
        if not self.checkpoint.is_file():
            return {}
        facts = read_checkpoint(self.checkpoint, lazily=True)["depthkd"]
        return {name: modern_teacher(teacher) for name, teacher in facts["teachers"].items()}

    def _asked(self) -> int | None:
        """The steps that its config asks for, which was written when training last began: a run that goes on
        to more of them has no other checkpoint for a while. None where there is no config."""
        if not self.config.is_file() or self.checkpoint.parent != self.last.parent:
            return None
        steps = (self.settings().get("trainer") or {}).get("max_steps")
        return steps if isinstance(steps, int) and steps > 0 else None

    def check_movable(self) -> None:
        """See that an earlier run could be set aside.

        Raises:
            UserError: there is one, in the working folder or around it.
        """
        if self.last.exists() and Path.cwd().is_relative_to(self.folder.resolve()):
            raise UserError(
                f"{self.folder} holds an earlier run, and the working folder, so that it cannot be set "
                "aside: give this run another folder (--run), or go on with that one (--ckpt_path last)"
            )

    def set_aside(self) -> Path | None:
        """Keep an earlier run of the same name, `runs/x` as `runs/x.1` and so on; where it is then."""
        if not self.last.exists():
            return None
        self.check_movable()
        number = 1
        while (aside := self.folder.with_name(f"{self.folder.name}.{number}")).exists():
            number += 1
        self.folder.rename(aside)
        return aside


def read_checkpoint(path: Path, lazily: bool = False) -> dict[str, Any]:
    """A checkpoint's tensors and plain values, on the CPU; never unpickles anything else.

    Args:
        path: of the file.
        lazily: leave the tensors on disk until they are used; the file must stay as long.

    Raises:
        MissingFileError: there is none at this path.
        UserError: it is not a checkpoint of ours, was cut short, or (if not `lazily`) has weights that are
            not finite.
    """
    if not path.is_file():
        raise MissingFileError(f"there is no checkpoint at {path}")
    content = read_content(path, str(path), "not a checkpoint", lazily)
    if not isinstance(content, dict) or "depthkd" not in content:
        raise UserError(f"{path} is not a checkpoint of depthkd: it has no entry 'depthkd'")
    if not lazily:
        refuse_broken(content["state_dict"], str(path))
    return content
