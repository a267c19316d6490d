"""Adds params.yaml to the wheel: it is in the root of the checkout, where DVC reads it."""

from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py

PARAMS = "params.yaml"


class BuildWithParams(build_py):
    """Copies params.yaml beside the modules; an editable install reads it from the root."""

    def run(self) -> None:
        super().run()
        if not self.editable_mode:
            self.copy_file(PARAMS, str(Path(self.build_lib) / "liquidgen" / PARAMS))


setup(cmdclass={"build_py": BuildWithParams})
