"""`python -m liquidgen` is the command `liquidgen`."""

from liquidgen.cli import main

main()
