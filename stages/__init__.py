"""One script a stage of dvc.yaml; run as `python -m stages.<stage>`."""

import signal

from liquidgen.interrupt import signal_at_parents_death

# before anything slow is imported: a killed DVC would leave its stage running beside the next one
signal_at_parents_death(signal.SIGTERM)
