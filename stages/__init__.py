"""One script per stage of dvc.yaml; run as `python -m stages.<stage>`."""

import signal
import sys

from liquidgen.runtime.launch import is_worker
from liquidgen.runtime.signals import dvc_has_died, set_parent_death_signal

# before any slow import: a killed DVC would leave its stage running beside the next one
set_parent_death_signal(signal.SIGTERM)
if not is_worker() and dvc_has_died():  # it died before the kernel was asked
    sys.exit("stopped: the `dvc repro` that started this stage is gone")
