"""What a claim is: a sentence, and the number that decides it."""

from dataclasses import dataclass

from .rule import Bound
from .statistics import Statistic, Window

POST, OURS = "post", "ours"


@dataclass(frozen=True, kw_only=True)
class Claim:
    """A sentence, and the number that decides it.

    ``statistic`` is made from the runs of ``forms``, or of those whose names begin so, in that order, and of
    ``epochs``, of 24; where there are none it is that of the end. ``bf16`` is the bound of runs in that precision,
    where it is another. ``single`` is False where a single epoch says nothing.
    """

    name: str
    chapter: str
    origin: str
    sentence: str
    observable: str
    statistic: Statistic
    forms: tuple[str, ...]
    bound: Bound
    bf16: Bound | None = None
    epochs: Window | None = None
    single: bool = True

    @property
    def bound_text(self) -> str:
        """The bound, and that of bf16 where it is another."""
        return str(self.bound) + (f" (bf16: {self.bf16})" if self.bf16 else "")

    @property
    def looked_at(self) -> str:
        """What is looked at, in which epochs."""
        if self.epochs is None:
            return f"{self.observable}; at the end"
        if self.epochs == (0, 24):
            return f"{self.observable}; all epochs"
        first, last = (f"{epoch:g}" for epoch in self.epochs)
        return f"{self.observable}; epochs {first}–{last} of 24"
