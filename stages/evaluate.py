"""Stage evaluate: score the samples."""

from liquidgen.runtime.runner import run_stage
from liquidgen.stages.evaluate.stage import main

if __name__ == "__main__":
    run_stage(main)
