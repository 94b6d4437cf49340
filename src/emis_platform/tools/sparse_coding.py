"""torch: the few latents that fire, as a list of (row, latent, value), in place of a matrix that is 99 % zeros.

A dictionary of 4,608 latents with 32 firing needs one dense product a step, the encoder's; decoding and all gradients touch 0.7 % of
the matrix. Axes: N activations, D residual width, F latents, P picks (a latent that fires on an activation), L nested levels.
"""

from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import embedding_bag


def batch_top(scaled_NF: Tensor, k: float, bound: float) -> tuple[Tensor, float]:
    """BatchTopK (arXiv 2412.06410): flat, ascending indices [P] of the `k` * N largest positive values, and the smallest of these values.

    Exact, whatever `bound` is: a guess from below (the last batch's answer, say) that leaves few values to order; too high a guess costs
    a second look. Values equal to the smallest one are all kept.
    """
    count = int(k * len(scaled_NF))
    for least in (bound, 0.0):
        found = (scaled_NF > least).flatten().nonzero()[:, 0]
        if len(found) >= count:
            break
    values = scaled_NF.flatten()[found]
    if len(found) > count:
        kept = values >= values.kthvalue(len(values) - count + 1).values
        found, values = found[kept], values[kept]
    return found, float(values.min()) if len(values) else 0.0


def row_top(scaled_NF: Tensor, k: int) -> Tensor:
    """TopK (arXiv 2406.04093): flat, ascending indices [P] of each row's `k` largest values, the positive ones of them."""
    top = scaled_NF.topk(k, dim=-1, sorted=False)
    starts = torch.arange(len(scaled_NF), device=scaled_NF.device)[:, None] * scaled_NF.shape[1]
    return (top.indices + starts)[top.values > 0].sort().values


def transposed(values_P: Tensor, rows_P: Tensor, cols_P: Tensor, dense: Tensor, width: int) -> Tensor:
    """A.T @ dense [width, D] for the sparse A [rows, width] of these picks; sums in a fixed order."""
    order = cols_P.argsort(stable=True)
    starts = torch.searchsorted(cols_P[order], torch.arange(width, device=cols_P.device))
    return embedding_bag(rows_P[order], dense, starts, mode="sum", per_sample_weights=values_P[order])


class Encode(torch.autograd.Function):
    """Values [P] of the picked latents, known already from a dense product, with gradients for the encoder at the picks alone."""

    @staticmethod
    def forward(
        ctx: Any,
        W_enc_DF: Tensor,
        b_enc_F: Tensor,
        b_dec_D: Tensor,
        values_P: Tensor,
        centred_ND: Tensor,
        rows_P: Tensor,
        cols_P: Tensor,
    ) -> Tensor:
        ctx.save_for_backward(W_enc_DF, centred_ND, rows_P, cols_P)
        return values_P.clone()

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Any:
        W_enc_DF, centred_ND, rows_P, cols_P = ctx.saved_tensors
        width = W_enc_DF.shape[1]
        weights_FD = transposed(grads[0], rows_P, cols_P, centred_ND, width)
        bias_F = torch.zeros(width, device=grads[0].device).index_add_(0, cols_P, grads[0])
        return weights_FD.T, bias_F, -(W_enc_DF @ bias_F), None, None, None, None


class Decode(torch.autograd.Function):
    """A @ W_dec [rows, D] for the sparse A of picks in ascending order of row, and both gradients."""

    @staticmethod
    def forward(ctx: Any, values_P: Tensor, W_dec_FD: Tensor, rows_P: Tensor, cols_P: Tensor, rows: int) -> Tensor:
        starts = torch.searchsorted(rows_P, torch.arange(rows, device=rows_P.device))
        ctx.save_for_backward(values_P, W_dec_FD, rows_P, cols_P, starts)
        return embedding_bag(cols_P, W_dec_FD, starts, mode="sum", per_sample_weights=values_P)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Any:
        values_P, W_dec_FD, rows_P, cols_P, starts = ctx.saved_tensors
        grad = grads[0].contiguous()
        dots_P = torch.ops.aten._embedding_bag_per_sample_weights_backward(grad, W_dec_FD, cols_P, starts, rows_P, 0)
        return dots_P, transposed(values_P, rows_P, cols_P, grad, len(W_dec_FD)), None, None, None


def decode_levels(values_P: Tensor, rows_P: Tensor, cols_P: Tensor, W_dec_FD: Tensor, widths: list[int], count: int) -> Tensor:
    """What the first widths[0], widths[1], ... latents write, without bias [L, N, D]: each pick is decoded once, then levels are summed."""
    if len(widths) == 1:
        return Decode.apply(values_P, W_dec_FD, rows_P, cols_P, count)[None]
    level_P = torch.bucketize(cols_P, torch.tensor(widths, device=cols_P.device), right=True)
    key_P, order = (level_P * count + rows_P).sort(stable=True)
    own = Decode.apply(values_P[order], W_dec_FD, key_P, cols_P[order], len(widths) * count)
    return own.view(len(widths), count, -1).cumsum(0)


def dead_loss(
    scaled_NF: Tensor, dead_F: Tensor, residual_ND: Tensor, centred_ND: Tensor, W_enc_DF: Tensor, b_enc_F: Tensor, W_dec_FD: Tensor
) -> Tensor:
    """SAELens' auxiliary loss: each activation's most excited dead latents, at most D / 2, rebuild what the live ones left.

    `centred_ND` may carry a gradient. Only the dead latents' columns are touched.
    """
    dead = dead_F.nonzero()[:, 0]
    if not len(dead):
        return residual_ND.new_tensor(0.0)
    most = residual_ND.shape[-1] // 2
    raw = torch.addmm(b_enc_F.index_select(0, dead), centred_ND, W_enc_DF.T.index_select(0, dead).T)
    if len(dead) > most:
        top = scaled_NF.index_select(1, dead).topk(most, sorted=False).indices
        raw = raw * torch.zeros_like(raw).scatter_(-1, top, 1.0)
    loss = (raw @ W_dec_FD.index_select(0, dead) - residual_ND).square().sum(-1).mean()
    return min(len(dead) / most, 1.0) * loss
