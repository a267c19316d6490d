"""Copies missing history from other runs of the same training, such as shorter ones."""

from collections.abc import Iterable

from liquidgen.tracking.journal import Journal, series_in


def inherit(journal: Journal, earlier: Iterable[Journal], until: int) -> None:
    """Add metrics and images that only earlier runs have; images whose files are gone are skipped.

    Args:
        journal: The run that is about to continue.
        earlier: Journals of other runs of the same training.
        until: Last step that is copied, the one at which the run continues.

    Raises:
        OSError: The journal cannot be written.
    """
    last_steps = journal.last_steps()
    copied = []
    for other in earlier:
        for event, _ in other.events():
            step = event.get("step", 0)
            missing = {key: step for key in series_in(event) if last_steps.get(key, -1) < step}
            if not missing or step > until:
                continue
            if "image" in event:
                image = other.files / event["image"]
                if image.exists():
                    journal.save_file(image.name, image.read_bytes())
            else:
                event["metrics"] = {key: event["metrics"][key] for key in missing}
            last_steps |= missing
            copied.append(event)
    if copied:
        journal.append(*copied)
