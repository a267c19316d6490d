"""Benchmarks run as the product does: how torch's threads wait is set before torch is loaded."""

import liquidgen  # noqa: F401
