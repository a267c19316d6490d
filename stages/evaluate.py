"""Stage evaluate: scores of the samples."""

from liquidgen.stage import run_stage
from liquidgen.stages.evaluate import main

if __name__ == "__main__":
    run_stage(main)
