"""A training that is killed again and again ends as one that nobody killed."""

import pytest
from helpers.checkout import Checkout
from helpers.faults.campaign import Campaign
from helpers.faults.kills import InWrite, struck
from helpers.faults.outcome import history
from helpers.faults.training import train

from liquidgen.tracking.run_file import read_run


def test_a_training_killed_at_any_moment_ends_bitwise_as_an_uninterrupted_one(
    checkout: Checkout, kills: int, seed: int
):
    campaign = Campaign(checkout, seed, num_epochs=30 if kills > 10 else 10)
    campaign.wage(kills)
    for label, count in sorted(campaign.kills.items()):
        print(f"{count:3} {label}")


@pytest.mark.usefixtures("thorough")
def test_a_training_killed_before_it_knew_its_run_has_one_run(checkout: Checkout):
    checkout.change(train__seed=1)
    known = InWrite("train", 1, "open", pattern=".metrics.state.json.*.tmp")
    code, said = struck(checkout, known, "train")
    assert code != 0, said
    train(checkout, "train")
    (model,) = (checkout.root / "data/models").iterdir()
    assert history(checkout, read_run(model))  # refuses a second run
