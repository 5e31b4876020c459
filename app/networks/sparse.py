"""Linear layers whose connections were removed, computed as sparse products where that is faster; for evaluation."""

import warnings
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import linear


class Pays(NamedTuple):
    """Where a sparse product is faster than a dense one: a weight of so many elements, rows of inputs, share of zeros.

    All are lower bounds; most_rows: the upper one.
    """

    elements: int
    rows: int
    zeros: float
    most_rows: int = 1 << 62


# By `python -m benchmarks.sparse --threads 1`: x86-64 with AVX-512, torch 2.13 with MKL, a core that other jobs used as
# well; time of the layer over that of the dense one, medians of 7 rounds:
#
#   out x in       512x512          1024x1024         2048x512         2048x2048
#   zeros       90 %  95 %  98 %  90 %  95 %  98 %  90 %  95 %  98 %  90 %  95 %  98 %
#     1 row     2.13  1.64  1.71  1.08  0.98  0.76  1.24  0.86  0.76  0.51  0.28  0.17
#    16 rows    1.00  0.60  0.79  0.51  0.39  0.19  0.58  0.35  0.16  0.24  0.13  0.07
#    64 rows    0.80  0.67  0.53  0.52  0.26  0.09  0.74  0.17  0.11  0.54  0.39  0.23
#   256 rows    1.21  0.37  0.19  1.07  0.46  0.28  0.98  0.61  0.35  0.88  0.53  0.24
#
# Smaller weights, and fewer zeros (80 %: 0.8 to 2), do not pay. Of one row a dense product is not shared among threads
# and a sparse one is: only a large weight is worth that. The bounds are a little below the shares measured, as a
# share of all connections is not exactly that of each layer.
PAYS = (
    Pays(1 << 18, 64, 0.94),
    Pays(1 << 20, 4, 0.94),
    Pays(1 << 20, 4, 0.89, most_rows=64),
    Pays(1 << 22, 1, 0.94),
)
# Not measured: what PyTorch says of to_sparse_semi_structured is that GPUs of compute capability 8.0 gain on large
# products in half precision (x1.1 to 1.3), and small ones lose.
HALF = Pays(1 << 22, 64, 0.5)
_MULTIPLE = 64  # of both sides of a 2:4 weight


class SparseLinear(nn.Module):
    """Computes as the linear layer whose weight and bias it takes: (..., in) -> (..., out). For evaluation alone.

    Rows of inputs that are too few for a sparse product, or another type than float32, are computed densely.
    """

    def __init__(self, dense: nn.Linear) -> None:
        super().__init__()
        self.weight, self.bias = dense.weight, dense.bias
        weight = dense.weight.detach()
        self.zeros = 1 - int(torch.count_nonzero(weight)) / max(1, weight.numel())
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # that CSR is in beta
            self._csr = weight.to_sparse_csr()
        self.ran = False  # as a sparse product, at least once

    def forward(self, inputs: Tensor) -> Tensor:
        rows = inputs.reshape(-1, inputs.shape[-1])
        plain = inputs.dtype == torch.float32 and not torch.is_autocast_enabled(inputs.device.type)
        if not plain or not pays(self.weight, self.zeros, len(rows)):
            return linear(inputs, self.weight, self.bias)
        self.ran = True
        return self._product(rows).reshape(*inputs.shape[:-1], len(self.weight))

    def _product(self, rows: Tensor) -> Tensor:
        """(R, in) -> (R, out), contiguous as those of a linear layer are."""
        if len(rows) == 1:
            product = torch.mv(self._csr, rows[0])[None]
            return product if self.bias is None else product + self.bias
        if self.bias is None:
            return torch.sparse.mm(self._csr, rows.T).T.contiguous()
        return torch.addmm(self.bias[:, None], self._csr, rows.T).T.contiguous()


class HalfSparseLinear(nn.Module):
    """As SparseLinear, for weights with two zeros in each four, on NVIDIA GPUs under bf16 autocast.

    Raises RuntimeError where this GPU or this torch does not do it.
    """

    def __init__(self, dense: nn.Linear) -> None:
        from torch.sparse import to_sparse_semi_structured

        super().__init__()
        self.weight, self.bias = dense.weight, dense.bias
        self._half = to_sparse_semi_structured(dense.weight.detach().to(torch.bfloat16))
        self._half_bias = None if dense.bias is None else dense.bias.detach().to(torch.bfloat16)
        self.ran = False
        self(torch.zeros(_MULTIPLE, dense.in_features, device=dense.weight.device))  # here, where it can be caught
        self.ran = False

    def forward(self, inputs: Tensor) -> Tensor:
        rows = inputs.reshape(-1, inputs.shape[-1])
        if len(rows) < HALF.rows:
            return linear(inputs, self.weight, self.bias)
        self.ran = True
        with torch.autocast(inputs.device.type, enabled=False):
            product = linear(rows.to(torch.bfloat16), self._half, self._half_bias)
        return product.reshape(*inputs.shape[:-1], len(self.weight))


def pays(weight: Tensor, zeros: float, rows: int) -> bool:
    """Whether a sparse product is faster: by a fixed rule, so that every run of a network computes alike.

    zeros: share of the weight's elements. Collective over: none.
    """
    if weight.device.type != "cpu" or weight.dtype != torch.float32:
        return False
    return any(
        weight.numel() >= one.elements and one.rows <= rows <= one.most_rows and zeros >= one.zeros for one in PAYS
    )


@contextmanager
def running_sparse(
    chunks: Iterable[nn.Module], names: Collection[str], *, bf16: bool
) -> Iterator[list[SparseLinear | HalfSparseLinear]]:
    """Inside, those of the named weights' linear layers that may be faster so compute sparse; the layers replaced.

    chunks: of a network that is not trained meanwhile. names: in the network, "LAYER....weight". Collective over: none.
    """
    found: list[SparseLinear | HalfSparseLinear] = []
    places: list[tuple[nn.Module, str, nn.Module]] = []
    for chunk in chunks:
        parts = dict(chunk.named_modules())
        for path, part in parts.items():
            if type(part) is nn.Linear and f"{path}.weight" in names:
                layer = _sparse(part, bf16)
                if layer is not None:
                    above, _, name = path.rpartition(".")
                    places.append((parts[above], name, part))
                    found.append(layer)
                    setattr(parts[above], name, layer.eval())
    try:
        yield found
    finally:
        for above, name, part in places:
            setattr(above, name, part)


def _sparse(dense: nn.Linear, bf16: bool) -> SparseLinear | HalfSparseLinear | None:
    """None where it would never be faster."""
    weight = dense.weight.detach()
    zeros = 1 - int(torch.count_nonzero(weight)) / max(1, weight.numel())
    if weight.device.type == "cuda" and bf16 and weight.numel() >= HALF.elements and _two_of_four(weight):
        try:
            return HalfSparseLinear(dense)
        except (RuntimeError, NotImplementedError, ValueError, ImportError):
            return None
    may = weight.device.type == "cpu" and not bf16
    return SparseLinear(dense) if may and any(pays(weight, zeros, one.rows) for one in PAYS) else None


def _two_of_four(weight: Tensor) -> bool:
    """Whether each four elements of a row have two zeros or more, in the sizes that GPUs want."""
    if any(size % _MULTIPLE for size in weight.shape):
        return False
    return bool(((weight.view(-1, 4) != 0).sum(1) <= 2).all())
