"""Models by one word: "embedded", a run, an ONNX file, a folder or a hub id of transformers or diffusers."""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import partial
from pathlib import Path

from depthkd.errors import MissingFileError, UserError
from depthkd.models.dpt.packaged_weights import EMBEDDED
from depthkd.models.inference import device_of
from depthkd.models.model import DepthModel
from depthkd.models.provenance import hub_id
from depthkd.models.weights import FACTS, read_json_file
from depthkd.paths import local_or_hub, user_path
from depthkd.runs.folder import CONFIG, Run
from depthkd.runs.student import load_student

CLASSES = {  # by config.json's model_type
    "depth_anything": "HuggingFaceDepth",
    "dpt": "HuggingFaceDepth",
    "zoedepth": "ZoeDepth",
    "depth_pro": "DepthPro",
    "prompt_depth_anything": "PromptDepthAnything",
}
CLONES = {  # by a pattern of hub ids in lower case, whose repositories name no model_type
    "depth-anything/da3m*": "DepthAnything3",
    "ruicheng/moge-2-*": "MoGe",
    "lpiccinelli/unik3d-*": "UniK3D",
}
OWN = {  # by the model_type of a folder that `save_pretrained` of such a class wrote
    "timm_depth": "TimmDepth",
    "lightweight_depth": "LightweightDepth",
    "metric_bins_depth": "MetricBinsDepth",
    "depth_completion": "DepthCompletion",
}
LATENT = ("FiffDepth", "Lotus", "Marigold", "SharpDepth")  # saved as a folder of diffusers
PIPELINES = {"MarigoldDepthPipeline": "Marigold"}  # by model_index.json's _class_name
GRAPH = "model.onnx"  # in a folder that `depthkd export --format onnx` wrote
PROGRAM = "model.pt2"  # and with --format torch
BY_CLASS = (
    "name its class, as in --models.NAME.class_path depthkd.models.DepthAnything (or --model.class_path)"
)


@dataclass(frozen=True)
class NamedModel:
    """What a word stands for; it is loaded when it is needed.

    Args:
        load: builds the model.
        run: the run that it is the student of, if it is one's.
        program: the file of torch.export that it is, if it is one.
    """

    load: Callable[[], DepthModel]
    run: Run | None = None
    program: Path | None = None


def named_model(text: str) -> NamedModel:
    """The model that a word names: "embedded", a run folder, one of its checkpoints, an .onnx file, a folder
    of transformers or diffusers, or a hub id. A look at the disk; a hub is asked only when the model loads.

    Raises:
        MissingFileError: nothing of that name is here, and it cannot be a hub id.
        UserError: it is something else; the sentence says what would be read.
    """
    if text == EMBEDDED:  # a folder of that name is ./embedded
        return NamedModel(_embedded)
    place = user_path(text)
    if not place.exists():
        if _may_be_hub_id(text):
            return NamedModel(partial(_from_transformers, text))
        raise MissingFileError(
            f"there is no {place}; a model would be '{EMBEDDED}', a run folder, a checkpoint, an .onnx "
            "file, a folder with config.json, or a hub id such as depth-anything/Depth-Anything-V2-Small-hf; "
            "for a class of its own, give --models.NAME.class_path"
        )
    if place.is_file():
        return _file(place)
    run = Run(place)
    if run.config.is_file():
        return NamedModel(partial(load_student, text), run)
    if (place / "model_index.json").is_file():
        return NamedModel(partial(_from_diffusers, place))
    if (place / "config.json").is_file():
        return NamedModel(partial(_from_transformers, str(place)))
    if (place / GRAPH).is_file():
        return NamedModel(partial(_from_onnx, place / GRAPH))
    if (place / PROGRAM).is_file():
        return NamedModel(partial(_from_program, place / PROGRAM), program=place / PROGRAM)
    raise MissingFileError(
        f"{place} is not a run folder, for it has no {CONFIG}, and no folder of transformers, for it has no "
        "config.json"
    )


def load_model(name: str, device: str = "cpu", trusted: bool | None = None) -> DepthModel:
    """The depth network that one word names, ready to predict.

    Args:
        name: a run folder, one of its checkpoints, what `depthkd export` wrote, an .onnx file, a folder or
            hub id of transformers or diffusers, or "embedded", the teacher that depthkd carries.
        device: "auto" (a GPU where there is one), "cpu", "cuda" or "cuda:1".
        trusted: of a program of torch.export, whose reading runs code, whether you trust who made it; see
            `TorchProgram`.

    Returns:
        A model in eval mode. `predict(image)` takes RGB in [0, 1], [batch, 3, height, width], and gives depth
        in `space`, [batch, height, width].

    Raises:
        MissingFileError: nothing of that name is here, and it cannot be a hub id.
        UserError: it names something else, or there is no such device.
    """
    place = device_of(device)
    known = named_model(name)
    if trusted is not None and known.program is not None:
        from depthkd.models.torch_program import TorchProgram

        return TorchProgram(str(known.program), trusted).to(place).eval()
    return known.load().to(place).eval()


def row_name(word: str) -> str:
    """A file is called by its name, a checkpoint by its run's name and its own, an exported graph by its
    folder's."""
    place = user_path(word)
    name = place.name if place.is_dir() or not place.exists() else place.stem
    if place.suffix == ".ckpt":
        name = Run(place).title
    elif place.name in (GRAPH, PROGRAM):
        name = f"{place.resolve().parent.name}-{place.suffix[1:]}"
    return re.sub("[.=]", "-", name)  # neither can be in the name of an option


def as_options(words: Sequence[str]) -> list[str]:
    """`--models.NAME=WORD` of each word that names a model.

    Raises:
        UserError: two would have one name, so that the one would take the other's place.
    """
    names: dict[str, str] = {}
    for word in words:
        name = row_name(word)
        if name in names:
            raise UserError(
                f"{names[name]} and {word} would both be called '{name}': give one of them a name of its "
                f"own, as in --models.NAME {word}"
            )
        names[name] = word
    return [f"--models.{name}={word}" for name, word in names.items()]


def _file(place: Path) -> NamedModel:
    if place.suffix == ".ckpt":
        return NamedModel(partial(load_student, place), Run(place))
    if place.suffix == ".onnx":
        return NamedModel(partial(_from_onnx, place))
    if place.suffix == ".pt2":
        return NamedModel(partial(_from_program, place), program=place)
    raise UserError(
        f"{place} names no network: a file would be an .onnx, a .pt2, or a run's .ckpt; for weights alone, "
        f"{BY_CLASS} and give it the `weights`"
    )


def _embedded() -> DepthModel:
    from depthkd.models import Embedded

    return Embedded()


def _from_onnx(place: Path) -> DepthModel:
    from depthkd.models.onnx import OnnxDepth

    model = OnnxDepth(str(place))
    if not model.stated:
        print(
            f"{place}: read as {model.assumed}; if it is another, say so with --models.NAME.class_path "
            "(or --model.class_path) depthkd.models.OnnxDepth and its init_args"
        )
    return model


def _from_program(place: Path) -> DepthModel:
    from depthkd.models.torch_program import TorchProgram

    return TorchProgram(str(place))


def _from_transformers(source: str) -> DepthModel:
    import depthkd.models
    from depthkd.models.hub import read_config

    by_id = [name for pattern, name in CLONES.items() if fnmatchcase(hub_id(source).lower(), pattern)]
    if by_id:
        cloned: DepthModel = getattr(depthkd.models, by_id[0])(weights=source)
        return cloned
    kind = str(read_config(local_or_hub(source)).get("model_type"))
    if kind in OWN:
        own: DepthModel = getattr(depthkd.models, OWN[kind]).from_folder(source)
        return own
    if kind not in CLASSES:
        kinds = ", ".join([*CLASSES, *OWN])
        raise UserError(f"'{source}' has model_type '{kind}'; one of {kinds} would be read")
    model: DepthModel = getattr(depthkd.models, CLASSES[kind])(source=source)
    return model


def _from_diffusers(place: Path) -> DepthModel:
    import depthkd.models
    from depthkd.models.hub import read_license

    if (place / FACTS).is_file():
        from depthkd.models.latent_diffusion.latent_folder import read_folder

        own = read_folder(place, {name: getattr(depthkd.models, name) for name in LATENT})
        own.license = read_license(str(place))
        return own
    index = read_json_file(place / "model_index.json")
    kind = str(index.get("_class_name"))
    if kind not in PIPELINES:
        raise UserError(f"{place} is a {kind} of diffusers, which is no depth network by itself: {BY_CLASS}")
    model: DepthModel = getattr(depthkd.models, PIPELINES[kind])(source=str(place))
    return model


def _may_be_hub_id(text: str) -> bool:
    owner, slash, name = text.partition("/")
    return bool(slash and owner and name) and "/" not in name and not text.startswith((".", "~", "runs/"))
