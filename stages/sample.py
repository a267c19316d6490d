"""Stage sample: images from the model."""

from liquidgen.stage import run_stage
from liquidgen.stages.sample import main

if __name__ == "__main__":
    run_stage(main)
