"""The flight network compiled: float32, one sample, one thread. ``waypoints.py`` states the equations.

Sequences are (T, H), C-contiguous. Fast-math leaves out nnan and ninf: a NaN in is a NaN out. All compiled functions
stand in this one file because numba's disk cache looks at the caller's file only: it would not notice a change of a
callee elsewhere.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.extending import intrinsic
from numpy.typing import NDArray

from deq_mpc_core.networks.config import FixedPointConfig
from deq_mpc_core.networks.flight_weights import (
    Array32,
    AttentionStack,
    ConvWeights,
    EncoderWeights,
    EquilibriumWeights,
    Mlp,
    RefinerWeights,
)

Array = NDArray[np.float64]

FASTMATH = {"contract", "reassoc", "nsz", "arcp"}
jit = njit(cache=True, error_model="numpy", fastmath=FASTMATH)

_EPSILON = np.float32(1e-5)
_ZERO, _HALF, _ONE = np.float32(0.0), np.float32(0.5), np.float32(1.0)
_TINY = float(np.finfo(np.float32).tiny)
_LOWEST = np.float32(-87.0)
"""exp of it is the smallest normal float32."""
_LOG2_E, _LN2 = np.float32(1.0 / math.log(2.0)), np.float32(math.log(2.0))
_EXP = tuple(map(np.float32, (1.98756915e-4, 1.39819995e-3, 8.33345191e-3, 4.16657959e-2, 1.66666655e-1, 0.5)))


class FlightContext(NamedTuple):
    """What refine needs of the observation: injection (T, H), baseline (T, 6), authority; see ``waypoints.Context``."""

    injection: Array32
    baseline: Array
    authority: float


class Mixing(NamedTuple):
    """``FixedPointConfig`` for the kernels."""

    memory: int
    mixing: np.float32
    max_steps: int
    tolerance: float
    regularisation: float


def fixed_point_options(config: FixedPointConfig) -> Mixing:
    """The scalars of a configuration."""
    return Mixing(config.memory, np.float32(config.mixing), config.max_steps, config.tolerance, config.regularisation)


class Tape(NamedTuple):
    """What d computes on its way, each (T, H): all that its gradient needs; see `_apply_block`."""

    rectified: Array32
    mixed: Array32
    injected: Array32
    joined: Array32


class TransposedWeights(NamedTuple):
    """Convolutions that carry gradients back, (3 O, I): taps in reverse, each transposed. weight1 may be empty, which
    leaves conv1's part of the gradient with respect to z out."""

    weight1: Array32
    weight2: Array32


class BlockGradients(NamedTuple):
    """With respect to z, I and conv1's output, (B, T, H), and to the norms' gains and shifts, (B, 3, H), each sample on
    its own. I's is also that of conv2's output; with ``neighbours`` (2, B, T, 3 H), the rows that conv1 and conv2
    multiply, the weights' gradients are two products over the whole batch."""

    z: Array32
    injection: Array32
    rectified: Array32
    gains: Array32
    shifts: Array32
    neighbours: Array32


class Equilibrium(NamedTuple):
    """See ``fixed_point.FixedPoint``; z*, argument: (T, H). The tape of the application z* = d(argument, I) is (0, H)
    if it was not to be kept."""

    z: Array32
    residual: float
    steps: int
    argument: Array32
    tape: Tape


class EquilibriumBatch(NamedTuple):
    """Inputs and outputs of `solve_equilibria`: injections, starts, z (B, T, H); residuals, steps (B,); arguments
    (B, T, H) and the tape of their applications, (B, T, H), or of no samples if that is not wanted."""

    injections: Array32
    starts: Array32
    z: Array32
    residuals: Array32
    steps: NDArray[np.int64]
    arguments: Array32
    tape: Tape


@jit
def _affine(x: Array32, weight: Array32, bias: Array32, out: Array32) -> None:
    """out (M, O) = x (M, I) W + bias."""
    for m in range(out.shape[0]):
        for j in range(out.shape[1]):
            out[m, j] = bias[j]
    _accumulate(x, weight, out)


@jit
def _convolve(x: Array32, weight: Array32, bias: Array32, out: Array32) -> None:
    """Kernel-3 convolution with zero padding of x (T, I); weight: (3 I, O), out: (T, O)."""
    for t in range(out.shape[0]):
        for j in range(out.shape[1]):
            out[t, j] = bias[j]
    _convolve_more(x, weight, out)


@jit
def _convolve_more(x: Array32, weight: Array32, out: Array32) -> None:
    """`_convolve` added to out."""
    rows, inputs = x.shape
    for tap in range(3):
        first, last = max(0, 1 - tap), min(rows, rows + 1 - tap)
        _accumulate(x[first + tap - 1 : last + tap - 1], weight[tap * inputs : (tap + 1) * inputs], out[first:last])


@jit
def _accumulate(x: Array32, weight: Array32, out: Array32) -> None:
    """out (M, O) += x (M, I) W.

    Blocks of 4 rows by 4 inputs reuse what is loaded: 87 GFLOP/s on one 2.6 GHz core, against 26 for the plain loops.
    """
    rows = out.shape[0]
    blocked = rows // 4 * 4
    for m in range(0, blocked, 4):
        _accumulate_block(x[m], x[m + 1], x[m + 2], x[m + 3], weight, out[m : m + 4])
    for m in range(blocked, rows):
        _accumulate_row(x[m], weight, out[m])


@jit
def _accumulate_row(x: Array32, weight: Array32, out: Array32) -> None:
    """One row of `_accumulate`; x: (I,), out: (O,). Blocks of 4 inputs reuse the output."""
    inputs = weight.shape[0]
    blocked = inputs // 4 * 4
    for i in range(0, blocked, 4):
        w0, w1, w2, w3 = weight[i], weight[i + 1], weight[i + 2], weight[i + 3]
        a0, a1, a2, a3 = x[i], x[i + 1], x[i + 2], x[i + 3]
        for j in range(out.size):
            out[j] += a0 * w0[j] + a1 * w1[j] + a2 * w2[j] + a3 * w3[j]
    for i in range(blocked, inputs):
        a, w = x[i], weight[i]
        for j in range(out.size):
            out[j] += a * w[j]


@jit
def _accumulate_block(x0: Array32, x1: Array32, x2: Array32, x3: Array32, weight: Array32, out: Array32) -> None:
    """Four rows of `_accumulate`; x0..x3: (I,), out: (4, O)."""
    inputs, outputs = weight.shape
    blocked = inputs // 4 * 4
    out0, out1, out2, out3 = out[0], out[1], out[2], out[3]
    for i in range(0, blocked, 4):
        w0, w1, w2, w3 = weight[i], weight[i + 1], weight[i + 2], weight[i + 3]
        a00, a01, a02, a03 = x0[i], x0[i + 1], x0[i + 2], x0[i + 3]
        a10, a11, a12, a13 = x1[i], x1[i + 1], x1[i + 2], x1[i + 3]
        a20, a21, a22, a23 = x2[i], x2[i + 1], x2[i + 2], x2[i + 3]
        a30, a31, a32, a33 = x3[i], x3[i + 1], x3[i + 2], x3[i + 3]
        for j in range(outputs):
            v0, v1, v2, v3 = w0[j], w1[j], w2[j], w3[j]
            out0[j] += a00 * v0 + a01 * v1 + a02 * v2 + a03 * v3
            out1[j] += a10 * v0 + a11 * v1 + a12 * v2 + a13 * v3
            out2[j] += a20 * v0 + a21 * v1 + a22 * v2 + a23 * v3
            out3[j] += a30 * v0 + a31 * v1 + a32 * v2 + a33 * v3
    for i in range(blocked, inputs):
        w = weight[i]
        a0, a1, a2, a3 = x0[i], x1[i], x2[i], x3[i]
        for j in range(outputs):
            out0[j] += a0 * w[j]
            out1[j] += a1 * w[j]
            out2[j] += a2 * w[j]
            out3[j] += a3 * w[j]


@jit
def _relu(x: Array32) -> None:
    """In place."""
    flat = x.reshape(x.size)
    for i in range(flat.size):
        flat[i] = _ZERO if flat[i] < _ZERO else flat[i]


@jit
def _layer_norm(x: Array32, gain: Array32, shift: Array32) -> None:
    """Normalise each row of x (M, H), in place."""
    size = np.float32(x.shape[1])
    for m in range(x.shape[0]):
        row = x[m]
        mean, variance = _ZERO, _ZERO
        for j in range(row.size):
            mean += row[j]
        mean /= size
        for j in range(row.size):
            variance += (row[j] - mean) * (row[j] - mean)
        inverse = _ONE / math.sqrt(variance / size + _EPSILON)
        for j in range(row.size):
            row[j] = (row[j] - mean) * inverse * gain[j] + shift[j]


@jit
def _average_groups(sums: Array32, groups: int, count: np.float32) -> None:
    """Replace per-channel sums (H,) by the average of their group, of ``count`` numbers."""
    width = sums.size // groups
    for g in range(groups):
        total = _ZERO
        for j in range(g * width, (g + 1) * width):
            total += sums[j]
        for j in range(g * width, (g + 1) * width):
            sums[j] = total / count


@jit
def _group_norm(x: Array32, groups: int, gain: Array32, shift: Array32, scratch: Array32) -> None:
    """Normalise x (T, H) over rows and the channels of each group, in place; scratch: (2, H)."""
    mean, scale = scratch[0], scratch[1]
    rows, channels = x.shape
    count = np.float32(rows * (channels // groups))
    mean[:] = _ZERO
    scale[:] = _ZERO
    for t in range(rows):
        for j in range(channels):
            mean[j] += x[t, j]
    _average_groups(mean, groups, count)
    for t in range(rows):
        for j in range(channels):
            scale[j] += (x[t, j] - mean[j]) * (x[t, j] - mean[j])
    _average_groups(scale, groups, count)
    for j in range(channels):
        scale[j] = gain[j] / math.sqrt(scale[j] + _EPSILON)
    for t in range(rows):
        for j in range(channels):
            x[t, j] = (x[t, j] - mean[j]) * scale[j] + shift[j]


@jit
def _apply_mlp(mlp: Mlp, x: Array32, hidden: Array32, out: Array32) -> None:
    """out (M, O) = MLP(x (M, I)); hidden: (M, H) scratch."""
    _affine(x, mlp.weight1, mlp.bias1, hidden)
    _layer_norm(hidden, mlp.gain, mlp.shift)
    _relu(hidden)
    _affine(hidden, mlp.weight2, mlp.bias2, out)


def _bitcast(_context: Any, _bits: Any) -> Any:
    """The float32 whose bits are those of an int32."""

    def generate(_context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        return builder.bitcast(arguments[0], ir.FloatType())

    return types.float32(types.int32), generate


_float_of_bits: Any = intrinsic(_bitcast)


@jit
def _exp(x: np.float32) -> np.float32:
    """exp(x) for x <= 0, 3e-7 off at most, in what vectorises; the C library's does not. NaN stays NaN.

    x = n ln 2 + r, |r| <= ln 2 / 2, and the polynomial of the Cephes library for exp(r).
    """
    x = _LOWEST if x < _LOWEST else x
    n = np.floor(x * _LOG2_E + _HALF)
    r = x - n * _LN2
    tail = ((((_EXP[0] * r + _EXP[1]) * r + _EXP[2]) * r + _EXP[3]) * r + _EXP[4]) * r + _EXP[5]
    return (tail * r * r + r + _ONE) * _float_of_bits((np.int32(n) + np.int32(127)) << np.int32(23))


@jit
def _exponentiate(scores: Array32) -> np.float32:
    """exp(scores - max scores), in place; returns their sum."""
    largest, total = scores[0], _ZERO
    for k in range(scores.size):
        largest = max(largest, scores[k])
    for k in range(scores.size):
        scores[k] = _exp(scores[k] - largest)
        total += scores[k]
    return total


@jit
def _mix(query: Array32, key_value: Array32, heads: int, mixed: Array32) -> None:
    """mixed (Q, H) = softmax(query keys / sqrt(H / heads)) values, a head at a time; key_value: (K, 2H)."""
    count, hidden = query.shape
    tokens, width = len(key_value), hidden // heads
    scale = _ONE / np.float32(math.sqrt(width))
    asked, given = np.empty((count, width), np.float32), np.empty((count, width), np.float32)
    keys, values = np.empty((width, tokens), np.float32), np.empty((tokens, width), np.float32)
    scores, zeros = np.empty((count, tokens), np.float32), np.zeros(max(tokens, width), np.float32)
    for first in range(0, hidden, width):
        for q in range(count):
            for d in range(width):
                asked[q, d] = scale * query[q, first + d]
        for d in range(width):
            for k in range(tokens):
                keys[d, k] = key_value[k, first + d]
        for k in range(tokens):
            for d in range(width):
                values[k, d] = key_value[k, hidden + first + d]
        _affine(asked, keys, zeros[:tokens], scores)
        for q in range(count):
            asked[q, 0] = _ONE / _exponentiate(scores[q])
        _affine(scores, values, zeros[:width], given)
        for q in range(count):
            for d in range(width):
                mixed[q, first + d] = asked[q, 0] * given[q, d]


@jit
def _attend(stack: AttentionStack, layer: int, heads: int, queries: Array32, tokens: Array32) -> None:
    """Layer ``layer`` of the stack: queries (Q, H), changed in place, attend to tokens (K, H), maybe the same array."""
    count, hidden = queries.shape
    query, mixed = np.empty((count, hidden), np.float32), np.empty((count, hidden), np.float32)
    key_value = np.empty((len(tokens), 2 * hidden), np.float32)
    _affine(queries, stack.query_weight[layer], stack.query_bias[layer], query)
    _affine(tokens, stack.key_value_weight[layer], stack.key_value_bias[layer], key_value)
    _mix(query, key_value, heads, mixed)
    _affine(mixed, stack.output_weight[layer], stack.output_bias[layer], query)
    for q in range(count):
        for j in range(hidden):
            queries[q, j] += query[q, j]
    _layer_norm(queries, stack.gain[layer], stack.shift[layer])


@jit
def _solve_conv_stack(weights: ConvWeights, groups: int, injection: Array32) -> Array32:
    """h <- h + ReLU(GN(conv(h))) from h = injection (T, H), which is overwritten; returns h."""
    rows, channels = injection.shape
    out, scratch = np.empty((rows, channels), np.float32), np.empty((2, channels), np.float32)
    for block in range(len(weights.bias)):
        _convolve(injection, weights.weight[block], weights.bias[block], out)
        _group_norm(out, groups, weights.gain[block], weights.shift[block], scratch)
        _relu(out)
        for t in range(rows):
            for j in range(channels):
                injection[t, j] += out[t, j]
    return injection


@jit
def _new_tape(rows: int, channels: int) -> Tape:
    """Room for one sample."""
    shape = (rows, channels)
    return Tape(
        np.empty(shape, np.float32),
        np.empty(shape, np.float32),
        np.empty(shape, np.float32),
        np.empty(shape, np.float32),
    )


@jit
def _apply_block(
    weights: EquilibriumWeights, groups: int, injection: Array32, z: Array32, tape: Tape, sums: Array32, out: Array32
) -> None:
    """out = d(z, I), all (T, H); sums: (2, H) scratch.

    rectified = ReLU(conv(z)), mixed = GN(rectified), injected = I + conv(mixed), joined = ReLU(z + GN(injected)),
    out = GN(joined).
    """
    rows, channels = z.shape
    _convolve(z, weights.weight1, weights.bias1, tape.rectified)
    _relu(tape.rectified)
    tape.mixed[:] = tape.rectified
    _group_norm(tape.mixed, groups, weights.gain1, weights.shift1, sums)
    _convolve(tape.mixed, weights.weight2, weights.bias2, tape.injected)
    for t in range(rows):
        for j in range(channels):
            tape.injected[t, j] += injection[t, j]
    tape.joined[:] = tape.injected
    _group_norm(tape.joined, groups, weights.gain2, weights.shift2, sums)
    for t in range(rows):
        for j in range(channels):
            tape.joined[t, j] += z[t, j]
    _relu(tape.joined)
    out[:] = tape.joined
    _group_norm(out, groups, weights.gain3, weights.shift3, sums)


@jit
def _copy_tape(tape: Tape, out: Tape) -> None:
    out.rectified[:] = tape.rectified
    out.mixed[:] = tape.mixed
    out.injected[:] = tape.injected
    out.joined[:] = tape.joined


@jit
def _sample_tape(tape: Tape, b: int) -> Tape:
    return Tape(tape.rectified[b], tape.mixed[b], tape.injected[b], tape.joined[b])


@jit
def _sample_grads(grads: BlockGradients, b: int) -> BlockGradients:
    return BlockGradients(
        grads.z[b], grads.injection[b], grads.rectified[b], grads.gains[b], grads.shifts[b], grads.neighbours[:, b]
    )


@jit
def _stack_neighbours(x: Array32, out: Array32) -> None:
    """out (T, 3 H): [x_{t-1}; x_t; x_{t+1}] of x (T, H), zero beyond the ends; see ``layers.stack_neighbours``."""
    rows, channels = x.shape
    for t in range(rows):
        for tap in range(3):
            part, source = out[t, tap * channels : (tap + 1) * channels], t + tap - 1
            if 0 <= source < rows:
                part[:] = x[source]
            else:
                part[:] = _ZERO


@jit
def _group_norm_gradient(
    x: Array32, groups: int, gain: Array32, bar: Array32, gain_bar: Array32, shift_bar: Array32, sums: Array32
) -> None:
    """From bar (T, H), the gradient with respect to GN(x), to that with respect to x (T, H), in place; sums: (4, H).

    With y = (x - mean) / sigma and y_bar = gain bar: x_bar = (y_bar - <y_bar> - y <y_bar y>) / sigma, <> over a group.
    """
    mean, inverse, average, product = sums[0], sums[1], sums[2], sums[3]
    rows, channels = x.shape
    count = np.float32(rows * (channels // groups))
    sums[:] = _ZERO
    gain_bar[:] = _ZERO
    shift_bar[:] = _ZERO
    for t in range(rows):
        for j in range(channels):
            mean[j] += x[t, j]
    _average_groups(mean, groups, count)
    for t in range(rows):
        for j in range(channels):
            inverse[j] += (x[t, j] - mean[j]) * (x[t, j] - mean[j])
    _average_groups(inverse, groups, count)
    for j in range(channels):
        inverse[j] = _ONE / math.sqrt(inverse[j] + _EPSILON)
    for t in range(rows):
        for j in range(channels):
            shift_bar[j] += bar[t, j]
            gain_bar[j] += bar[t, j] * (x[t, j] - mean[j]) * inverse[j]
    for j in range(channels):
        average[j] = gain[j] * shift_bar[j]
        product[j] = gain[j] * gain_bar[j]
    _average_groups(average, groups, count)
    _average_groups(product, groups, count)
    for t in range(rows):
        for j in range(channels):
            y = (x[t, j] - mean[j]) * inverse[j]
            bar[t, j] = (gain[j] * bar[t, j] - average[j] - y * product[j]) * inverse[j]


@jit
def _differentiate_block(
    weights: EquilibriumWeights,
    transposed: TransposedWeights,
    groups: int,
    tape: Tape,
    out_bar: Array32,
    grads: BlockGradients,
    sums: Array32,
) -> None:
    """The chain rule backwards through `_apply_block`; out_bar: (T, H), sums: (4, H) scratch."""
    rows, channels = out_bar.shape
    gains, shifts = grads.gains, grads.shifts
    grads.z[:] = out_bar
    _group_norm_gradient(tape.joined, groups, weights.gain3, grads.z, gains[2], shifts[2], sums)
    for t in range(rows):
        for j in range(channels):
            grads.z[t, j] = grads.z[t, j] if tape.joined[t, j] > _ZERO else _ZERO
    grads.injection[:] = grads.z
    _group_norm_gradient(tape.injected, groups, weights.gain2, grads.injection, gains[1], shifts[1], sums)
    grads.rectified[:] = _ZERO
    _convolve_more(grads.injection, transposed.weight2, grads.rectified)
    _group_norm_gradient(tape.rectified, groups, weights.gain1, grads.rectified, gains[0], shifts[0], sums)
    for t in range(rows):
        for j in range(channels):
            grads.rectified[t, j] = grads.rectified[t, j] if tape.rectified[t, j] > _ZERO else _ZERO
    if transposed.weight1.size:
        _convolve_more(grads.rectified, transposed.weight1, grads.z)


@jit
def _dot(a: Array32, b: Array32) -> np.float32:
    total = np.float32(0.0)
    for i in range(a.size):
        total += a[i] * b[i]
    return total


@jit
def _solve_weights(gram: Array, stored: int, regularisation: float, weights: Array) -> None:
    """Mixing weights (stored,): (gram + lambda I) a = 1, scaled to sum one; Cholesky in float64."""
    factor = np.empty((stored, stored))
    ridge = gram[0, 0]
    for i in range(stored):
        ridge = min(ridge, gram[i, i])
    ridge = regularisation * ridge + _TINY
    for i in range(stored):
        for j in range(i + 1):
            value = gram[i, j] + (ridge if i == j else 0.0)
            for k in range(j):
                value -= factor[i, k] * factor[j, k]
            factor[i, j] = math.sqrt(value) if i == j else value / factor[j, j]
    for i in range(stored):
        value = 1.0
        for k in range(i):
            value -= factor[i, k] * weights[k]
        weights[i] = value / factor[i, i]
    total = 0.0
    for i in range(stored - 1, -1, -1):
        value = weights[i]
        for k in range(i + 1, stored):
            value -= factor[k, i] * weights[k]
        weights[i] = value / factor[i, i]
        total += weights[i]
    for i in range(stored):
        weights[i] /= total


@jit
def _solve_equilibrium(
    block: EquilibriumWeights, groups: int, mixing: Mixing, injection: Array32, start: Array32, keep: bool
) -> Equilibrium:
    """z* = d(z*, I) from ``start`` (T, H); ``keep`` the tape of the application that gave it?"""
    rows, channels = start.shape
    kept, argument = _new_tape(rows if keep else 0, channels), start.copy()
    size = rows * channels
    tape, sums = _new_tape(rows, channels), np.empty((2, channels), np.float32)
    iterates, residuals = np.empty((mixing.memory, size), np.float32), np.empty((mixing.memory, size), np.float32)
    gram, weights = np.empty((mixing.memory, mixing.memory)), np.empty(mixing.memory)
    z, image = start.copy(), np.empty((rows, channels), np.float32)
    flat, flat_image = z.reshape(size), image.reshape(size)
    best, best_residual, steps = z.copy(), np.inf, 0
    for k in range(mixing.max_steps):
        _apply_block(block, groups, injection, z, tape, sums, image)
        steps = k + 1
        slot, stored = k % mixing.memory, min(k + 1, mixing.memory)
        step = residuals[slot]
        for i in range(size):
            step[i] = flat_image[i] - flat[i]
        residual = math.sqrt(_dot(step, step) / (_dot(flat_image, flat_image) + _TINY))
        if not residual >= best_residual:  # also where it is NaN
            best_residual = residual
            best[:] = image
            argument[:] = z
            if keep:
                _copy_tape(tape, kept)
        if not residual >= mixing.tolerance or k + 1 == mixing.max_steps:
            break
        iterates[slot] = flat
        for i in range(stored):
            gram[slot, i] = gram[i, slot] = _dot(step, residuals[i])
        _solve_weights(gram, stored, mixing.regularisation, weights)
        flat[:] = np.float32(0.0)
        for n in range(stored):
            a = np.float32(weights[n])
            for i in range(size):
                flat[i] += a * (iterates[n, i] + mixing.mixing * residuals[n, i])
    return Equilibrium(best, best_residual, steps, argument, kept)


@njit(cache=True, error_model="numpy", fastmath=FASTMATH, nogil=True)
def solve_equilibria(
    block: EquilibriumWeights, groups: int, mixing: Mixing, batch: EquilibriumBatch, first: int, last: int
) -> None:
    """`_solve_equilibrium` of the samples first..last-1, each on its own. Releases the GIL."""
    keep = batch.tape.mixed.shape[0] > 0
    for b in range(first, last):
        found = _solve_equilibrium(block, groups, mixing, batch.injections[b], batch.starts[b], keep)
        batch.z[b], batch.residuals[b], batch.steps[b] = found.z, found.residual, found.steps
        batch.arguments[b] = found.argument
        if keep:
            _copy_tape(found.tape, _sample_tape(batch.tape, b))


@njit(cache=True, error_model="numpy", fastmath=FASTMATH, nogil=True)
def apply_blocks(
    weights: EquilibriumWeights,
    groups: int,
    z: Array32,
    injections: Array32,
    tape: Tape,
    out: Array32,
    first: int,
    last: int,
) -> None:
    """out = d(z, I) of the samples first..last-1, all (B, T, H), with the tape (B, T, H) each. Releases the GIL."""
    sums = np.empty((2, z.shape[2]), np.float32)
    for b in range(first, last):
        _apply_block(weights, groups, injections[b], z[b], _sample_tape(tape, b), sums, out[b])


@njit(cache=True, error_model="numpy", fastmath=FASTMATH, nogil=True)
def differentiate_blocks(
    weights: EquilibriumWeights,
    transposed: TransposedWeights,
    groups: int,
    record: tuple[Array32, Tape],
    out_bar: Array32,
    grads: BlockGradients,
    first: int,
    last: int,
) -> None:
    """`BlockGradients` of a loss, from its gradient out_bar (B, T, H) and the record (z, tape) of `apply_blocks`."""
    z, tape = record
    sums = np.empty((4, out_bar.shape[2]), np.float32)
    for b in range(first, last):
        _stack_neighbours(z[b], grads.neighbours[0, b])
        _stack_neighbours(tape.mixed[b], grads.neighbours[1, b])
        _differentiate_block(
            weights, transposed, groups, _sample_tape(tape, b), out_bar[b], _sample_grads(grads, b), sums
        )


@jit
def encode(weights: EncoderWeights, heads: int, scene: Array32, tokens: Array32) -> Array32:
    """Injection (T, H) from the scene's features (1, E + rays) and the obstacles' (K, F)."""
    horizon, hidden = weights.time.shape
    scratch, encoded = np.empty((1, hidden), np.float32), np.empty((1, hidden), np.float32)
    _apply_mlp(weights.scene, scene, scratch, encoded)
    embedded = np.empty((len(tokens) + 1, hidden), np.float32)
    embedded[0] = weights.nothing
    _apply_mlp(weights.token, tokens, np.empty((len(tokens), hidden), np.float32), embedded[1:])
    for layer in range(len(weights.token_layers.gain)):
        _attend(weights.token_layers, layer, heads, embedded, embedded)
    queries = np.empty((horizon, hidden), np.float32)
    for t in range(horizon):
        for j in range(hidden):
            queries[t, j] = encoded[0, j] + weights.time[t, j]
    for layer in range(len(weights.query_layers.gain)):
        _attend(weights.query_layers, layer, heads, queries, embedded)
    injection = np.empty((horizon, hidden), np.float32)
    _apply_mlp(weights.output, queries, np.empty((horizon, hidden), np.float32), injection)
    return injection


@jit
def _inject(weights: RefinerWeights, injection: Array32, knots: Array32) -> Array32:
    """I = LN(injection + MLP(knots)), (T, H)."""
    result, scratch = np.empty_like(injection), np.empty_like(injection)
    _apply_mlp(weights.knot, knots, scratch, result)
    for t in range(result.shape[0]):
        for j in range(result.shape[1]):
            result[t, j] += injection[t, j]
    _layer_norm(result, weights.gain, weights.shift)
    return result


@jit
def _read_out(weights: RefinerWeights, hidden: Array32, context: FlightContext) -> Array:
    """theta (T, 6) = baseline + authority * scale * conv(hidden)."""
    out = np.empty((hidden.shape[0], weights.output_scale.size), np.float32)
    _convolve(hidden, weights.head_weight, weights.head_bias, out)
    return context.baseline + context.authority * weights.output_scale * out


@jit
def refine_equilibrium(
    weights: RefinerWeights,
    core: EquilibriumWeights,
    mixing: Mixing,
    groups: int,
    context: FlightContext,
    knots: Array32,
    z: Array32,
) -> tuple[Array, Array32, float, int]:
    """theta (T, 6), z* (T, H), residual and steps of kind deq."""
    injection = _inject(weights, context.injection, knots)
    found = _solve_equilibrium(core, groups, mixing, injection, z, False)
    return _read_out(weights, found.z, context), found.z, found.residual, found.steps


@jit
def refine_conv_stack(
    weights: RefinerWeights, core: ConvWeights, groups: int, context: FlightContext, knots: Array32
) -> Array:
    """theta (T, 6) of kind nn."""
    hidden = _solve_conv_stack(core, groups, _inject(weights, context.injection, knots))
    return _read_out(weights, hidden, context)
