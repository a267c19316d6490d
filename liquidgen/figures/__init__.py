"""Image grids and the text in figures."""

GRID = "grid.png"  # in the folder of the samples
