"""Real `dvc repro` processes, killed, starved and fed with damage."""
