"""The model that MLflow serves, called by several threads at once, as MLflow's server does."""

import io
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from PIL import Image

REQUESTS = [
    (label, {"solver": solver, "guidance_scale": scale, "num_inference_steps": 4})
    for label, solver, scale in (("0", "heun", 1.0), ("1", "euler", 4.0))
]


@pytest.fixture
def fast_switches() -> Iterator[None]:
    """Let Python switch threads often, as if each step took long."""
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    yield
    sys.setswitchinterval(interval)


@pytest.mark.filterwarnings("ignore:.*type hint:UserWarning")  # of MLflow's own types
def test_concurrent_requests_do_not_mix(model: Path, fast_switches: None):
    from liquidgen.pipeline.served_model import ARTIFACT, ServedModel

    served = ServedModel()
    served.load_context(SimpleNamespace(artifacts={ARTIFACT: str(model)}))

    def answer(request: tuple[str, dict]) -> np.ndarray:
        label, params = request
        rows = pd.DataFrame({"class_labels": [label], "seed": [3]})
        (png,) = served.predict(None, rows, params)["png"]
        return np.asarray(Image.open(io.BytesIO(png)))

    alone = [answer(request) for request in REQUESTS]
    with ThreadPoolExecutor(2) as threads:
        together = list(threads.map(answer, REQUESTS * 2))
    for found, expected in zip(together, alone * 2, strict=True):
        assert np.array_equal(found, expected)
