"""A small hub on this machine: what the real clients ask of it, answered from folders.

`StandInHub` answers the requests of huggingface_hub, datasets and diffusers when HF_ENDPOINT names
it, and misbehaves on demand (`faults.py`). Nothing outside the machine is ever asked.
"""

from helpers.standin.faults import Fault
from helpers.standin.repositories import Repository
from helpers.standin.server import StandInHub

__all__ = ["Fault", "Repository", "StandInHub"]
