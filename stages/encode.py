"""Stage encode: raw images to latent shards."""

from liquidgen.stage import run_stage
from liquidgen.stages.encode import main

if __name__ == "__main__":
    run_stage(main)
