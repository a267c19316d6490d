"""Stage download: images of the selected dataset, as they are."""

from liquidgen.runtime.runner import run_stage
from liquidgen.stages.download.stage import main

if __name__ == "__main__":
    run_stage(main, several=False)
