"""Stage train: train a model on the latents."""

from liquidgen.runtime.runner import run_stage
from liquidgen.stages.train.stage import main

if __name__ == "__main__":
    run_stage(main)
