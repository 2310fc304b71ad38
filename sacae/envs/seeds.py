"""Seeds that users give: whole numbers of Python or of NumPy."""

from numbers import Integral
from typing import Any

from sacae.errors import UserError


def as_seed(seed: Any, largest: int | None = None) -> int | None:
    """The seed as an integer of Python, which Gymnasium asks for; None stays None.

    Raises UserError for what is no whole number from 0 to `largest`.
    """
    if seed is None:
        return None
    number = int(seed) if isinstance(seed, Integral) else -1
    if number >= 0 and (largest is None or number <= largest):
        return number
    allowed = "0 or more, and a whole number" if largest is None else f"a whole number from 0 to {largest}"
    raise UserError(f"seed is {seed!r}, but it must be {allowed}; change --seed")
