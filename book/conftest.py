"""How nbval compares the chapters with their committed outputs."""

import pytest


def pytest_collectstart(collector: pytest.Collector) -> None:
    """Leaves figures out of the comparison, vectors as nbval itself leaves out ``image/png``.

    The bytes of a picture depend on fonts and library versions; the numbers that it shows are
    compared as text, and figures have tests of their own.
    """
    # only nbval's collector has it; every other one passes through here too
    if hasattr(collector, "skip_compare"):
        collector.skip_compare += ("image/svg+xml",)
