"""One script a stage of dvc.yaml; run as `python -m stages.<stage>`."""

import signal
import sys

from liquidgen.runtime.launch import is_worker
from liquidgen.runtime.signals import outlived_dvc, signal_at_parents_death

# before anything slow is imported: a killed DVC would leave its stage running beside the next one
signal_at_parents_death(signal.SIGTERM)
if not is_worker() and outlived_dvc():  # it died before the kernel was asked
    sys.exit("stopped: the `dvc repro` that started this stage is gone")
