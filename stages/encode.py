"""Stage encode: encode raw images to latent shards."""

from liquidgen.runtime.runner import run_stage
from liquidgen.stages.encode.stage import main

if __name__ == "__main__":
    run_stage(main)
