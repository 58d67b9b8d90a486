"""The model card of an export: what the network is, what it came of, its license, and how it is loaded."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import yaml

from depthkd.models.dpt.dpt import HuggingFaceDepth
from depthkd.models.dpt.timm_depth import TimmDepth
from depthkd.models.hub import WEIGHTS
from depthkd.models.model import DepthModel
from depthkd.models.torch_program import TRUST
from depthkd.runs.folder import Run, read_checkpoint
from depthkd.runs.named_models import GRAPH, PROGRAM
from depthkd.runs.student import begins_at_random
from depthkd.verbs.export.forms import DIFFUSERS, ENCODER, HUB, ONNX, OWN, TORCH
from depthkd.verbs.export.licenses import UNKNOWN, inherited, split
from depthkd.verbs.export.timm_encoder import timm_options, untrained

LIBRARIES = {
    HUB: "transformers",
    DIFFUSERS: "diffusers",
    OWN: "depthkd",
    ONNX: "onnx",
    TORCH: "pytorch",
    "timm": "timm",
}

MARIGOLD = [
    *("from diffusers import MarigoldDepthPipeline", "from safetensors.torch import load_file", ""),
    'pipe = MarigoldDepthPipeline.from_pretrained("FOLDER", text_encoder=None, tokenizer=None)',
    'pipe.empty_text_embedding = load_file("FOLDER/empty_text_embed.safetensors")["text"]',
    'depth = pipe("photo.jpg").prediction',
]


@dataclass(frozen=True)
class Origin:
    """What an exported network came of.

    Args:
        name: what it is called by: a run's folder, a word, a hub id.
        method: the class that trained it; None: it is no run's student.
        data: names of the sources that it learned from.
        teachers: name -> source, license, training sets.
        base: the weights that training began from; None: it began at random, or is no run's student.
        base_license: of those.
        weights: which of a run's weights they are, in words.
        steps: of the optimizer.
        tested: lines on what `depthkd test` has last said of them; none of what is no run's.
    """

    name: str
    method: str | None = None
    data: Sequence[str] = ()
    teachers: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    base: str | None = None
    base_license: str = UNKNOWN
    weights: str | None = None
    steps: int | None = None
    tested: Sequence[str] = ()

    @property
    def binding(self) -> set[str]:
        """The licenses under which the teachers and the base stand, "unknown" among them."""
        named = [str(teacher.get("license", UNKNOWN)) for teacher in self.teachers.values()]
        if self.base is not None:
            named.append(self.base_license)
        return {one for licenses in named for one in split(licenses)}


def origin_of_run(run: Run, student: DepthModel, weights: str | None) -> Origin:
    """What a run's student came of, by the run's config and checkpoint."""
    facts, settings = read_checkpoint(run.checkpoint, lazily=True)["depthkd"], run.settings()
    base, progress = str(facts.get("student", UNKNOWN)), run.progress()
    kept = bool(facts["averaged"]) and weights != "raw"
    data = (settings.get("data") or {}).get("train") or {}
    return Origin(
        name=run.title,
        method=str(facts.get("method", UNKNOWN)).rpartition(".")[2],
        data=list(data),
        teachers=run.teachers(),
        base=None if begins_at_random(base) else base,
        base_license=student.base_license,
        weights="the moving average of the weights" if kept else "the weights of the last step",
        steps=None if progress is None else progress.steps,
    )


def card(
    model: DepthModel,
    origin: Origin,
    license: str,
    against: Collection[str] | None,
    forms: Sequence[str],
    compared: str,
    part: str,
) -> str:
    """The text of README.md.

    Args:
        model: the network.
        origin: what it came of.
        license: what is named as its license, or "unknown".
        against: licenses that permit less, where the exporter states to hold the rights; None otherwise.
        forms: what is in the folder.
        compared: the tables of how they compare.
        part: "all" or "encoder".
    """
    encoder = part == ENCODER
    what = "The encoder of a" if encoder else "A"
    lines = [_head(license, forms, encoder), f"# {origin.name}", ""]
    lines.append(f"{what} network for monocular depth estimation, exported by depthkd from `{origin.name}`.")
    lines += ["", *_facts(model, origin, encoder), "", "## License", "", *_license(license, against, origin)]
    if origin.tested and not encoder:
        lines += ["", "## Tested", "", *origin.tested]
    lines += ["", "## How to load it", "", *_loading(model, forms, encoder), "## Checked at export", ""]
    lines.append("The exported form, loaded as its users will, and the original, on the same pictures:")
    return "\n".join([*lines, "", compared, ""])


def _head(license: str, forms: Sequence[str], encoder: bool) -> str:
    front: dict[str, Any] = {}
    if len(split(license)) > 1:
        front = {"license": "other", "license_name": license}
    elif license != UNKNOWN:
        front = {"license": license}
    front["library_name"] = LIBRARIES[forms[0]]
    front["pipeline_tag"] = "image-feature-extraction" if encoder else "depth-estimation"
    front["tags"] = ["monocular-depth-estimation", "knowledge-distillation", "depthkd"]
    return f"---\n{yaml.safe_dump(front, sort_keys=False)}---\n"


def _facts(model: DepthModel, origin: Origin, encoder: bool) -> list[str]:
    lines = [f"- Network: {type(model).__name__}, {sum(p.numel() for p in model.parameters()):,} parameters"]
    if not encoder:
        lines.append(f"- Depth space: {model.space}")
        at = model.trained_at
        if at is not None:
            lines.append(f"- Shorter side of the images that it is run on: {min(at)} pixels")
    lines.append(f"- Sides of its input: multiples of {model.multiple} pixels")
    asked = [] if encoder else [_with(other.source, other.license) for other in model.companions()]
    lines += [f"- Asks of every image, and does not hold: {other}" for other in asked]
    if origin.method is not None:
        lines.append(f"- Method: {origin.method} of depthkd, {origin.steps} optimizer steps")
        lines.append(f"- Weights: {origin.weights}")
        lines.append(
            f"- Began from: {_with(origin.base, origin.base_license) if origin.base else 'random weights'}"
        )
        lines.append(f"- Training data: {', '.join(origin.data) or 'not known'}")
        lines.append("- Teachers: none" if not origin.teachers else "- Teachers:")
    for name, teacher in origin.teachers.items():
        sets = teacher.get("training_sets")
        seen = f"; trained on {', '.join(sets)}" if sets else ""
        lines.append(f"  - {name}: {_with(str(teacher['source']), str(teacher['license']))}{seen}")
    if origin.method is None and model.training_sets:
        lines.append(f"- Training data: {', '.join(model.training_sets)}")
    return lines


def _with(source: str, license: str) -> str:
    return f"{source} ({'license not known' if license == UNKNOWN else license})"


def _license(license: str, against: Collection[str] | None, origin: Origin) -> list[str]:
    if against is not None:
        follows = inherited(against)
        bound = "a license that is not known" if follows == UNKNOWN else follows
        return [
            f"{license}. Who exported the network states to hold the rights for that; from its teachers and "
            f"the weights that its training began from, {bound} would follow."
        ]
    if license == UNKNOWN:
        return ["Not known: ask whoever trained it, and mind the licenses of what it came of."]
    bound = ", as its teachers and the weights that its training began from ask" if origin.binding else ""
    return [f"{license}{bound}."]


def has_pipeline(model: DepthModel) -> bool:
    """Whether diffusers' MarigoldDepthPipeline takes its folder: a Marigold over an autoencoder of theirs."""
    autoencoder = type(getattr(model, "vae", None)).__module__
    return type(model).__name__ == "Marigold" and autoencoder.startswith("diffusers.")


def _loading(model: DepthModel, forms: Sequence[str], encoder: bool) -> list[str]:
    code = list[str]()
    if encoder and isinstance(model, TimmDepth):
        named = "".join(f", {key}={value!r}" for key, value in timm_options(model).items())
        file = f'checkpoint_path="FOLDER/{WEIGHTS}"'
        code = ["import timm", "", f'encoder = timm.create_model("{model.backbone_name}", {file}{named})']
    elif encoder and isinstance(model, HuggingFaceDepth):
        name = type(model.network.backbone).__name__
        code = [f"from transformers import {name}", "", f'encoder = {name}.from_pretrained("FOLDER")']
    elif HUB in forms:
        code = [
            *("from transformers import pipeline", ""),
            'depth = pipeline("depth-estimation", model="FOLDER")',
            'print(depth("photo.jpg")["predicted_depth"])',
        ]
    elif DIFFUSERS in forms and has_pipeline(model):
        code = MARIGOLD
    lines = ["```python", *code, "```", ""] if code else []
    if encoder and isinstance(model, TimmDepth) and (names := untrained(model)):
        lines += [f"Not trained, but asked for by timm, with its first values: {', '.join(names)}.", ""]
    commands = []
    if not encoder and any(form in forms for form in (HUB, DIFFUSERS, OWN)):
        points = " --sparse points.png" if model.needs_sparse_depth else ""
        commands.append(f"depthkd predict photo.jpg --model FOLDER{points}")
    if ONNX in forms:
        commands.append(f"depthkd predict photo.jpg --model FOLDER/{GRAPH}")
    if TORCH in forms:
        commands.append(f"{TRUST}=1 depthkd predict photo.jpg --model FOLDER/{PROGRAM}")
    if commands:
        lines += ["```bash", *commands, "```", ""]
    if ONNX in forms:
        lines += [
            f"`{GRAPH}` takes `image`, RGB in [0, 1] as float32, [batch, 3, height, width], and gives "
            "`depth`, [batch, height, width]; normalization is inside. Its metadata (key `depthkd`) says the "
            "rest.",
            "",
        ]
    return lines
