"""The feature networks that run in tests: those whose weights a package carries."""

NETWORKS = ("builtin", "efficientnet_lite0")
