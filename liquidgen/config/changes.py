"""What the settings change from those of the last commit: it names a run and describes it."""

import json
import os
import shlex
import shutil
import subprocess
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from liquidgen.config.params import BLOCKS, PARAMS, STAGES, Params
from liquidgen.utils.text import markdown, one_line

# in names of runs; any other key is shown without its section
SHORT = {
    "train.learning_rate": "lr",
    "train.num_epochs": "epochs",
    "train.batch_size": "batch",
    "sample.num_images": "samples",  # num_images is that of the dataset
    "sample.guidance_scale": "guidance",
    "sample.num_inference_steps": "steps",
}
# settings by the names that earlier versions recorded them with
RENAMED = {"sample.num_steps": "sample.num_inference_steps"}
# settings of stages that run again and again on one model: those of the first belong to the row of
# the training, others get a row of their own
LATER = ("sample.", "evaluate.")
LONGEST_VALUE = 24  # characters of a value in a name
LONGEST_TEXT = 60  # characters of all of them


@dataclass(frozen=True)
class Changes:
    """Settings that differ from those of the last commit.

    Attributes:
        params: The settings.
        commit: The commit, abbreviated; empty if there is none that has a params.yaml.
        changed: Value in the commit and value now, by keys such as `train.seed`.
    """

    params: Params
    commit: str
    changed: dict[str, tuple[object, object]]

    @property
    def name(self) -> str:
        """Name of a training: its model, and what changed or else what it is trained on."""
        chosen = self.params.selectors
        now = {key: new for key, (_, new) in self.changed.items() if not is_later_setting(key)}
        now.pop("model", None)
        return f"{chosen.model} {short_text(now) or experiment() or chosen.dataset}"

    @property
    def later(self) -> str:
        """What changed for the stages after the training; empty if nothing did."""
        return short_text(
            {key: new for key, (_, new) in self.changed.items() if is_later_setting(key)}
        )

    def description(self) -> str:
        """Return what changed, and the command that does it, as Markdown."""
        if not self.commit:
            return "No commit has settings to compare with.\n\n    dvc repro"
        if not self.changed:
            return f"Settings as in commit `{self.commit}`.\n\n    dvc repro"
        command = ["dvc exp run", *(self._option(key) for key in self.changed)]
        rows = [
            f"| {markdown(key)} | {markdown(_text(old))} | {markdown(_text(new))} |"
            for key, (old, new) in self.changed.items()
        ]
        head = f"| changed since commit `{self.commit}` | before | now |\n|---|---|---|"
        return "\n".join([head, *rows, "", f"    {' '.join(command)}"])

    def _option(self, key: str) -> str:
        """Return the option of `dvc exp run` that sets a key."""
        section, _, rest = key.partition(".")
        path = key
        if rest and section in BLOCKS:
            path = f"{BLOCKS[section]}.{getattr(self.params.selectors, section)}.{rest}"
        return f"-S {one_line(shlex.quote(f'{path}={_text(self.changed[key][1])}'))}"


def changes_since_commit(params: Params) -> Changes:
    """Compare settings with those of the last commit, or of the one that a DVC experiment is of."""
    revision = os.environ.get("DVC_EXP_BASELINE_REV") or "HEAD"
    commit = git("rev-parse", "--short", revision).decode().strip()
    before = _flat(_parsed(git("show", f"{revision}:./{PARAMS}")), params)
    if not before:
        return Changes(params, "", {})
    changed = {
        key: (before[key], value)
        for key, value in _flat(params.raw, params).items()
        if key in before and before[key] != value
    }
    return Changes(params, commit, changed)


def experiment() -> str:
    """Return the name of the DVC experiment that runs; empty if none does."""
    return os.environ.get("DVC_EXP_NAME", "")


def short_text(settings: Mapping[str, object]) -> str:
    """Return settings as a name shows them, such as `lr=0.002 epochs=24`."""
    lasts = Counter(key.rpartition(".")[2] for key in settings)
    words: list[str] = []
    for key, value in settings.items():
        last = key.rpartition(".")[2]
        text = f"{value:g}" if isinstance(value, float) else _text(value)
        if len(text) > LONGEST_VALUE:
            text = f"{text[:LONGEST_VALUE]}..."
        if key == "image_size":
            words.append(f"{text}px")
        elif "." not in key:  # a selector: the block's name says it
            words.append(text)
        else:
            words.append(f"{SHORT.get(key, last if lasts[last] == 1 else key)}={text}")
    kept = words
    while len(kept) > 1 and len(" ".join(kept)) > LONGEST_TEXT:
        kept = kept[:-1]
    hidden = len(words) - len(kept)
    return one_line(" ".join([*kept, f"+{hidden}"] if hidden else kept))


def is_later_setting(key: str) -> bool:
    """Return whether a setting belongs to a stage after the training."""
    return key.startswith(LATER)


def with_current_names(params: Mapping[str, str]) -> dict[str, str]:
    """Return recorded settings by the names that they have now."""
    return {RENAMED.get(key, key): value for key, value in params.items()}


def git(*arguments: str) -> bytes:
    """Return what git prints; nothing if it is not installed, or fails."""
    if not shutil.which("git"):
        return b""
    return subprocess.run(["git", *arguments], capture_output=True, check=False).stdout


def _text(value: object) -> str:
    """Return a value as a command line takes it."""
    if isinstance(value, str):
        return value
    return json.dumps(value, separators=(",", ":"), default=str)


def _flat(raw: dict[Any, Any], params: Params) -> dict[str, object]:
    """Return the selectors and the settings of the stages, and of the blocks selected now.

    The settings may be those of an older version.
    """
    selected = params.selectors.model_dump()
    sections = {"train": _section(raw, "train")}  # first in names
    sections |= {name: _section(raw.get(group), selected[name]) for name, group in BLOCKS.items()}
    sections |= {stage: _section(raw, stage) for stage in STAGES}
    flat = {name: raw[name] for name in selected if name in raw}
    return flat | {f"{name}.{k}": v for name, keys in sections.items() for k, v in keys.items()}


def _section(group: object, name: object) -> dict[Any, Any]:
    found = group.get(name) if isinstance(group, dict) else None
    return found if isinstance(found, dict) else {}


def _parsed(content: bytes) -> dict[Any, Any]:
    try:
        raw = YAML(typ="safe").load(content)
    except (YAMLError, ValueError, RecursionError):
        return {}
    return raw if isinstance(raw, dict) else {}
