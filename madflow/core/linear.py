"""Systems of linear equations, as small as Newton's method on a handful of unknowns needs them."""

from __future__ import annotations

import math
from collections.abc import Sequence

from ..errors import ConfigError

__all__ = ["solve"]


def solve(matrix: Sequence[Sequence[float]], right: Sequence[float]) -> list[float]:
    """x with matrix · x = right, by Gaussian elimination with the greatest pivot; time grows by the cube of the size.

    Raises:
        ConfigError: the matrix is singular.
    """
    rows = [[*row, value] for row, value in zip(matrix, right, strict=True)]
    size = len(rows)
    for place in range(size):
        pivot = max(range(place, size), key=lambda row: abs(rows[row][place]))
        if rows[pivot][place] == 0:
            raise ConfigError(
                f"a system of {size} equations is singular: no equation left tells unknown {place + 1} (pivot 0); "
                "leave out what follows from the others, or add a prior that tells it"
            )
        rows[place], rows[pivot] = rows[pivot], rows[place]
        for row in range(place + 1, size):
            factor = rows[row][place] / rows[place][place]
            if factor:
                rows[row] = [a - factor * b for a, b in zip(rows[row], rows[place], strict=True)]
    found = [0.0] * size
    for place in reversed(range(size)):
        known = math.fsum(rows[place][later] * found[later] for later in range(place + 1, size))
        found[place] = (rows[place][size] - known) / rows[place][place]
    return found
