"""Stage train: latents to a model."""

from liquidgen.stage import run_stage
from liquidgen.stages.train import main

if __name__ == "__main__":
    run_stage(main)
