"""The examinations of `liquidgen doctor`; each looks at one thing and changes nothing."""

import os
import platform
import sys
from collections.abc import Iterator
from functools import partial
from importlib import metadata
from pathlib import Path

from liquidgen.cli.findings import Finding, Level
from liquidgen.hub.errors import Unreachable
from liquidgen.hub.session import within
from liquidgen.utils.errors import UserError

SHOWN = ("torch", "diffusers", "datasets", "huggingface_hub", "dvc", "mlflow")
HUB_PATIENCE = 5  # seconds


def python() -> Finding:
    """The interpreter."""
    version = platform.python_version()
    found = f"{version} on {platform.system()} {platform.machine()}, {os.cpu_count()} cores"
    return Finding(Level.OK, "python", f"{found}, {sys.executable}")


def packages() -> Iterator[Finding]:
    """The libraries that LiquidGen names, against the versions that it names."""
    from packaging.requirements import Requirement

    try:
        named = [Requirement(line) for line in metadata.requires("liquidgen") or []]
    except metadata.PackageNotFoundError:
        remedy = "`pip install -e .` in its checkout"
        yield Finding(Level.WRONG, "packages", "liquidgen is not installed", remedy)
        return
    needed = [one for one in named if one.marker is None or one.marker.evaluate()]
    found = [(one, _version(one.name)) for one in needed]
    wrong = [(one, version) for one, version in found if not one.specifier.contains(version)]
    for requirement, version in wrong:
        there = f"{requirement.name} {version or 'is missing'}, but LiquidGen needs {requirement}"
        yield Finding(Level.WRONG, "packages", there, f"`pip install '{requirement}'`")
    if not wrong:
        shown = ", ".join(f"{name} {_version(name)}" for name in SHOWN)
        yield Finding(Level.OK, "packages", f"all {len(needed)} are there: {shown}")


def _version(name: str) -> str:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return ""


def settings() -> Finding:
    """params.yaml."""
    from liquidgen.api import params_file
    from liquidgen.config.params import load_params

    path = params_file()
    try:
        params = load_params(path)
    except UserError as error:
        return Finding(Level.WRONG, "settings", str(error))
    return Finding(Level.OK, "settings", f"{params.run_name} ({path.resolve()})")


def device() -> Finding:
    """What `machine.device: auto` and `train.precision: auto` mean here."""
    import torch

    from liquidgen.compute.device import resolve_device
    from liquidgen.compute.precision import training_dtype

    chosen = resolve_device("auto")
    precision = str(training_dtype("auto", chosen)).removeprefix("torch.")
    if chosen.type == "cuda":
        card = torch.cuda.get_device_properties(chosen)
        memory = f"{card.total_memory / 2**30:.0f} GiB"
        found = f"{torch.cuda.device_count()} x {card.name} ({memory}), auto precision {precision}"
        return Finding(Level.OK, "device", found)
    found = f"no GPU that torch {torch.__version__} can use, auto precision {precision}"
    if Path("/proc/driver/nvidia/version").exists():
        remedy = "there is an NVIDIA driver: install torch for CUDA (pytorch.org/get-started)"
        return Finding(Level.WRONG, "device", found, remedy)
    return Finding(Level.NOTE, "device", found, "small models at 64 px train on a CPU")


def tracking(root: Path) -> Finding:
    """Where runs are recorded, and whether it can be opened."""
    from liquidgen.tracking.store import Store, named_uri, tracking_uri

    uri = tracking_uri(root)
    if not named_uri() and not (root / "mlflow.db").exists():
        return Finding(Level.OK, "tracking", f"{uri}: made by the first run")
    try:
        count = len(Store(root).client.search_experiments())
    except Exception as error:  # MLflow and the databases behind it raise anything
        reason = " ".join(str(error).split())[:200]
        remedy = "training goes on without it; mend it, or set MLFLOW_TRACKING_URI"
        return Finding(Level.WRONG, "tracking", f"{uri}: does not open ({reason})", remedy)
    return Finding(Level.OK, "tracking", f"{uri}: {count} experiments")


def dvc_locks(root: Path) -> Finding:
    """What DVC holds, or what a killed one has left."""
    from dvc.dvcfile import LOCK_FILE
    from dvc.rwlock import RWLOCK_FILE

    from liquidgen.cli.repair import Holder, holders, lock_is_readable

    if not (root / ".dvc").is_dir():
        remedy = "run from a checkout to use `dvc repro`"
        return Finding(Level.NOTE, "dvc", "no repository here", remedy)
    if not lock_is_readable(root / LOCK_FILE):
        return Finding(Level.WRONG, "dvc", f"{LOCK_FILE} is damaged", "`make mend`")
    path = root / ".dvc/tmp" / RWLOCK_FILE
    try:
        found = holders(path)
    except ValueError:
        return Finding(Level.WRONG, "dvc", f"{path} is damaged", "`make mend`")
    pids = {kind: ", ".join(str(pid) for pid in found if found[pid] == kind) for kind in Holder}
    if pids[Holder.DVC]:
        at_work = f"at work here (process {pids[Holder.DVC]})"
        return Finding(Level.NOTE, "dvc", at_work, "wait for it, or end it")
    if pids[Holder.STRANGER]:
        left = "a killed DVC left a lock, and its process number"
        return Finding(
            Level.WRONG, "dvc", f"{left} ({pids[Holder.STRANGER]}) is another's now", "`make mend`"
        )
    return Finding(Level.OK, "dvc", "no locks are held")


def hub() -> Finding:
    """Whether the Hugging Face hub answers, and who we are there."""
    from huggingface_hub import constants, get_token
    from huggingface_hub.utils import get_session

    if constants.HF_HUB_OFFLINE:
        remedy = "unset it to download presets"
        return Finding(Level.NOTE, "hub", "HF_HUB_OFFLINE is set: only the cache is used", remedy)
    ask = partial(get_session().head, constants.ENDPOINT, timeout=HUB_PATIENCE)
    try:
        within(HUB_PATIENCE, ask)  # the time limit of a request does not reach DNS
    except Exception as error:  # whatever the HTTP library of the day raises
        reason = " ".join(str(error).split()) or type(error).__name__
        if isinstance(error, Unreachable):
            reason = f"no answer within {HUB_PATIENCE} s"
        remedy = "presets need it (check HTTPS_PROXY, HF_ENDPOINT); the builtin default does not"
        return Finding(Level.NOTE, "hub", f"{constants.ENDPOINT} not reached ({reason})", remedy)
    token = "with a token" if get_token() else "without a token: HF_TOKEN opens gated repositories"
    return Finding(Level.OK, "hub", f"{constants.ENDPOINT} answers, {token}")
