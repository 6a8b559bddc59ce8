"""Recurrent layers: one MIL op a layer, and a direction for gru and rnn.

    %x: f32[5,1,3], %h0: f32[1,1,4], %w_ih: f32[4,3] weight, %w_hh: f32[4,4] weight
    %y, %h = nn.rnn(%x, %h0, [%w_ih, %w_hh]) {has_bias=false}
        ->
    %1 = mil.squeeze(%h0) {axes=[0]}
    %y, %2 = mil.rnn(%x, %1, %w_ih, %w_hh) {output_sequence=true, ...}

    ; sketch: the weights are reordered by splits and concats of their own
    %y, %h, %c = nn.lstm(%x, %h0, %c0, [%w_ih, %w_hh, %b_ih, %b_hh])
        ->
    %1 = mil.squeeze(%h0) {axes=[0]}
    %2 = mil.squeeze(%c0) {axes=[0]}
    %y, %3, %4 = mil.lstm(%x, %1, %2, %weight_ih, %weight_hh, %bias) {output_sequence=true}
    %h = mil.expand_dims(%3) {axes=[0]}
    %c = mil.expand_dims(%4) {axes=[0]}

Gates stand in another order: torch has i, f, g, o and r, z, n; Core ML i, f, o, g and r, n, z. Weights
are reordered, and biases that Core ML has one of are summed, by ops on constants, which are computed
before emission. torch's gru resets after the product, which Core ML can from iOS18 on.

An LSTM with a projection (proj_size) has h = P o tanh(c), and W_hh h in its gates: that is a plain LSTM
with the recurrent weight W_hh P, its outputs multiplied by P. What the first step sees of the initial
state, W_hh h0, comes in as further features of the input, which are zero in every other step.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from anec.dialects import mil, nn
from anec.errors import UnsupportedError
from anec.ir.facts import is_constant
from anec.ir.graph import Op, Value
from anec.ir.types import DType, TensorType
from anec.passes.lower_to_mil.shared import constant_tensor, filled_like, needs
from anec.passes.lower_to_mil.typing import result_type, static, value
from anec.pipeline.base import Context
from anec.rewrite import Rule, rewrite

FIRST_WITH_HALF = 17
FIRST_WITH_RESET_AFTER = 18
# A gru without that is written out step by step; beyond this many steps it is an error.
MOST_STEPS = 32
Run = Callable[[Value, Value, "Weights", str], tuple[Value, ...]]
_LSTM_ORDER = (0, 1, 3, 2)
_GRU_ORDER = (0, 2, 1)


@dataclass(frozen=True, slots=True)
class Weights:
    """The weights of one layer in one direction, in torch's order of gates."""

    input: Value
    hidden: Value
    input_bias: Value | None = None
    hidden_bias: Value | None = None
    projection: Value | None = None

    def bias(self) -> Value | None:
        """Both biases as one."""
        if self.input_bias is None or self.hidden_bias is None:
            return None
        return mil.add(self.input_bias, self.hidden_bias)


@dataclass(frozen=True, slots=True)
class Stack:
    """A recurrent op, taken apart.

    Args:
        x: the input, [sequence, batch, features].
        weights: by layer, then by direction.
        dtype: what it computes in: Core ML's ops take f16 from iOS17 on.
        batch_first: the output is wanted as [batch, sequence, features].
        result: the type of the output.
    """

    x: Value
    weights: list[list[Weights]]
    dtype: DType
    batch_first: bool
    result: TensorType

    @staticmethod
    def of(op: Op, ctx: Context) -> Stack:
        type_ = result_type(op)
        half = type_.dtype is DType.F16 and ctx.module.opset < FIRST_WITH_HALF
        dtype = DType.F32 if half else type_.dtype
        x = value(op.operand("x"), dtype)
        batch_first = bool(op.attr("batch_first"))
        if batch_first:
            x = mil.transpose(x, perm=(1, 0, 2))
        return Stack(x, _weights(op, dtype), dtype, batch_first, type_)

    @property
    def directions(self) -> int:
        return len(self.weights[0])

    def state(self, op: Op, name: str, layer: int) -> Value:
        """The initial state of a layer in all its directions, [directions, batch, hidden]."""
        whole = value(op.operand(name), self.dtype)
        if len(self.weights) == 1:
            return whole
        first = layer * self.directions
        return mil.slice_by_index(
            whole,
            begin=(first, 0, 0),
            end=(first + self.directions, 0, 0),
            end_mask=(False, True, True),
        )

    def output(self, sequence: Value) -> Value:
        """The last layer's sequence as the op's output."""
        if self.batch_first:
            sequence = mil.transpose(sequence, perm=(1, 0, 2))
        return value(sequence, self.result.dtype)

    def last(self, states: Sequence[Value]) -> Value:
        """The states after the last step, [batch, hidden] each, as one result of the op."""
        joined = mil.expand_dims(states[0], axes=(0,)) if len(states) == 1 else mil.stack(list(states), axis=0)
        return value(joined, self.result.dtype)


def _weights(op: Op, dtype: DType) -> list[list[Weights]]:
    flat = op.variadic("weights")
    variable = next((w for w in flat if isinstance(w, Value) and not is_constant(w)), None)
    if variable is not None:
        raise UnsupportedError(
            f"{op.name} whose weight %{variable.name} is computed from the model's inputs",
            where=op.origin.place or None,
            hint="Core ML wants constant weights here",
        )
    values = [value(w, dtype) for w in flat]
    biased, directions = bool(op.attr("has_bias")), 2 if op.attr("bidirectional") else 1
    projected = "projection" in op.defn.by_name and bool(op.attr("projection"))
    step = (4 if biased else 2) + projected
    parts = [values[start : start + step] for start in range(0, len(values), step)]
    every = [
        Weights(w[0], w[1], *(w[2:4] if biased else (None, None)), *(w[-1:] if projected else ())) for w in parts
    ]
    return [every[start : start + directions] for start in range(0, len(every), directions)]


def _ordered(gates: Value | None, order: tuple[int, ...]) -> Value | None:
    """A weight with its blocks of rows, one for each gate, in Core ML's order."""
    if gates is None:
        return None
    blocks = mil.split.many(gates, num_splits=len(order), axis=0)
    return mil.concat([blocks[index] for index in order], axis=0)


@rewrite(nn.lstm)
def lower_lstm(op: Op, ctx: Context) -> tuple[Value, ...]:
    """One op a layer, for both directions too: their states stand side by side in it."""
    stack = Stack.of(op, ctx)
    sequence, hidden, cells = stack.x, list[Value](), list[Value]()
    for layer, weights in enumerate(stack.weights):
        initial = stack.state(op, "initial_h", layer)
        c = _side_by_side(stack.state(op, "initial_c", layer))
        if weights[0].projection is None:
            h, inner = _side_by_side(initial), weights
        else:
            sequence, inner = _unprojected(sequence, initial, weights, ctx)
            h = filled_like(c, 0.0, stack.dtype)
        settings: dict[str, object] = {"direction": "forward"}
        if len(inner) == 2:
            back = inner[1]
            settings = {
                "direction": "bidirectional",
                "weight_ih_back": _ordered(back.input, _LSTM_ORDER),
                "weight_hh_back": _ordered(back.hidden, _LSTM_ORDER),
                "bias_back": _ordered(back.bias(), _LSTM_ORDER),
            }
        sequence, h, c = mil.lstm.many(
            sequence,
            h,
            c,
            _ordered(inner[0].input, _LSTM_ORDER),
            _ordered(inner[0].hidden, _LSTM_ORDER),
            _ordered(inner[0].bias(), _LSTM_ORDER),
            output_sequence=True,
            **settings,
        )
        sequence = _projected(sequence, weights)
        hidden.extend(_projected(part, weights[at : at + 1]) for at, part in enumerate(_apart(h, len(weights))))
        cells.extend(_apart(c, len(weights)))
    return stack.output(sequence), stack.last(hidden), stack.last(cells)


def _unprojected(
    sequence: Value, initial: Value, weights: list[Weights], ctx: Context
) -> tuple[Value, list[Weights]]:
    """The input and weights of the LSTM in front of the projection; see the module's docstring."""
    known = constant_tensor(initial, ctx)
    starts = [] if known is not None and not known.any() else _apart(initial, len(weights), axis=0)
    steps = static(sequence.tensor)[0]
    inputs, columns = [sequence], [[each.input] for each in weights]
    for at, start in enumerate(starts):
        behind = (0, steps - 1) if at == 0 else (steps - 1, 0)
        inputs.append(mil.pad(start, pad=(*behind, 0, 0, 0, 0), mode="constant", constant_val=0.0))
        for own, (column, each) in enumerate(zip(columns, weights, strict=True)):
            column.append(each.hidden if own == at else filled_like(each.hidden, 0.0, each.hidden.tensor.dtype))
    found = [
        replace(
            each,
            input=mil.concat(joined, axis=1) if len(joined) > 1 else each.input,
            hidden=mil.matmul(each.hidden, each.projection),
        )
        for each, joined in zip(weights, columns, strict=True)
    ]
    return mil.concat(inputs, axis=-1) if len(inputs) > 1 else sequence, found


def _projected(x: Value, weights: list[Weights]) -> Value:
    """What stands side by side for each direction, projected."""
    if weights[0].projection is None:
        return x
    parts = [mil.linear(part, each.projection) for part, each in zip(_apart(x, len(weights)), weights, strict=True)]
    return parts[0] if len(parts) == 1 else mil.concat(parts, axis=-1)


def _side_by_side(state: Value) -> Value:
    """[directions, batch, hidden] as [batch, directions * hidden]."""
    directions, _, size = state.tensor.shape
    if directions == 1:
        return mil.squeeze(state, axes=(0,))
    assert isinstance(directions, int)
    assert isinstance(size, int)
    return mil.reshape(mil.transpose(state, perm=(1, 0, 2)), shape=(-1, directions * size))


def _apart(state: Value, directions: int, axis: int = -1) -> Sequence[Value]:
    """[batch, directions * hidden] by direction."""
    return [state] if directions == 1 else mil.split.many(state, num_splits=directions, axis=axis)


@rewrite(nn.rnn)
def lower_rnn(op: Op, ctx: Context) -> tuple[Value, ...]:
    """One op a layer and direction, with both biases as one."""
    stack = Stack.of(op, ctx)

    def run(x: Value, h: Value, weights: Weights, direction: str) -> tuple[Value, ...]:
        return mil.rnn.many(
            x,
            h,
            weights.input,
            weights.hidden,
            weights.bias(),
            direction=direction,
            output_sequence=True,
            activation=op.attr("nonlinearity"),
        )

    return _by_direction(op, stack, run)


@rewrite(nn.gru)
def lower_gru(op: Op, ctx: Context) -> tuple[Value, ...]:
    """One op a layer and direction from iOS18 on; before, a short one is written out."""
    stack = Stack.of(op, ctx)
    if ctx.module.opset < FIRST_WITH_RESET_AFTER:
        return _by_direction(op, stack, _Steps(op))

    def run(x: Value, h: Value, weights: Weights, direction: str) -> tuple[Value, ...]:
        return mil.gru.many(
            x,
            h,
            _ordered(weights.input, _GRU_ORDER),
            _ordered(weights.hidden, _GRU_ORDER),
            bias=_ordered(weights.hidden_bias, _GRU_ORDER),
            input_bias=_ordered(weights.input_bias, _GRU_ORDER),
            direction=direction,
            output_sequence=True,
            reset_after=True,
        )

    return _by_direction(op, stack, run)


def _by_direction(op: Op, stack: Stack, run: Run) -> tuple[Value, ...]:
    """Layers of ops that walk one way each.

    ``direction="reverse"`` gives its outputs in the order it makes them, so they are turned around.
    """
    sequence, hidden = stack.x, list[Value]()
    for layer, weights in enumerate(stack.weights):
        initial = stack.state(op, "initial_h", layer)
        states = [initial] if len(weights) == 1 else mil.split.many(initial, num_splits=2, axis=0)
        outputs = []
        for direction, each, state in zip(("forward", "reverse"), weights, states, strict=False):
            output, h = run(sequence, mil.squeeze(state, axes=(0,)), each, direction)
            outputs.append(output if direction == "forward" else mil.reverse(output, axes=(0,)))
            hidden.append(h)
        sequence = outputs[0] if len(outputs) == 1 else mil.concat(outputs, axis=-1)
    return stack.output(sequence), stack.last(hidden)


@dataclass(frozen=True, slots=True)
class _Steps:
    """A gru written out: the input's products at once, then a few ops for each step."""

    op: Op

    def __call__(self, x: Value, h: Value, weights: Weights, direction: str) -> tuple[Value, ...]:
        steps = x.tensor.shape[0]
        if not isinstance(steps, int) or steps > MOST_STEPS:
            raise needs(
                self.op,
                FIRST_WITH_RESET_AFTER,
                f"before, {steps} steps would have to be written out, which is done up to {MOST_STEPS}",
            )
        projected = mil.linear(x, weights.input, weights.input_bias)
        split = mil.split.many(projected, num_splits=steps, axis=0) if steps > 1 else (projected,)
        order = split if direction == "forward" else split[::-1]
        outputs = []
        for row in order:
            h = _gru_step(mil.squeeze(row, axes=(0,)), h, weights)
            outputs.append(h)
        return mil.stack(outputs, axis=0), h


def _gru_step(projected: Value, h: Value, weights: Weights) -> Value:
    """H' = n + z (h - n) with n = tanh(W x + r (R h)); ``projected`` is W x of the gates r, z, n."""
    size = weights.hidden.shape[1]
    recurrent = mil.linear(h, weights.hidden, weights.hidden_bias)
    sizes = (2 * size, size)
    gates_x, new_x = mil.split.many(projected, split_sizes=sizes, axis=-1)
    gates_h, new_h = mil.split.many(recurrent, split_sizes=sizes, axis=-1)
    reset, update = mil.split.many(mil.sigmoid(mil.add(gates_x, gates_h)), num_splits=2, axis=-1)
    new = mil.tanh(mil.add(new_x, mil.mul(reset, new_h)))
    return mil.add(new, mil.mul(update, mil.sub(h, new)))


RULES: list[Rule] = [lower_lstm, lower_gru, lower_rnn]
