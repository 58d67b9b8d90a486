"""Feature alignment of Depth Anything (arXiv 2401.10891, section 3.3); L_feat of Distill Any Depth, Eq. 9."""

from typing import TypeAlias

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional as F

from depthkd.errors import UserError
from depthkd.shapes import PerImage

Tokens = Float[Tensor, "batch tokens channels"]
Grid: TypeAlias = tuple[int, int]

EPSILON = 1e-6  # a token that is no longer than this has no direction


def directions(tokens: Tokens) -> Tokens:
    """Each token over its length; 0, with gradient 0, where it has no direction; NaN stays NaN."""
    length = torch.linalg.vector_norm(tokens, dim=-1, keepdim=True)
    return torch.where(length <= EPSILON, 0, tokens / length.clamp(min=EPSILON))


def feature_alignment_loss(
    student: Tokens,
    teacher: Float[Tensor, "batch _ _"],
    margin: float | None = 0.85,
    mask: Bool[Tensor, "batch _"] | None = None,
) -> PerImage:
    """1 - mean cosine of the tokens that are not yet alike, one value an image.

    A token counts while its cosine is not above `margin`. The mean is over the tokens that count;
    the paper leaves open whether the others stay in the denominator. An image without one has loss
    0 and gradient 0. A zero vector has cosine 0 and gradient 0. Computed in float32, or in float64
    if a map is.

    Args:
        student: final encoder features; no gradient goes to the teacher's.
        teacher: those of a frozen encoder, on the same grid and with as many channels.
        margin: the paper's alpha; None counts all tokens.
        mask: the teacher's valid tokens; what stands elsewhere does not matter. None: all are.

    Raises:
        UserError: the two do not have as many tokens, or as many channels.
    """
    if student.shape != teacher.shape:
        (tokens, channels), (their_tokens, their_channels) = student.shape[1:], teacher.shape[1:]
        raise UserError(
            f"features of {tokens} tokens and {channels} channels cannot be aligned with features of "
            f"{their_tokens} tokens and {their_channels} channels: resample the tokens, and take a "
            "teacher's encoder of the student's width or project the student's features to it"
        )
    dtype = torch.promote_types(torch.promote_types(student.dtype, teacher.dtype), torch.float32)
    student, teacher = student.to(dtype), teacher.detach().to(dtype)
    if mask is not None:
        student, teacher = (torch.where(mask[..., None], tokens, 0) for tokens in (student, teacher))
    cosine = (directions(student) * directions(teacher)).sum(-1)
    kept = torch.ones_like(cosine, dtype=torch.bool) if margin is None else ~(cosine > margin)
    kept = kept if mask is None else kept & mask
    return torch.where(kept, 1 - cosine, 0).sum(1) / kept.sum(1).clamp(min=1)


def resample_tokens(tokens: Tokens, grid: Grid, target: Grid) -> Float[Tensor, "batch _ channels"]:
    """Bilinear resampling of a grid of tokens, listed row by row, to another grid of the same image.

    For networks whose patches differ in size. A coarser result is smoothed first (antialiasing), so
    that all tokens have a say.

    Args:
        tokens: patch tokens alone, without class or register tokens.
        grid: their rows and columns.
        target: rows and columns of the result.

    Raises:
        UserError: the grid does not have as many places as there are tokens.
    """
    batch, count, channels = tokens.shape
    if grid[0] * grid[1] != count:
        raise UserError(
            f"{count} tokens are not a grid of {grid[0]} x {grid[1]} = {grid[0] * grid[1]}: give the rows "
            "and columns of the patch tokens, and leave out class and register tokens"
        )
    wide = torch.promote_types(tokens.dtype, torch.float32)
    maps = tokens.to(wide).transpose(1, 2).reshape(batch, channels, *grid)
    maps = F.interpolate(maps, target, mode="bilinear", align_corners=False, antialias=True)
    return maps.flatten(2).transpose(1, 2)


def token_grid(tokens: int, aspect: float) -> tuple[int, int]:
    """Rows and columns of the patch tokens of an image whose height is `aspect` times its width."""
    rows = max(1, round((tokens * aspect) ** 0.5))
    while tokens % rows:
        rows -= 1
    return rows, tokens // rows
