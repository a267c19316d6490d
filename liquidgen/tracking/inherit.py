"""What a run takes over from earlier runs of the same training, such as shorter ones."""

from collections.abc import Iterable

from liquidgen.tracking.journal import Journal, series


def inherit(journal: Journal, earlier: Iterable[Journal], until: int) -> None:
    """Add the points and pictures up to a step that only earlier runs have.

    Raises OSError where the journal cannot be written; a picture that is gone is passed over.
    """
    known, new = journal.last_steps(), []
    for other in earlier:
        for event, _ in other.events():
            step = event.get("step", 0)
            missing = {key: step for key in series(event) if known.get(key, -1) < step}
            if not missing or step > until:
                continue
            if "image" in event:
                if (picture := other.files / event["image"]).exists():
                    journal.keep_file(picture.name, picture.read_bytes())
            else:
                event["metrics"] = {key: event["metrics"][key] for key in missing}
            known |= missing
            new.append(event)
    if new:
        journal.append(*new)
