"""One script per stage of dvc.yaml; run as `python -m stages.<stage>`."""

from liquidgen.runtime.parent import end_with_parent

end_with_parent()  # before any slow import
