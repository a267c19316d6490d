"""A training that is killed many times ends like an uninterrupted one."""

import pytest
from helpers.checkout import Checkout
from helpers.faults.campaign import Campaign
from helpers.faults.kills import KillInWrite, run_repro
from helpers.faults.outcome import mlflow_points
from helpers.faults.training import train

from liquidgen.generator.run_file import read_run

pytestmark = pytest.mark.fault("training killed at random, in saves and between them")


def test_killed_training_is_bitwise_reproducible(checkout: Checkout, kills: int, seed: int):
    campaign = Campaign(checkout, seed, num_epochs=30 if kills > 10 else 10)
    campaign.run(kills)
    for label, count in sorted(campaign.kills.items()):
        print(f"{count:3} {label}")


@pytest.mark.usefixtures("thorough")
def test_training_killed_before_run_id_is_saved_has_one_run(checkout: Checkout):
    checkout.change(train__seed=1)
    before_run_id = KillInWrite("train", 1, "open", pattern=".metrics.state.json.*.tmp")
    code, output = run_repro(checkout, before_run_id, "train")
    assert code != 0, output
    train(checkout, "train")
    (model,) = (checkout.root / "data/models").iterdir()
    assert mlflow_points(checkout, read_run(model))  # asserts that there is one run
