"""Clears away what a killed `dvc repro` left half-written; `python -m liquidgen.cli.repair`.

DVC writes dvc.lock and .dvc/tmp/rwlock, its list of who works on what, in place. It passes over
list entries of dead processes, but stops at a file that a kill has cut, and at the number of a
dead process that another program has by now, as after a restart of a container.
"""

import json
import logging
import os
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING

from liquidgen.config.paths import project_root

if TYPE_CHECKING:
    from dvc.repo import Repo

logger = logging.getLogger(__name__)


def mend(root: Path) -> None:
    """Put away a dvc.lock that DVC cannot read, and a list that names no DVC that is running.

    Nothing is lost: DVC finds the outputs again by its run cache. A running DVC is left alone.
    """
    from dvc.lock import LockError, make_lock
    from dvc.repo import Repo
    from dvc.rwlock import RWLOCK_LOCK

    with Repo(root) as repo:
        listing = make_lock(os.path.join(repo.tmp_dir, RWLOCK_LOCK), tmp_dir=repo.tmp_dir)
        try:
            with repo.lock, listing:  # nobody is writing them at this moment
                _put_away_unreadable_lock(repo)
                _put_away_stale_list(repo)
        except LockError:
            logger.warning("a DVC is running in %s, nothing was touched", root)


def _put_away_unreadable_lock(repo: "Repo") -> None:
    from dvc.dvcfile import LOCK_FILE

    path = Path(repo.root_dir, LOCK_FILE)
    if not lock_is_readable(path):
        kept = Path(repo.tmp_dir, f"{LOCK_FILE}.damaged")
        os.replace(path, kept)
        logger.warning("%s was damaged, it is now %s; `dvc repro` writes it anew", path, kept)


def _put_away_stale_list(repo: "Repo") -> None:
    from dvc.rwlock import RWLOCK_FILE

    path = Path(repo.tmp_dir, RWLOCK_FILE)
    try:
        found = holders(path).values()
        stale = found and Holder.DVC not in found
    except ValueError:
        stale = True
    if stale:
        path.unlink()
        logger.warning("%s named no DVC that is running, it is removed", path)


def lock_is_readable(path: Path) -> bool:
    """Whether DVC can read this dvc.lock; it need not be there."""
    from dvc.dvcfile import Lockfile
    from dvc.exceptions import DvcException
    from dvc.utils import strictyaml

    try:
        return not path.exists() or bool(strictyaml.load(str(path), Lockfile.SCHEMA))
    except DvcException:
        return False


class Holder(StrEnum):
    """What has the process number of a DVC that is listed."""

    DVC = "that DVC"
    STRANGER = "another program"  # DVC stops at it
    NONE = "no process"  # DVC passes over it


def holders(path: Path) -> dict[int, Holder]:
    """The process numbers in DVC's list of who works on what, which need not be there.

    Raises ValueError where DVC cannot read it.
    """
    from dvc.rwlock import SCHEMA
    from voluptuous import Invalid

    try:
        listed = SCHEMA(json.loads(path.read_bytes()))
    except FileNotFoundError:
        return {}
    except Invalid as error:
        raise ValueError(error) from None
    readers = [reader for readers in listed["read"].values() for reader in readers]
    return {one["pid"]: _holder(**one) for one in [*listed["write"].values(), *readers]}


def _holder(pid: int, cmd: str) -> Holder:
    import psutil

    arguments = cmd.partition(" ")[2]  # what comes before differs: `dvc`, `python -m dvc`
    try:
        runs = " ".join(psutil.Process(pid).cmdline())
    except psutil.NoSuchProcess:
        return Holder.NONE
    except psutil.AccessDenied:  # another user's, which may be a DVC
        return Holder.DVC
    return Holder.DVC if runs.endswith(arguments) else Holder.STRANGER


if __name__ == "__main__":
    logging.basicConfig(format="%(message)s", level=logging.WARNING)
    mend(project_root())
