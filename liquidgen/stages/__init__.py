"""The stages as functions of settings and root; `stages/` and Python call the same ones."""
