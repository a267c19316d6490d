"""Stage download: download the selected dataset unchanged."""

from liquidgen.runtime.runner import run_stage
from liquidgen.stages.download.stage import main

if __name__ == "__main__":
    run_stage(main, distributed=False)
