"""ATen ops that Core ML cannot express: why, and what to write instead.

Data, not rules: the table of unsupported ops tells the reason of what is listed here, and the
documentation shows the list. A packet stands for all its overloads.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why an op has no lowering.

    Args:
        kind: the group it is documented in.
        reason: one clause, after the op's name.
        hint: what to write instead.
    """

    kind: str
    reason: str
    hint: str


RANDOM = Refusal(
    "randomness",
    "it draws random numbers, which differ from run to run",
    "make the random tensor an input of the model",
)
SIZED_BY_DATA = Refusal(
    "data-dependent shape",
    "how many elements it gives depends on their values",
    "keep the size fixed: torch.where, masked_fill or topk instead of picking elements",
)
BOXES = Refusal(
    "data-dependent shape",
    "how many boxes are left depends on their values",
    "give back boxes and scores, and suppress outside",
)
NUMBER = Refusal(
    "data-dependent number",
    "it reads a number out of a tensor, which is not known before the program runs",
    "keep it a tensor, or bind the input it comes from to a constant",
)
ALLOCATION = Refusal(
    "memory of the caller",
    "it resizes memory or writes into a tensor that is passed to it; a program has values only",
    "use the form that returns a new tensor",
)
BACKWARD = Refusal(
    "backward pass",
    "it belongs to the backward pass",
    "export the model in evaluation mode, without gradients",
)
BITS = Refusal(
    "bits of a float",
    "it takes a float apart by its bits, which no op of Core ML sees",
    "compute it outside of the model",
)
ITERATIVE = Refusal(
    "factorization",
    "it factorizes a matrix step by step, as many steps as the matrix has rows",
    "compute it outside of the model and pass the result as an input; of a constant it is computed at compile time",
)
SERIES = Refusal(
    "special function",
    "no op of Core ML, and no short series, gives it to the precision of float32",
    "compute it outside of the model, or put a table and an interpolation in its place",
)
COUNTING = Refusal(
    "counting",
    "it counts or groups by value, in as many steps as there are values",
    "compare with all bins by broadcasting and sum",
)

_LISTS: Mapping[Refusal, str] = {
    RANDOM: (
        "rand randn randint randperm rand_like randn_like randint_like bernoulli multinomial normal normal_functional "
        "uniform cauchy exponential geometric log_normal poisson binomial _standard_gamma _sample_dirichlet "
        "_fused_dropout fractional_max_pool2d fractional_max_pool3d"
    ),
    SIZED_BY_DATA: (
        "nonzero nonzero_numpy nonzero_static argwhere where.default masked_select unique_consecutive unique_dim "
        "_unique _unique2 bincount repeat_interleave.Tensor"
    ),
    BOXES: "torchvision.nms",
    NUMBER: "_local_scalar_dense item equal is_nonzero",
    ALLOCATION: "resize resize_as set _resize_output",
    BITS: "frexp nextafter",
    ITERATIVE: (
        "linalg_cholesky linalg_cholesky_ex cholesky cholesky_inverse cholesky_solve linalg_qr geqrf ormqr "
        "linalg_householder_product _linalg_svd linalg_svd linalg_svdvals _linalg_eigh linalg_eigh linalg_eigvalsh "
        "linalg_eig linalg_eigvals _linalg_eigvals linalg_lu linalg_lu_factor linalg_lu_factor_ex linalg_lu_solve "
        "lu_unpack linalg_ldl_factor linalg_ldl_factor_ex linalg_ldl_solve linalg_solve_triangular triangular_solve "
        "linalg_pinv linalg_lstsq linalg_matrix_exp linalg_matrix_rank linalg_polar linalg_matrix_sqrth"
    ),
    SERIES: (
        "igamma igammac special_zeta special_bessel_j0 special_bessel_j1 special_bessel_y0 special_bessel_y1 "
        "special_airy_ai special_modified_bessel_k0 special_modified_bessel_k1 special_scaled_modified_bessel_k0 "
        "special_scaled_modified_bessel_k1 special_chebyshev_polynomial_t special_chebyshev_polynomial_u "
        "special_chebyshev_polynomial_v special_chebyshev_polynomial_w special_shifted_chebyshev_polynomial_t "
        "special_shifted_chebyshev_polynomial_u special_shifted_chebyshev_polynomial_v "
        "special_shifted_chebyshev_polynomial_w special_hermite_polynomial_h special_hermite_polynomial_he "
        "special_laguerre_polynomial_l special_legendre_polynomial_p gcd lcm"
    ),
    COUNTING: (
        "histogram _histogramdd_bin_edges _histogramdd_from_bin_tensors _histogramdd_from_bin_cts "
        "segment_reduce hash_tensor"
    ),
}

REFUSED: Mapping[str, Refusal] = MappingProxyType(
    {packet: refusal for refusal, packets in _LISTS.items() for packet in packets.split()}
)
"""The refusals by packet, or by packet and overload; by dialect and packet outside of aten."""


def refusal(name: str) -> Refusal | None:
    """Why the op of this name (``aten.packet.overload``) cannot be lowered; None when that is not known."""
    dialect, _, rest = name.partition(".")
    packet, _, overload = rest.partition(".")
    if dialect != "aten":
        return REFUSED.get(f"{dialect}.{packet}")
    if packet.endswith("_backward") or "_backward_" in packet:
        return BACKWARD
    if "out" in overload.split("_"):
        return ALLOCATION
    return REFUSED.get(f"{packet}.{overload}") or REFUSED.get(packet)
