"""One script a stage of dvc.yaml; run as `python -m stages.<stage>`."""
