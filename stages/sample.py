"""Stage sample: generate images with the model."""

from liquidgen.runtime.runner import run_stage
from liquidgen.stages.sample.stage import main

if __name__ == "__main__":
    run_stage(main)
