"""Fault injection into real `dvc repro` processes."""

THOROUGH = 50  # kills of one training, from which on all tests run
