"""One sample of torch's operator database: called eagerly, compiled, run, judged."""

from __future__ import annotations

import signal
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch.testing._internal.common_methods_invocations import op_db
from torch.utils import _pytree as pytree
from torch.utils._python_dispatch import TorchDispatchMode

import anec
from anec.check.metrics import compare
from anec.errors import AnecError, UnsupportedError

DTYPES = ("float32", "int64", "bool")
STATUSES = ("passed", "failed", "refused", "not applicable")
# Relative to the largest number; of the narrow floats, which the program computes in float32, their own precision.
RTOL = {torch.bfloat16: 1e-2, torch.float16: 1e-3}
RTOL_DEFAULT = 1e-4
# Of results that are all but zero, where a relative difference says nothing.
ATOL = 1e-6
SECONDS = 60
INT32 = 2**31
UNINITIALISED = frozenset(
    "empty empty_like empty_strided empty_permuted new_empty new_empty_strided resize_ resize_as_".split()
)
# Their results have as many elements as the data say.
_SIZED_BY_DATA = frozenset(
    "nonzero nonzero_static masked_select unique _unique _unique2 unique_dim unique_consecutive".split()
)
# Which of several equal elements these find is not promised, by torch or by Core ML.
_ANY_OF_EQUALS = frozenset("sort argsort topk kthvalue median nanmedian mode".split())
_BEYOND = "an integer beyond int32, the widest of Core ML"


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one sample."""

    entry: str
    dtype: str
    number: int
    status: str
    reason: str = ""
    note: str = ""

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


class Inapplicable(Exception):  # no error: a sample that says nothing about the compiler
    """The sample asks for what no compiler to Core ML could give."""


@dataclass(frozen=True, slots=True)
class Call:
    """A call of an operator as a function of its tensors alone."""

    function: Callable[..., Any]
    spec: Any
    leaves: tuple[Any, ...]

    @property
    def tensors(self) -> list[torch.Tensor]:
        return [leaf.detach().clone() for leaf in self.leaves if isinstance(leaf, torch.Tensor)]

    def __call__(self, *tensors: torch.Tensor) -> list[Any]:
        given = iter(tensors)
        leaves = [next(given) if isinstance(leaf, torch.Tensor) else leaf for leaf in self.leaves]
        args, kwargs = pytree.tree_unflatten(leaves, self.spec)
        return pytree.tree_leaves(self.function(*args, **kwargs))


class Model(torch.nn.Module):
    """The call as a module; tensors at ``fixed`` positions are buffers, the others are inputs."""

    def __init__(self, call: Call, fixed: tuple[int, ...] = ()) -> None:
        super().__init__()
        self.call, self.fixed = call, fixed
        for position in fixed:
            self.register_buffer(f"fixed{position}", call.tensors[position])

    def forward(self, *tensors: torch.Tensor) -> tuple[torch.Tensor, ...]:
        given = list(tensors)
        for position in self.fixed:
            given.insert(position, getattr(self, f"fixed{position}").clone())
        return tuple(leaf for leaf in self.call(*given) if isinstance(leaf, torch.Tensor))


class _Watch(TorchDispatchMode):
    """Notes the ATen calls whose result has a size that depends on data, and reads of single numbers."""

    def __init__(self) -> None:
        super().__init__()
        self.by_data: list[str] = []
        self.reads_numbers = self.random = False
        self.any_of_equals = False

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = function._schema.name.partition("::")[2]
        masked = name == "index" and any(
            isinstance(leaf, torch.Tensor) and leaf.dtype in (torch.bool, torch.uint8)
            for leaf in pytree.tree_leaves(args[1:])
        )
        if masked or name in _SIZED_BY_DATA:
            self.by_data.append(name)
        self.random |= torch.Tag.nondeterministic_seeded in function.tags
        self.reads_numbers |= name == "_local_scalar_dense"
        self.any_of_equals |= name in _ANY_OF_EQUALS
        return function(*args, **(kwargs or {}))


def entries(wanted: list[str] | None) -> list[Any]:
    """The entries of the database by name, in its order."""
    return [info for info in op_db if wanted is None or info.name in wanted]


class Judge:
    """Compiles and compares samples for one target; saved programs go to ``folder``."""

    def __init__(self, target: str, folder: Path | None) -> None:
        self.target, self.folder = target, folder

    def entry(self, info: Any, dtype: str, limit: int | None) -> Iterator[Outcome]:
        """Judge the samples of an entry in one dtype."""
        kind = getattr(torch, dtype)
        if kind not in info.dtypes:
            return
        name = info.name + (f".{info.variant_test_name}" if info.variant_test_name else "")
        torch.manual_seed(0)
        saved = False
        for number, sample in enumerate(info.sample_inputs("cpu", kind, requires_grad=False)):
            if number == limit:
                break
            leaves, spec = pytree.tree_flatten(((sample.input, *sample.args), sample.kwargs))
            call = Call(info.op, spec, tuple(leaves))
            status, reason, note = self.sample(info.name, call, save=not saved)
            saved |= status == "passed"
            yield Outcome(name, dtype, number, status, reason, note)

    def sample(self, name: str, call: Call, save: bool) -> tuple[str, str, str]:
        """The status of one call, its reason, and a note."""
        watch = _Watch()
        try:
            with time_limit(SECONDS):
                expected = eager(name, call, watch)
                return "passed", "", self.compiled(call, expected, watch, save)
        except Inapplicable as why:
            return "not applicable", str(why), ""
        except AnecError as error:
            if watch.random:
                return "not applicable", "random numbers", ""
            if watch.reads_numbers or "a number is read out of a tensor" in error.message:
                return "not applicable", f"a number read out of a tensor decides: {one_line(error)}", ""
            if "torch.export failed" in error.message or "decompose" in error.message:
                return "not applicable", f"torch.export: {one_line(error)}", ""
            told = isinstance(error, UnsupportedError) or "int32" in error.message
            return "refused" if told else "failed", one_line(error), ""
        except Exception as error:  # whatever a sample raises is its outcome
            place = traceback.extract_tb(error.__traceback__)[-1]
            text = (str(error).splitlines() or [""])[0]
            return "failed", f"{type(error).__name__} in {Path(place.filename).name}:{place.lineno}: {text}"[:300], ""

    def compiled(self, call: Call, expected: list[torch.Tensor], watch: _Watch, save: bool) -> str:
        """Compile, run and compare; returns a note.

        Integer tensors become constants where the program cannot have them as inputs.
        """
        try:
            return self.hold(call, (), expected, watch, save)
        except AnecError as error:
            fixed = tuple(i for i, tensor in enumerate(call.tensors) if i and not tensor.is_floating_point())
            traced = isinstance(error, UnsupportedError) or "torch.export failed" in error.message
            if not fixed or not traced:
                raise
            try:
                note = self.hold(call, fixed, expected, watch, save)
            except AnecError:
                raise error from None
        return "; ".join(filter(None, ("constant indices", note)))

    def hold(self, call: Call, fixed: tuple[int, ...], expected: list[torch.Tensor], watch: _Watch, save: bool) -> str:
        """Compile with the tensors at ``fixed`` as constants; raise AssertionError where numbers differ."""
        args = tuple(tensor for i, tensor in enumerate(call.tensors) if i not in fixed)
        compiled = anec.compile(Model(call, fixed), args, precision="fp32", target=self.target)
        note = match(compiled, args, call, expected, watch)
        if save and self.folder is not None:
            compiled.save(self.folder / "sample.mlpackage", overwrite=True)
            match(anec.load(self.folder / "sample.mlpackage"), args, call, expected, watch)
        return note


def match(
    compiled: Any, args: tuple[torch.Tensor, ...], call: Call, expected: list[torch.Tensor], watch: _Watch
) -> str:
    """Run on the inputs that were kept and compare; returns a note."""
    ports = {f"tensors_{i}": tensor for i, tensor in enumerate(args)}
    actual = compiled.run({name: ports[name] for name in compiled.input_names})
    outputs = [torch.as_tensor(array) for array in actual.values()]
    assert len(outputs) == len(expected), f"{len(outputs)} outputs, {len(expected)} expected"
    note = ""
    for position, (output, reference) in enumerate(zip(outputs, expected, strict=True)):
        metric = compare(f"output {position}", output, reference)
        rtol = RTOL.get(reference.dtype, RTOL_DEFAULT)
        if not metric.problem and (metric.rel <= rtol or metric.max_abs <= ATOL):
            continue
        if not metric.problem and reference.is_floating_point() and _within_float32(call, position, output):
            note = "as near as float32 gets"
            continue
        if watch.any_of_equals and reference.dtype is torch.int64 and _has_equals(call.tensors[0]):
            note = "other indices of equal elements"
            continue
        raise AssertionError(f"{metric.name}: {metric.problem or f'rel {metric.rel:.1e}'}")
    return note


def _has_equals(tensor: torch.Tensor) -> bool:
    return tensor.unique().numel() < tensor.numel()


def eager(name: str, call: Call, watch: _Watch) -> list[torch.Tensor]:
    """What eager PyTorch gives; ``watch`` sees the call.

    Raises:
        Inapplicable: random, empty, complex, sized by data, written in place, or no tensor at all.
    """
    if name in UNINITIALISED:
        raise Inapplicable("uninitialised memory")
    tensors = call.tensors
    _representable("input", tensors)
    torch.manual_seed(1)
    try:
        with torch.no_grad(), watch:
            found = call(*tensors)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise Inapplicable(f"torch itself fails on it: {str(error).splitlines()[0][:120]}") from error
    if watch.by_data:
        raise Inapplicable(f"a shape that depends on data ({watch.by_data[0]})")
    outputs = [leaf for leaf in found if isinstance(leaf, torch.Tensor)]
    if not outputs:
        raise Inapplicable("no tensor in the result")
    _representable("output", outputs)
    if not all(map(_same, tensors, call.tensors)):
        raise Inapplicable("it writes into its input")
    with torch.no_grad(), _another_seed():
        again = [leaf for leaf in call(*call.tensors) if isinstance(leaf, torch.Tensor)]
    if not all(map(_same, outputs, again)):
        raise Inapplicable("random numbers")
    return outputs


def _same(a: torch.Tensor, b: torch.Tensor) -> bool:
    return torch.equal(a.nan_to_num(), b.nan_to_num())


@contextmanager
def _another_seed() -> Iterator[None]:
    """Draw other random numbers, whatever seed the code in the block asks for."""
    seed = torch.manual_seed
    torch.manual_seed = lambda _: seed(2)  # type: ignore[assignment]  # samples of random ops set a seed themselves
    try:
        seed(2)
        yield
    finally:
        torch.manual_seed = seed


def _representable(what: str, tensors: list[torch.Tensor]) -> None:
    for tensor in tensors:
        if tensor.is_complex():
            raise Inapplicable(f"a complex {what}")
        if tensor.layout is not torch.strided or tensor.is_nested:
            raise Inapplicable(f"an {what} that is not strided")
        if tensor.numel() == 0:
            raise Inapplicable(f"an empty {what}")
        if tensor.dtype in (torch.uint32, torch.uint64):
            raise Inapplicable(f"{tensor.dtype}, in the {what}")
        whole = not tensor.is_floating_point() and tensor.dtype is not torch.bool
        if whole and not -INT32 <= int(tensor.min()) <= int(tensor.max()) < INT32:
            raise Inapplicable(f"{_BEYOND}, in the {what}")


def _within_float32(call: Call, position: int, output: torch.Tensor) -> bool:
    """True where float32 itself is the limit: the output is about as near to the float64 result as eager's."""
    wide = [t.double() if t.is_floating_point() else t for t in call.tensors]
    try:
        with torch.no_grad():
            exact, narrow = call(*wide)[position], call(*call.tensors)[position]
    except RuntimeError:
        return False
    theirs, ours = compare("", narrow, exact), compare("", output, exact)
    return not ours.problem and ours.rel <= max(RTOL_DEFAULT, 4 * theirs.rel)


def one_line(error: AnecError) -> str:
    """The message and the first row of its table."""
    row = (error.window or "").splitlines()[:1]
    return "; ".join([error.message.splitlines()[0], *row])[:300]


@contextmanager
def time_limit(seconds: int) -> Iterator[None]:
    """Raise TimeoutError in a block that takes longer."""

    def late(*_: object) -> None:
        raise TimeoutError(f"it takes longer than {seconds} s")

    before = signal.signal(signal.SIGALRM, late)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)
