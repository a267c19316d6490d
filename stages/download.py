"""Stage download: images of the selected dataset, as they are."""

from liquidgen.stage import run_stage
from liquidgen.stages.download import main

if __name__ == "__main__":
    run_stage(main, several=False)
