"""Faults by violence: real `dvc repro` processes are killed, starved and fed with damage."""
