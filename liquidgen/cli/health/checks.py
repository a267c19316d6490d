"""Checks of `liquidgen doctor`; each looks at one thing and changes nothing."""

import os
import platform
import sys
from collections.abc import Iterator
from configparser import ConfigParser
from configparser import Error as ConfigParserError
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING

from liquidgen.cli.health.findings import Finding, Level
from liquidgen.cli.health.repair import (
    DVC_LOCK,
    RWLOCK,
    ProcessState,
    is_whole_lock,
    read_rwlock,
    recorded_outputs,
)
from liquidgen.runtime.extras import requirements
from liquidgen.utils.deadline import within
from liquidgen.utils.errors import UserError, reason_of
from liquidgen.utils.text import listed

if TYPE_CHECKING:
    from liquidgen.config.params import Params

SHOWN_PACKAGES = ("torch", "diffusers", "huggingface_hub", "dvc", "mlflow")
HUB_TIMEOUT = 5  # seconds
STORE_TIMEOUT = 30  # seconds; MLflow alone takes some to start


def python() -> Finding:
    """Report the Python interpreter and the machine."""
    version = platform.python_version()
    found = f"{version} on {platform.system()} {platform.machine()}, {os.cpu_count()} cores"
    return Finding(Level.OK, "python", f"{found}, {sys.executable}")


def packages() -> Iterator[Finding]:
    """Compare the installed packages with the requirements of LiquidGen."""
    try:
        needed = requirements()
    except metadata.PackageNotFoundError:
        remedy = "`pip install -e .` in its checkout"
        yield Finding(Level.WRONG, "packages", "liquidgen is not installed", remedy)
        return
    versions = {one: _version(one.name) for one in needed}
    unmet = [one for one in needed if not one.specifier.contains(versions[one])]
    for requirement in unmet:
        installed = f"{requirement.name} {versions[requirement] or 'is missing'}"
        found = f"{installed}, but LiquidGen needs {requirement}"
        yield Finding(Level.WRONG, "packages", found, f"`pip install '{requirement}'`")
    if not unmet:
        shown = [f"{name} {_version(name)}" for name in SHOWN_PACKAGES if _version(name)]
        found = f"all {len(needed)} are installed: {', '.join(shown)}"
        yield Finding(Level.OK, "packages", found)


def _version(name: str) -> str:
    """Return the version of an installed package; empty if it is missing."""
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return ""


def settings(root: Path) -> Iterator[Finding]:
    """Validate params.yaml, and find what a stage will refuse."""
    from liquidgen.api import params_file
    from liquidgen.config.params import load_params

    path = params_file()
    try:
        params = load_params(path)
    except UserError as error:
        yield Finding(Level.WRONG, "settings", str(error))
        return
    yield Finding(Level.OK, "settings", f"{params.run_name} ({path.resolve()})")
    for check in (check_own_images, partial(_check_image_counts, root)):
        try:
            check(params)
        except UserError as error:
            yield Finding(Level.WRONG, "settings", str(error))


def check_own_images(params: "Params") -> None:
    """Check that the user's own images are there, if the selected dataset consists of them.

    Raises:
        UserError: There is nothing at their path.
    """
    from liquidgen.config.settings import FolderSettings, ParquetSettings
    from liquidgen.stages.download.sources.own_files import existing

    if isinstance(params.dataset, FolderSettings | ParquetSettings):
        existing(params.dataset.path)


def _check_image_counts(root: Path, params: "Params") -> None:
    from liquidgen.config.image_counts import too_few_images
    from liquidgen.latents.manifest import MANIFEST, SPLITS, read_manifest

    folder = root / params.latents_folder
    if not (folder / MANIFEST).exists():
        return
    manifest = read_manifest(folder)
    train, holdout = (manifest.num_originals(name) for name in SPLITS)
    samples = params.sample.num_images
    if refusal := too_few_images(params.evaluate, samples=samples, train=train, holdout=holdout):
        raise UserError(refusal)


def device() -> Finding:
    """Report what `machine.device: auto` and `train.precision: auto` select here."""
    import torch

    from liquidgen.compute.device import resolve_device
    from liquidgen.compute.precision import network_dtype

    chosen = resolve_device("auto")
    precision = str(network_dtype("auto", chosen, "train")).removeprefix("torch.")
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
    """Check that the store of the runs can be opened, and that its files are this checkout's."""
    from liquidgen.tracking.address import file_in, named_uri, reason, tracking_uri, without_secrets
    from liquidgen.tracking.own_database import foreign_locations
    from liquidgen.tracking.store import Store

    if not _version("mlflow"):
        remedy = "`pip install 'liquidgen[pipeline]'` to train"
        return Finding(Level.NOTE, "tracking", "MLflow is not installed", remedy)
    uri = tracking_uri(root)
    where = without_secrets(uri)
    own = file_in(root, uri)
    if not named_uri() and own and not own.exists():
        return Finding(Level.OK, "tracking", f"{where}: created by the first run")
    try:
        store = within(STORE_TIMEOUT, partial(Store, root))
        count = len(within(STORE_TIMEOUT, store.client.search_experiments))
        elsewhere = foreign_locations(own, root)["runs"] if own else []
    except Exception as error:  # of MLflow or any database
        found = f"{where}: cannot be opened ({reason(error)})"
        remedy = "training works without it; fix it, or set MLFLOW_TRACKING_URI"
        return Finding(Level.WRONG, "tracking", found, remedy)
    if elsewhere:
        found = f"{where}: {len(elsewhere)} runs look for their images in another checkout"
        remedy = "this one is a copy or was moved; the next run, or `liquidgen ui`, repairs it"
        return Finding(Level.NOTE, "tracking", found, remedy)
    return Finding(Level.OK, "tracking", f"{where}: {count} experiments")


def git(root: Path) -> Iterator[Finding]:
    """Find a DVC repository without git, in which DVC stops unless it is told to do without."""
    if (root / ".dvc").is_dir() and not _has_git(root):
        found = "no git repository here, and `dvc repro` stops without one"
        remedy = "`git init`, or `dvc config --local core.no_scm true` (as `make demo` does)"
        yield Finding(Level.WRONG, "git", found, remedy)


def _has_git(root: Path) -> bool:
    """Return whether DVC finds a git repository, or is told to do without one."""
    if any((folder / ".git").exists() for folder in (root, *root.parents)):
        return True
    config = ConfigParser(strict=False, interpolation=None)
    try:
        config.read([root / ".dvc/config", root / ".dvc/config.local"])
        return config.getboolean("core", "no_scm", fallback=False)
    except (ConfigParserError, ValueError):
        return False  # DVC says what is wrong with it


def dvc_files(root: Path) -> Finding:
    """Check the files that a killed DVC can leave half-written, and the folder's name."""
    if not (root / ".dvc").is_dir():
        remedy = "run from a checkout to use `dvc repro`"
        return Finding(Level.NOTE, "dvc", "no repository here", remedy)
    if {"{", "}"} & set(str(root)):
        return Finding(Level.WRONG, "dvc", f"DVC fails at the braces in {root}", "rename it")
    if not is_whole_lock(root / DVC_LOCK):
        return Finding(Level.WRONG, "dvc", f"{DVC_LOCK} is damaged", "`make repair`")
    try:
        states = read_rwlock(root / RWLOCK)
    except ValueError:
        return Finding(Level.WRONG, "dvc", f"{root / RWLOCK} is damaged", "`make repair`")
    running = _pids(states, ProcessState.RUNNING)
    if running:
        found = f"DVC is running here (process {running})"
        return Finding(Level.NOTE, "dvc", found, "wait for it, or end it")
    reused = _pids(states, ProcessState.REUSED)
    if reused:
        found = f"a killed DVC left a lock, and its process ID ({reused}) is another program's now"
        return Finding(Level.WRONG, "dvc", found, "`make repair`")
    return Finding(Level.OK, "dvc", "no locks are held")


def outputs(root: Path) -> Iterator[Finding]:
    """Compare all outputs with the digests that were recorded when they were made."""
    from liquidgen.cli.health.damage import check_outputs

    count = size = 0
    damaged = False
    try:
        for checked in check_outputs(root):
            count += 1
            size += checked.size
            if checked.damage:
                damaged = True
                yield Finding(Level.WRONG, "data", checked.damage)
    except UserError as error:
        damaged = True
        yield Finding(Level.WRONG, "data", str(error))
    if not damaged:
        found = (
            f"{count} files of {size / 1e6:.0f} MB are as recorded" if count else "no outputs yet"
        )
        yield Finding(Level.OK, "data", found)


def missing_outputs(root: Path) -> Iterator[Finding]:
    """Find outputs that dvc.lock records and that are missing, as after an aborted run."""
    missing = [path for path in recorded_outputs(root) if not (root / path).exists()]
    if missing:
        found = f"{listed(missing, quotes=False)}: recorded in {DVC_LOCK}, but missing"
        remedy = (
            "`dvc checkout` brings back what is in the cache, `dvc pull` what is in a remote, "
            "`dvc repro` makes the rest"
        )
        yield Finding(Level.NOTE, "outputs", found, remedy)


def _pids(states: dict[int, ProcessState], wanted: ProcessState) -> str:
    return ", ".join(str(pid) for pid, state in states.items() if state is wanted)


def hub() -> Finding:
    """Check whether the Hugging Face Hub answers, and whether there is a token."""
    from huggingface_hub import constants, get_token
    from huggingface_hub.utils import get_session

    if constants.HF_HUB_OFFLINE:
        remedy = "unset it to download presets"
        return Finding(Level.NOTE, "hub", "HF_HUB_OFFLINE is set: only the cache is used", remedy)
    request = partial(get_session().head, constants.ENDPOINT, timeout=HUB_TIMEOUT)
    try:
        within(HUB_TIMEOUT, request)  # the timeout of a request does not cover DNS
    except Exception as error:  # of whatever HTTP library the hub client uses
        reason = reason_of(error)
        remedy = "presets need it (check HTTPS_PROXY, HF_ENDPOINT); the builtin default does not"
        return Finding(Level.NOTE, "hub", f"{constants.ENDPOINT} not reached ({reason})", remedy)
    token = "with a token" if get_token() else "without a token: HF_TOKEN opens gated repositories"
    return Finding(Level.OK, "hub", f"{constants.ENDPOINT} answers, {token}")
