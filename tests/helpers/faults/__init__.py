"""Fault injection into real `dvc repro` processes."""
