"""A training that is killed again and again ends as one that nobody killed."""

from conftest import Checkout

from .campaign import Campaign


def test_a_training_killed_at_any_moment_ends_bitwise_as_an_uninterrupted_one(
    checkout: Checkout, kills: int, seed: int
):
    campaign = Campaign(checkout, seed, num_epochs=30 if kills > 10 else 10)
    campaign.wage(kills)
    for label, count in sorted(campaign.kills.items()):
        print(f"{count:3} {label}")
