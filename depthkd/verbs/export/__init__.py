"""`depthkd export`: a network for use elsewhere, in forms that are compared with it before they are kept."""

import json
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from tqdm import tqdm

from depthkd.errors import ExistingFileError, UserError
from depthkd.formats.whole_files import whole_folder
from depthkd.models.dpt.preprocessing import Preprocessing
from depthkd.models.model import DepthModel
from depthkd.models.onnx import OnnxDepth
from depthkd.models.torch_program import TorchProgram
from depthkd.models.weights import read_json_file
from depthkd.paths import user_path
from depthkd.runs.folder import Run
from depthkd.runs.named_models import named_model
from depthkd.runs.student import TrainedDepth, load_student
from depthkd.verbs.configs import Command
from depthkd.verbs.export.card import Origin, card, origin_of_run
from depthkd.verbs.export.forms import (
    ENCODER,
    ONNX,
    TORCH,
    Asked,
    forms_of,
    parse_size,
    write_encoder,
    write_folder,
    write_onnx,
    write_torch,
)
from depthkd.verbs.export.half_precision import Precision, check_onnx
from depthkd.verbs.export.licenses import chosen, permits
from depthkd.verbs.export.metrics import Scored, Scorer, form_scores, score_table
from depthkd.verbs.export.parity import Row, table
from depthkd.verbs.export.tested import results_section
from depthkd.verbs.options import parsed

USAGE = "depthkd export RUN|MODEL --out FOLDER [--format hf|onnx|torch|all] [--part encoder] [options]"
MARK = "depthkd_export.json"  # says that a folder is an export, and of what
CARD = "README.md"
Format = Literal["hf", "onnx", "torch", "all"]
Part = Literal["all", "encoder"]
Weights = Literal["average", "raw"]


@dataclass(frozen=True)
class Exported:
    """What `export` did: where the folder is, and whether all forms agree with the network; only then is it
    there."""

    folder: Path
    agrees: bool


class _DisagreementError(Exception):
    """Ends the writing of a folder, so that nothing is kept."""


@dataclass
class _Found:
    """What has been written, and how it compares."""

    forms: list[str] = field(default_factory=list)
    rows: list[Row] = field(default_factory=list)
    scores: list[Scored] = field(default_factory=list)

    @property
    def agrees(self) -> bool:
        """Whether all forms are as good as the original."""
        return all(row.agrees for row in self.rows) and all(one.agrees for one in self.scores)

    def tables(self, network: DepthModel) -> str:
        """How all compares, for the terminal and the card (Markdown)."""
        if not self.scores:
            return table(self.rows, None)
        return f"{table(self.rows, network.space)}\n\n{score_table(self.scores, network.space)}"


def export(
    model: str | DepthModel,
    out: Path,
    format: Format = "hf",
    part: Part = "all",
    weights: Weights | None = None,
    size: str = "dynamic",
    precision: Precision = "fp32",
    preprocessing: Preprocessing | None = None,
    license: str | None = None,
    i_hold_the_rights: bool = False,
    overwrite: bool = False,
) -> Exported:
    """Write a network as a folder of transformers, an ONNX graph or a program of torch, with a model card.

    Each form is loaded again as its users will load it, and asked for pictures of three sizes, alone and
    three at a time; then scored, beside the original, on a photograph with measured depth and on scenes.
    Where its depth is not the original's, nothing is kept.

    Args:
        model: a run folder, one of its checkpoints, a folder or hub id of transformers, "embedded", or any
            DepthModel, which is brought to the CPU.
        out: the folder for it; it must not be there.
        format: "hf" is a folder that `transformers.pipeline` loads, or, of a network that transformers has no
            class for, depthkd alone; "onnx" a graph, model.onnx; "torch" a program of torch.export,
            model.pt2; "all" the first two in one folder, for reading a program runs code.
        part: the whole network, or the encoder alone, as segmentation networks of transformers, or timm, load
            it.
        weights: of a run, the moving average of the weights or those of the last step ("raw"); None: the
            average, where one was kept.
        size: "dynamic"; or of a folder the side at which it runs where nobody asks for another, such as 518;
            or of a graph or program the only size at which it runs, such as 518 or 392x518 (height x width).
        precision: of a graph: "fp16" is float16 with the head in float32, for half the size.
        preprocessing: of a Depth Anything's or DPT's folder, whose way of resizing images `depthkd predict`
            takes with it: "transformers" gives what its pipeline gives. None: the network's own.
        license: what the card names; None: what the licenses of the teachers, and of the weights that
            training began from, ask for.
        i_hold_the_rights: state that a license that permits more than theirs is yours to give.
        overwrite: replace an earlier export in the folder.

    Returns:
        Whether all forms agree, and where they are.

    Raises:
        UserError, MissingFileError: one sentence on what does not fit.
        ExistingFileError: the folder is there.
    """
    out = user_path(out).resolve()
    check_place(out, overwrite)
    asked = replace(parse_size(size, format), precision=precision, preprocessing=preprocessing)
    check_options(format, part, size, asked)
    network, origin = _loaded(model, weights)
    refuse(network)
    binding = origin.binding or ({network.license} if origin.method is None else set())
    named = chosen(license, binding, i_hold_the_rights)
    found = _Found()
    try:
        with whole_folder(out, overwrite) as draft:
            _write_all(network, draft, format, part, asked, _about(network, origin, named), found)
            print(found.tables(network))
            if not found.agrees:
                raise _DisagreementError
            given = bool(binding) and not permits(binding, named)
            against = binding if given else None
            text = card(network, origin, named, against, found.forms, found.tables(network), part)
            (draft / CARD).write_text(text, encoding="utf-8")
            _mark(draft, {"source": origin.name, "format": format, "part": part, "license": named}, found)
    except _DisagreementError:
        at_one = (
            any(row.form in (ONNX, TORCH) and not row.agrees for row in found.rows) and asked.size is None
        )
        advice = "; a graph of one size may (--size HEIGHTxWIDTH)" if at_one else ""
        print(f"what was exported does not predict what the original does{advice}: nothing is kept at {out}")
        return Exported(out, False)
    print(f"{', '.join(found.forms)}; license: {named}; {out}")
    return Exported(out, True)


def check_options(format: str, part: str, size: str, asked: Asked) -> None:
    """Refuse options that do not go together.

    Raises:
        UserError: there are some.
    """
    plain = format == "hf" and size == "dynamic" and asked.precision == "fp32" and asked.preprocessing is None
    if part == ENCODER and not plain:
        raise UserError(
            "--part encoder is a float32 folder that runs at any size: it takes none of --format, --size, "
            "--precision and --preprocessing"
        )
    if asked.precision == "fp16":
        if format not in ("onnx", "all"):
            raise UserError(
                "--precision fp16 is an ONNX graph's (--format onnx): folders and programs are float32, and "
                "whoever loads them chooses (dtype=torch.float16 of from_pretrained, torch.autocast)"
            )
        check_onnx()
    if asked.preprocessing is not None and format not in ("hf", "all"):
        raise UserError(
            "--preprocessing is recorded in a folder (--format hf): a graph or a program takes images of its "
            "size as they are"
        )


def check_place(out: Path, overwrite: bool) -> None:
    """Refuse a place where something is that must not be replaced.

    Args:
        out: the folder that is to be written.
        overwrite: whether an earlier export may be replaced.

    Raises:
        ExistingFileError: there is an export, or anything else.
    """
    if not out.exists() or (out.is_dir() and not any(out.iterdir())):
        return
    if not (out / MARK).is_file():
        raise ExistingFileError(f"{out} is there, and no export of depthkd: choose another --out")
    files = read_json_file(out / MARK).get("files")
    ours = {MARK, *map(str, files if isinstance(files, list) else [])}
    others = sorted(str(p.relative_to(out)) for p in out.rglob("*") if p.is_file())
    others = [name for name in others if name not in ours]
    if others:
        raise ExistingFileError(
            f"{out} holds '{others[0]}' besides an export of depthkd: choose another --out, or move that away"
        )
    if not overwrite:
        raise ExistingFileError(f"{out} holds an export already: choose another --out, or give --overwrite")


def _loaded(model: str | DepthModel, weights: Weights | None) -> tuple[DepthModel, Origin]:
    """The network, on the CPU, in eval mode, and what it came of."""
    if isinstance(model, DepthModel):
        network, name = model, model.source
        run = Run(name) if isinstance(model, TrainedDepth) and not model.fresh else None
    else:
        known = named_model(model)
        run, name = known.run, model
        averaged = None if weights is None else weights == "average"
        network = known.load() if run is None else load_student(model, averaged=averaged)
    if weights is not None and (run is None or network is model):
        raise UserError(f"--weights chooses between those of a run, and {name} is none")
    # before it is unwrapped: what a run went on from has its license from its own teachers
    origin = Origin(name) if run is None else origin_of_run(run, network, weights)
    while isinstance(network, TrainedDepth):
        network = network.network
    network = network.cpu().float().eval()
    return network, replace(
        origin, tested=results_section(run, network.identity()) if run is not None else []
    )


def refuse(network: DepthModel) -> None:
    """Say of what has no form to export in, what can be done instead.

    Raises:
        UserError: it is such a network.
    """
    if isinstance(network, OnnxDepth | TorchProgram):
        kind = "an ONNX graph" if isinstance(network, OnnxDepth) else "a program of torch.export"
        raise UserError(
            f"{network.path} is {kind} already, whose weights cannot be had as a network's: copy it"
        )


def _about(network: DepthModel, origin: Origin, license: str) -> dict[str, Any]:
    """What an ONNX graph says of where it is from."""
    sets = None if network.training_sets is None else list(network.training_sets)
    return {"source": origin.name, "license": license, "training_sets": sets}


def _write_all(
    network: DepthModel,
    draft: Path,
    format: str,
    part: str,
    asked: Asked,
    about: dict[str, Any],
    found: _Found,
) -> None:
    """Write all forms into a folder, and compare each with the network, in `found`."""
    if part == ENCODER:
        made, found.rows = write_encoder(network, draft)
        found.forms.append(made)
        return
    scorer = Scorer(network, asked.side)
    for form in tqdm(list(forms_of(format)), desc="export", unit="form", disable=None):
        made, rows = _written(form, network, draft, asked, about)
        found.forms.append(made)
        found.rows += rows
        if all(row.fault is None for row in rows):  # what cannot be compared cannot be scored
            found.scores += form_scores(scorer, made, draft, asked, found.scores)


def _written(
    form: str, network: DepthModel, draft: Path, asked: Asked, about: dict[str, Any]
) -> tuple[str, list[Row]]:
    """Write one form; its name, and how it compares."""
    if form == "onnx":
        return ONNX, write_onnx(network, draft, asked, about)
    if form == "torch":
        return TORCH, write_torch(network, draft, asked, about)
    return write_folder(network, draft, asked)


def _mark(draft: Path, facts: dict[str, Any], found: _Found) -> None:
    """Write what an export is of, how it compares, and which files are its own."""
    files = sorted(str(path.relative_to(draft)) for path in draft.rglob("*") if path.is_file())
    compared = {
        "parity": [asdict(row) for row in found.rows],
        "metrics": [asdict(one) for one in found.scores],
    }
    content = {**facts, **compared, "files": files}
    (draft / MARK).write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def main(command: Command) -> int:
    """Run `depthkd export`; returns the exit status: 1 if what was exported predicts something else.

    Raises:
        UserError, MissingFileError: a user's mistake, as a sentence.
    """
    options = parsed("export", USAGE, export, command.arguments, "model")
    return int(not export(**options.as_dict()).agrees)
