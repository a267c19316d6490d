"""Clears away what a killed `dvc repro` left half-written; `python -m liquidgen.mend`.

DVC writes dvc.lock and .dvc/tmp/rwlock, its list of who works on what, in place. It passes over
list entries of dead processes, but stops at a file that a kill has cut, and at the number of a
dead process that another program has by now, as after a restart of a container.
"""

import json
import logging
import os
from pathlib import Path
from typing import TYPE_CHECKING

from liquidgen.paths import project_root

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
    from dvc.dvcfile import LOCK_FILE, Lockfile
    from dvc.exceptions import DvcException
    from dvc.utils import strictyaml

    path = Path(repo.root_dir, LOCK_FILE)
    if not path.exists():
        return
    try:
        strictyaml.load(str(path), Lockfile.SCHEMA)
    except DvcException:
        kept = Path(repo.tmp_dir, f"{LOCK_FILE}.damaged")
        os.replace(path, kept)
        logger.warning("%s was damaged, it is now %s; `dvc repro` writes it anew", path, kept)


def _put_away_stale_list(repo: "Repo") -> None:
    from dvc.rwlock import RWLOCK_FILE, SCHEMA
    from voluptuous import Invalid

    path = Path(repo.tmp_dir, RWLOCK_FILE)
    if not path.exists():
        return
    try:
        listed = SCHEMA(json.loads(path.read_bytes()))
    except (ValueError, Invalid):
        stale = True
    else:
        readers = [reader for readers in listed["read"].values() for reader in readers]
        owners = [*listed["write"].values(), *readers]
        stale = owners and not any(_runs(**owner) for owner in owners)
    if stale:
        path.unlink()
        logger.warning("%s named no DVC that is running, it is removed", path)


def _runs(pid: int, cmd: str) -> bool:
    """Whether a process of this number is there, and has the arguments that DVC noted."""
    import psutil

    arguments = cmd.partition(" ")[2]  # what comes before differs: `dvc`, `python -m dvc`
    try:
        return " ".join(psutil.Process(pid).cmdline()).endswith(arguments)
    except psutil.NoSuchProcess:
        return False


if __name__ == "__main__":
    logging.basicConfig(format="%(message)s", level=logging.WARNING)
    mend(project_root())
