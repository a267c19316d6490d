"""Finds and fixes what is wrong with a checkout: the commands doctor and repair."""
