"""Networks that are saved as a folder which depthkd alone loads: a class, its arguments, its weights."""

import json
from abc import abstractmethod
from pathlib import Path
from typing import Any

from safetensors.torch import save_file

from depthkd.errors import UserError
from depthkd.models.hub import WEIGHTS, locate, read_config, read_license
from depthkd.models.model import DepthModel
from depthkd.models.timm_backbone import PATHS
from depthkd.models.weights import read_safetensors, refuse_broken
from depthkd.paths import user_path


class OwnFolder(DepthModel):
    """A network for which transformers has no class; a subclass sets what is declared here."""

    kind: str  # config.json's model_type
    saved: frozenset[str]  # the arguments that config.json holds

    mean: tuple[float, ...]  # of the normalization of RGB in [0, 1]
    std: tuple[float, ...]

    @abstractmethod
    def arguments_saved(self) -> dict[str, Any]:
        """The arguments of its class that config.json holds, which say nothing of where weights are from."""

    def save_pretrained(self, folder: Path | str, image_size: int | None = None) -> None:
        """Write config.json and model.safetensors, as `from_folder` and `depthkd predict --model` read them;
        transformers has no class for it. See `DepthModel.save_pretrained`."""
        folder = user_path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        at = self.trained_at if image_size is None else (image_size, image_size)
        config = {
            "model_type": self.kind,
            "class_path": f"depthkd.models.{self.saved_as().__name__}",
            "init_args": self.arguments_saved(),
            "depth_space": str(self.space),
            "trained_at": None if at is None else list(at),
            "image_mean": list(self.mean),
            "image_std": list(self.std),
        }
        (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
        tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in self.state_dict().items()}
        save_file(tensors, folder / WEIGHTS, metadata={"format": "pt"})

    @classmethod
    def saved_as(cls) -> "type[OwnFolder]":
        """The class that a folder is loaded as: the one that declares `saved`, of a subclass of that too."""
        bases = [one for one in cls.__mro__ if issubclass(one, OwnFolder)]
        return next(one for one in bases if "saved" in vars(one))

    @classmethod
    def built_with(cls, arguments: dict[str, Any]) -> "OwnFolder":
        """The network of the arguments that config.json holds."""
        model: OwnFolder = cls(**arguments)
        return model

    @classmethod
    def from_folder(cls, source: str, revision: str | None = None) -> "OwnFolder":
        """The network of a folder, or hub id, that `save_pretrained` wrote.

        Raises:
            MissingFileError: there is no such folder or repository, or no weights in it.
            UserError: its config.json is another kind's, or its weights do not fit that.
        """
        config, name = read_config(source, revision), cls.__name__
        arguments = config.get("init_args")
        if (
            config.get("model_type") != cls.kind
            or not isinstance(arguments, dict)
            or arguments.keys() != cls.saved
        ):
            raise UserError(
                f"the config.json of '{source}' describes no {name}: model_type would be '{cls.kind}', and "
                f"init_args would be {', '.join(sorted(cls.saved))}"
            )
        options = arguments.get("options", {})
        if not isinstance(options, dict) or PATHS & set(options):
            raise UserError(
                f"the config.json of '{source}' has options that read files; they would be plain values"
            )
        try:
            model: OwnFolder = cls.built_with(arguments)
            model.mean, model.std = tuple(config["image_mean"]), tuple(config["image_std"])
            at = config["trained_at"]
            model.trained_at = None if at is None else (int(at[0]), int(at[1]))
        except (KeyError, TypeError, IndexError) as error:
            raise UserError(f"the config.json of '{source}' describes no {name}: {error!r}") from error
        tensors = read_safetensors(locate(source, WEIGHTS, revision))
        refuse_broken(tensors, f"{WEIGHTS} of '{source}'")
        try:
            model.load_state_dict(tensors)
        except RuntimeError as error:
            first = (str(error).splitlines()[1:2] or [str(error)])[0].strip()
            raise UserError(f"the weights of '{source}' do not fit its config.json: {first}") from error
        model.source, model.license = source, read_license(source, revision)
        return model
