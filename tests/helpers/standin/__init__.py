"""A small hub on this machine that serves folders to the real client libraries.

`StandInHub` answers the requests of huggingface_hub, datasets and diffusers when HF_ENDPOINT names
it, and misbehaves on demand (`faults.py`). No request leaves the machine.
"""

from helpers.standin.faults import Fault
from helpers.standin.repositories import Repository
from helpers.standin.server import StandInHub

__all__ = ["Fault", "Repository", "StandInHub"]
