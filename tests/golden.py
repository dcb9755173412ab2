"""Reading the numbers of reference implementations, and comparing with them."""

from pathlib import Path

import numpy as np
import pytest
import torch


def strict(names: str, cases: list, single: list | None = None):
    """Parametrizes a test by `names` and dtype: every case in float64, the strict one, and in float32 those of `single`, by
    default the first."""
    typed = [(case, torch.float64) for case in cases] + [(case, torch.float32) for case in single or cases[:1]]
    rows = [(*(case if isinstance(case, tuple) else (case,)), dtype) for case, dtype in typed]
    ids = ["-".join(str(value).removeprefix("torch.") for value in row) for row in rows]
    return pytest.mark.parametrize(f"{names}, dtype", rows, ids=ids)


class Golden:
    """A file of tests/data. `used`: the arrays that were read."""

    def __init__(self, name: str):
        self.arrays, self.used = np.load(Path(__file__).parent / "data" / name), set()

    def read(self, key, dtype=None, grad=False):
        self.used.add(key)
        tensor = torch.from_numpy(self.arrays[key])
        if dtype is not None and tensor.is_floating_point():
            tensor = tensor.to(dtype)
        return tensor.requires_grad_(grad)

    def check_loss(self, value, key, single=2e-5):
        """single: the relative tolerance in float32."""
        expected = self.read(key)
        assert value.dtype in (torch.float32, torch.float64)
        torch.testing.assert_close(
            value.detach().double(),
            expected.double(),
            rtol=1e-9 if value.dtype == torch.float64 else single,
            atol=1e-300,
        )

    def check_grad(self, value, key, single=2e-5):
        """Within 1e-7 (float64) or `single` (float32) of the largest entry; a gradient that is rounding noise must be
        that too."""
        expected = self.read(key).double()
        tolerance = 1e-7 if value.dtype == torch.float64 else single
        scale = max(expected.abs().max().item(), 1e-9 if value.dtype == torch.float64 else 1e-2)
        assert (value.double() - expected).abs().max().item() <= tolerance * scale
