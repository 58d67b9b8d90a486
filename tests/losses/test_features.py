import math

import pytest
import torch

from depthkd.losses.features import feature_alignment_loss, resample_tokens


def tokens(seed: int = 0, count: int = 12, channels: int = 5) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    teacher = torch.randn(3, count, channels, generator=generator, dtype=torch.float64)
    noise = torch.randn(3, count, channels, generator=generator, dtype=torch.float64)
    return teacher + noise * torch.linspace(0.1, 2, count)[:, None], teacher


def oracle(student: torch.Tensor, teacher: torch.Tensor, margin: float | None) -> float:
    kept = []
    for s, t in zip(student.tolist(), teacher.tolist(), strict=True):
        lengths = [math.sqrt(sum(x * x for x in v)) for v in (s, t)]
        cosine = sum(a * b for a, b in zip(s, t, strict=True)) / (lengths[0] * lengths[1])
        if margin is None or cosine <= margin:
            kept.append(cosine)
    return 1 - sum(kept) / len(kept) if kept else 0.0


@pytest.mark.parametrize("margin", [None, 0.85, 0.2, -0.999])
def test_equals_the_written_out_mean(margin: float | None) -> None:
    student, teacher = tokens()
    expected = [oracle(student[i], teacher[i], margin) for i in range(3)]
    loss = feature_alignment_loss(student, teacher, margin)
    torch.testing.assert_close(loss, torch.tensor(expected, dtype=torch.float64))
    single = feature_alignment_loss(student.float(), teacher.float(), margin)
    torch.testing.assert_close(single.double(), loss, rtol=1e-5, atol=1e-6)


def test_only_tokens_that_differ_count_and_get_a_gradient() -> None:
    teacher = torch.tensor([[[1.0, 0.0], [1.0, 0.0], [1.0, 0.0]], [[1.0, 0.0], [0.0, 2.0], [3.0, 0.0]]])
    student = torch.tensor([[[2.0, 0.0], [0.0, 3.0], [1.0, 0.1]], [[5.0, 0.0], [0.0, 1.0], [1.0, 0.0]]])
    student.requires_grad_()
    loss = feature_alignment_loss(student, teacher)
    assert loss.tolist() == [1.0, 0.0]
    loss.sum().backward()
    assert student.grad is not None
    assert (student.grad != 0).any(2).tolist() == [[False, True, False], [False] * 3]


@pytest.mark.parametrize("margin", [None, 0.85])
def test_gradient_check_and_no_gradient_to_the_teacher(margin: float | None) -> None:
    student, teacher = tokens(1, 4, 3)
    student.requires_grad_()
    assert torch.autograd.gradcheck(lambda s: feature_alignment_loss(s, teacher, margin), (student,))
    teacher.requires_grad_()
    feature_alignment_loss(student, teacher, margin).sum().backward()
    assert teacher.grad is None


def test_zero_vectors_are_unlike_everything_and_get_no_gradient() -> None:
    student, teacher = (x.float() for x in tokens())
    student[0, 1] = teacher[1, 2] = 0
    student[2] = 0
    student.requires_grad_()
    loss = feature_alignment_loss(student, teacher, None)
    assert loss[2] == 1
    loss.sum().backward()
    assert student.grad is not None
    assert torch.isfinite(student.grad).all()
    assert (student.grad[0, 1] == 0).all()
    assert (student.grad[1, 2] == 0).all()
    assert float(student.grad.abs().max()) < 10


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_widened_before_anything_overflows(dtype: torch.dtype) -> None:
    student, teacher = (x.to(dtype) for x in tokens(channels=300))
    wide = feature_alignment_loss(student.double(), teacher.double())
    loss = feature_alignment_loss(student * 100, teacher * 100)  # whose squares float16 cannot hold
    assert loss.dtype is torch.float32
    torch.testing.assert_close(loss.double(), wide, rtol=2e-2 if dtype is torch.bfloat16 else 2e-3, atol=0)
    with torch.autocast("cpu", torch.bfloat16):
        torch.testing.assert_close(feature_alignment_loss(student * 100, teacher * 100), loss)


def test_scale_of_a_token_and_order_of_tokens_do_not_matter() -> None:
    student, teacher = tokens()
    plain = feature_alignment_loss(student, teacher)
    lengths = torch.rand(3, 12, 1, dtype=torch.float64) + 0.1
    torch.testing.assert_close(feature_alignment_loss(student * lengths, teacher / lengths), plain)
    order = torch.randperm(12)
    torch.testing.assert_close(feature_alignment_loss(student[:, order], teacher[:, order]), plain)


def test_features_of_other_sizes_are_refused() -> None:
    student, teacher = tokens()
    with pytest.raises(ValueError, match=r"12 tokens and 5 channels .* 12 tokens and 4 channels"):
        feature_alignment_loss(student, teacher[:, :, :4])
    with pytest.raises(ValueError, match="12 tokens are not a grid of 3 x 5 = 15"):
        resample_tokens(student, (3, 5), (4, 4))


def test_resampled_tokens_are_those_of_a_linear_image() -> None:
    def image(rows: int, columns: int) -> torch.Tensor:
        y, x = (torch.arange(rows) + 0.5) / rows, (torch.arange(columns) + 0.5) / columns
        return torch.stack([3 * y[:, None] - x, x + 0 * y[:, None]], -1).view(1, -1, 2).double()

    finer = resample_tokens(image(6, 8), (6, 8), (7, 16)).view(7, 16, 2)
    inner = (slice(1, -1), slice(1, -1))  # beyond the outermost centers there is nothing to interpolate
    torch.testing.assert_close(finer[inner], image(7, 16).view(7, 16, 2)[inner])
    coarser = resample_tokens(image(40, 40), (40, 40), (5, 4)).view(5, 4, 2)
    torch.testing.assert_close(coarser[1:-1, 1:-1], image(5, 4).view(5, 4, 2)[1:-1, 1:-1])
    torch.testing.assert_close(resample_tokens(image(6, 8), (6, 8), (6, 8)), image(6, 8))


def test_resampling_has_a_gradient_and_takes_half_precision() -> None:
    student = tokens()[0][:1].requires_grad_()
    assert torch.autograd.gradcheck(lambda s: resample_tokens(s, (3, 4), (2, 5)), (student,))
    half = resample_tokens(student.detach().half(), (3, 4), (2, 5))
    assert half.dtype is torch.float32
    expected = resample_tokens(student.detach(), (3, 4), (2, 5))
    torch.testing.assert_close(half.double(), expected, rtol=1e-2, atol=2e-3)


def test_tokens_outside_the_mask_do_not_matter_and_nan_inside_is_not_hidden() -> None:
    student, teacher = tokens()
    mask = torch.rand(student.shape[:2], generator=torch.Generator().manual_seed(2)) > 0.4
    mask[1] = False
    expected = [oracle(student[i][mask[i]], teacher[i][mask[i]], 0.85) for i in range(3)]
    for spoilt in (torch.nan, torch.inf, 0.0):
        theirs = torch.where(mask[..., None], teacher, spoilt).requires_grad_()
        ours = torch.where(mask[..., None], student, spoilt).requires_grad_()
        loss = feature_alignment_loss(ours, theirs, 0.85, mask)
        torch.testing.assert_close(loss, torch.tensor(expected, dtype=torch.float64))
        loss.sum().backward()
        assert ours.grad is not None and bool(ours.grad.isfinite().all())
        assert bool((ours.grad[~mask] == 0).all())
    student[0, 0] = torch.nan
    assert feature_alignment_loss(student, teacher).isnan().tolist() == [True, False, False]
