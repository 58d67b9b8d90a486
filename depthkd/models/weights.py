"""Files of weights, read as tensors alone: what is in them, and what is wrong with them."""

import json
import re
from collections.abc import Mapping
from pathlib import Path
from pickle import UnpicklingError
from struct import error as StructError
from typing import Any
from zipfile import ZipFile, is_zipfile

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file
from torch import Tensor

from depthkd.errors import MissingFileError, UserError
from depthkd.paths import user_path

RUN = ("config.yaml", "checkpoints/last.ckpt")  # what tells a run folder of depthkd
# under which checkpoints keep their tensors; the average of the weights first
WRAPPERS = ("state_dict_ema", "model_state_dict", "state_dict", "model")
SUFFIXES = (".safetensors", ".pth", ".pt", ".bin", ".ckpt")
PREFIXES = ("module.", "model.", "network.", "_forward_module.")  # that trainers put before every name
INSERTED = re.compile(r"(?:(?<=\.)|^)(_orig_mod|_fsdp_wrapped_module|_checkpoint_wrapped_module)\.")
LEGACY = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."  # how files of torch before 1.6 begin
FACTS = "depthkd.json"  # in what `depthkd export` wrote: what it is, where no other file says that
HEAD = 2048  # bytes that tell what a file is
PAGE = "probably one to log in or about an error, in place of the file: download it again"
SIGNS = {  # how a file begins -> what it is instead of what it should be
    b"version https://git-lfs": "a Git LFS pointer: fetch the file that it points to with `git lfs pull`",
    b"<!doctype html": f"an HTML page, {PAGE}",
    b"<html": f"an HTML page, {PAGE}",
    b"<": f"a page of XML or HTML, {PAGE}",
    b"\x1f\x8b": "compressed by gzip: unpack it first",
    b"\x89hdf": "an HDF5 file",
}


def read_weights(path: str) -> dict[str, Tensor]:
    """The tensors of a .safetensors or .pth file by name, without running anything in it.

    Names lose what trainers and compilers put before all of them (module., model., _orig_mod.). What
    counts is the file's content, not its suffix.

    Raises:
        MissingFileError: there is no such file.
        UserError: it cannot be read, or holds more than tensors and plain values, or numbers that are
            not finite.
    """
    file = user_path(path)
    if not file.exists():
        raise MissingFileError(f"there is no file of weights '{path}'")
    refuse_run(file)
    return tensors_of(read_content(file), path)


def tensors_of(content: Any, path: str) -> dict[str, Tensor]:
    """The tensors in what `read_content` has read; see `read_weights`.

    Args:
        content: a state dict, or a checkpoint with one.
        path: of its file.

    Raises:
        UserError: it has no state dict, or one with numbers that are not finite.
    """
    if isinstance(content, dict) and "depthkd" in content:
        refuse_run(user_path(path), content)
    tensors = bare_names(_innermost(content, path))
    refuse_broken(tensors, f"'{path}'")
    return tensors


def read_content(
    file: Path, name: str | None = None, denied: str = "no file of weights", lazily: bool = False
) -> Any:
    """What a file of safetensors or of `torch.save` holds, on the CPU; nothing in it is ever run.

    Args:
        file: which; it exists.
        name: what sentences call it; its path in quotes where None.
        denied: what they say that it is, if it cannot be read.
        lazily: leave the tensors on disk until they are used; the file must stay as long.

    Raises:
        UserError: it is another kind of file, was cut short, or holds more than tensors and plain values.
    """
    name = name or f"'{file}'"
    refuse_other_kinds(file, name, denied)
    if holds_safetensors(file):
        return read_safetensors(file)
    refuse_other_archives(file, name, denied)
    try:
        if lazily:
            return torch.load(file, map_location="cpu", weights_only=True, mmap=True)
        with file.open("rb") as opened:  # given a path, torch goes by its suffix
            return torch.load(opened, map_location="cpu", weights_only=True)
    except UnpicklingError as error:
        found = re.search(r"GLOBAL ([\w.]+)", str(error))
        if found is None and "Unsupported operand" in str(error):
            raise UserError(f"{name} is damaged, or was cut short") from error
        what, cut = (
            found[1] if found else "it",
            " or was cut short," if head_of(file).startswith(LEGACY) else "",
        )
        raise UserError(
            f"{name} holds more than tensors and plain values,{cut} so it was not loaded: {what} could run "
            "code; where you trust it, save its state dict alone, as safetensors"
        ) from error
    except (RuntimeError, EOFError, KeyError, ValueError, OSError, StructError) as error:
        raise UserError(f"{name} is {denied}, or was cut short") from error


def read_safetensors(file: Path) -> dict[str, Tensor]:
    """The tensors of a .safetensors file, by name.

    Raises:
        UserError: it is another kind of file, or was cut short.
    """
    refuse_other_kinds(file, f"'{file}'")
    try:
        return dict(load_file(file))
    except (SafetensorError, OSError) as error:
        raise UserError(f"'{file}' is no file of weights, or was cut short") from error


def holds_safetensors(file: Path) -> bool:
    """Whether a file begins as safetensors do: with a header's length, and its bracket."""
    head = head_of(file)
    return head[8:9] == b"{" and head[5:8] == bytes(3)


def refuse_other_kinds(file: Path, name: str, denied: str = "no file of weights") -> None:
    """Refuse what plainly is no file of weights, such as a page that was downloaded in its place.

    Args:
        file: which.
        name, denied: see `read_content`.

    Raises:
        UserError: it is empty, a folder, a page, a pointer or another text, or cannot be opened.
    """
    if file.is_dir():
        inside = sorted(one.name for one in file.iterdir() if one.suffix in SUFFIXES)
        such = f", such as '{file / inside[0]}'" if inside else ""
        raise UserError(f"{name} is a folder; it would be a file of weights{such}")
    try:
        what = sign_of(file)
    except OSError as error:
        raise UserError(f"{name} cannot be read: {error.strerror}") from error
    if what:
        cut = ", or was cut short" if what.startswith("a text") else ""
        raise UserError(f"{name} is {denied}{cut}: it is {what}")


def refuse_other_archives(file: Path, name: str, denied: str) -> None:
    """Refuse what `torch.save` did not write: other zip archives and pickles.

    Args:
        file: which.
        name, denied: see `read_content`.

    Raises:
        UserError: it is one of them, or was cut short.
    """
    head = head_of(file)
    if head.startswith(LEGACY):
        return
    if head[:1] == b"\x80" and head[1] < 6:
        raise UserError(f"{name} is {denied}: it is a pickle that torch did not write, which could run code")
    if not head.startswith(b"PK") or not is_zipfile(file):
        raise UserError(f"{name} is {denied}, or was cut short")
    with ZipFile(file) as archive:
        members = {member.partition("/")[2] for member in archive.namelist()}
    if "constants.pkl" in members:
        raise UserError(
            f"{name} is {denied}: it is a TorchScript program, of which the state dict would be needed"
        )
    if "data.pkl" not in members:
        raise UserError(f"{name} is {denied}: it is a zip archive of something else, to be unpacked first")


def sign_of(file: Path) -> str | None:
    """What a file plainly is instead of what it should be, such as "empty" or "an HTML page"; else None."""
    head = head_of(file)
    if not head:
        return "empty"
    begin = head.lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    for sign, what in SIGNS.items():
        if begin.startswith(sign):
            return what
    if head.isascii() and all(sign.isprintable() or sign.isspace() for sign in head.decode()):
        return f"a text that begins with '{head.decode().strip().splitlines()[0][:60]}'"
    return None


def head_of(file: Path) -> bytes:
    """The first bytes of a file, which tell what it is."""
    with file.open("rb") as opened:
        return opened.read(HEAD)


def why_unreadable(folder: Path, name: str) -> str | None:
    """What is wrong with safetensors in a folder, as the end of a sentence; None where nothing is known.

    Args:
        folder: which.
        name: of the file in it, in whose place `name`.index.json may list several.
    """
    for file in parts_of(folder, name):
        if file.is_file():
            try:
                with safe_open(file, "pt"):
                    continue
            except SafetensorError:
                return f"{file.name} is {sign_of(file) or 'no safetensors file, or was cut short'}"
        if file.is_dir():
            return f"{file.name} is a folder"
        if file.name != name:
            return f"{file.name} is missing, which {name}.index.json lists"
    return None


def renamed(folder: Path, name: str) -> dict[str, Tensor] | None:
    """The tensors of a folder by their `bare_names`; None if these are the names that they have there.

    Args:
        folder, name: as in `why_unreadable`.
    """
    tensors: dict[str, Tensor] = {}
    for file in parts_of(folder, name):
        tensors |= read_safetensors(file)
    bare = bare_names(tensors)
    return None if bare.keys() == tensors.keys() else bare


def parts_of(folder: Path, name: str) -> list[Path]:
    """The file of weights in a folder; or those that `name`.index.json lists, where it is not there."""
    index = folder / f"{name}.index.json"
    if (folder / name).exists() or not index.is_file():
        return [folder / name]
    return sorted({folder / one for one in read_json_file(index).get("weight_map", {}).values()})


def read_json_file(path: Path) -> dict[str, Any]:
    """A JSON file that holds a mapping.

    Raises:
        UserError: it is another kind of file.
    """
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise UserError(f"'{path}' is no JSON: {sign_of(path) or error}") from error
    if not isinstance(values, dict):
        raise UserError(f"'{path}' holds a {type(values).__name__}; it would be a mapping of names to values")
    return values


def refuse_run(path: Path, content: Mapping[str, object] | None = None) -> None:
    """Refuse a run of depthkd where weights are asked for.

    Args:
        path: a folder or a file.
        content: of the file, if it is a checkpoint of a run.

    Raises:
        UserError: it is a run; the sentence says what takes one.
    """
    if content is not None or all((path / part).is_file() for part in RUN):
        raise UserError(
            f"'{path}' is a run of depthkd, and no weights of a single network: its student is the model "
            f"{{class_path: depthkd.runs.TrainedDepth, init_args: {{path: {path}}}}}"
        )


def refuse_broken(tensors: Mapping[str, Tensor], whose: str) -> None:
    """Refuse weights with numbers that are not finite, which would make its predictions NaN, and those that
    are no plain numbers: quantized, complex, sparse.

    A mask may hold -inf: attention adds it where nothing is to be seen.

    Args:
        tensors: by name.
        whose: how a sentence begins, such as "'model.pth'".

    Raises:
        UserError: there are such numbers; the sentence names the first tensor and counts them.
    """
    broken = {}
    for name, tensor in tensors.items():
        whole = name.endswith((".weight", ".bias")) and not tensor.is_floating_point()
        if whole or tensor.is_complex() or tensor.is_quantized or tensor.layout is not torch.strided:
            kind = str(tensor.dtype if tensor.layout is torch.strided else tensor.layout)
            raise UserError(
                f"{whose} holds '{name}' as {kind}; weights would be plain floating-point numbers"
            )
        if not tensor.is_floating_point() or tensor.is_meta:
            continue
        wrong = ~torch.isfinite(tensor if tensor.dtype.itemsize > 1 else tensor.float())
        if name.endswith("mask"):
            wrong &= tensor != -torch.inf
        if count := int(wrong.sum()):
            broken[name] = count
    if broken:
        name, count = next(iter(broken.items()))
        more = f", and {len(broken) - 1} more tensors have such" if len(broken) > 1 else ""
        raise UserError(
            f"{whose} holds numbers that are not finite (NaN or infinite): {count} of "
            f"{tensors[name].numel()} in '{name}'{more}; training had failed when it was saved, or the file "
            "is damaged"
        )


def misfit(tensors: Mapping[str, Tensor], wanted: Mapping[str, Tensor]) -> str | None:
    """The first of the wanted tensors that is not there, or has another shape, as the end of a sentence; None
    where all fit."""
    for name, tensor in wanted.items():
        shape = list(tensors[name].shape) if name in tensors else None
        if shape != list(tensor.shape):
            return f"'{name}' would be {list(tensor.shape)}, and is {shape or 'not there'}"
    return None


def bare_names(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Tensors by the names that their network has, without what was put before all of them."""
    named = {INSERTED.sub("", name): tensor for name, tensor in tensors.items()}
    while found := [p for p in PREFIXES if named and all(name.startswith(p) for name in named)]:
        named = {name.removeprefix(found[0]): tensor for name, tensor in named.items()}
    return named


def _innermost(content: Any, path: str) -> dict[str, Tensor]:
    inner = content
    while isinstance(inner, dict):
        content = inner
        inner = next((content[name] for name in WRAPPERS if isinstance(content.get(name), dict)), None)
    named = isinstance(content, dict) and all(isinstance(name, str) for name in content)
    if not named or not all(isinstance(v, Tensor) for v in content.values()):
        raise UserError(f"'{path}' holds no state dict: no tensors by name, not under {', '.join(WRAPPERS)}")
    return dict(content)
