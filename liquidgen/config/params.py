"""Reads and validates params.yaml, and names the folder of each stage."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError

from liquidgen.config import settings as s
from liquidgen.config.paths import own_path, project_root
from liquidgen.utils.errors import UserError, reason_of
from liquidgen.utils.text import listed, nearest_matches, short_repr

PARAMS = Path("params.yaml")
MAX_BYTES = 1_000_000  # of the file; reading YAML takes about 10 s per MB
MAX_LEVELS = 50
TOO_DEEP = f"nested in more than {MAX_LEVELS} levels; settings have a few"
STAGES = tuple(s.StageSections.model_fields)
UNTRACKED = tuple(s.UntrackedSections.model_fields)
# selector -> its group of blocks
BLOCKS = {
    name: f"{name}s"
    for name in s.Selectors.model_fields
    if f"{name}s" in s.BlockGroups.model_fields
}


class Params(s.StageSections, s.UntrackedSections):
    """params.yaml after validation: the selected blocks, all sections, and the folders.

    Attributes:
        selectors: The image size and the names of the selected blocks.
        dataset: The selected block of each group; likewise `autoencoder`, `model` and `block`.
        train: Settings of the stage; those that were null are of the model's block.
        raw: The file as it was read, for records.
    """

    selectors: s.Selectors
    dataset: s.DatasetSettings
    autoencoder: s.AutoencoderSettings
    model: s.ModelSettings
    train: s.TrainSettings
    block: dict[Any, Any]
    raw: dict[Any, Any]

    @property
    def run_name(self) -> str:
        """Name of the selected combination; names its model and samples."""
        c = self.selectors
        return f"{c.dataset}-{c.image_size}-{c.autoencoder}-{c.model}-{c.block}"

    @property
    def raw_folder(self) -> Path:
        """Raw images of the selected dataset."""
        return Path("data/raw") / self.selectors.dataset

    @property
    def latents_folder(self) -> Path:
        """Latent shards."""
        c = self.selectors
        return Path("data/latents") / f"{c.dataset}-{c.image_size}-{c.autoencoder}"

    @property
    def model_folder(self) -> Path:
        """The trained model."""
        return Path("data/models") / self.run_name

    @property
    def samples_folder(self) -> Path:
        """Images drawn from the model."""
        return Path("data/samples") / self.run_name

    @property
    def evaluation_folder(self) -> Path:
        """Figures and tables of the evaluation."""
        return Path("data/evaluation") / self.run_name

    @property
    def metrics_folder(self) -> Path:
        """Scores that `dvc metrics` and `dvc plots` show."""
        return Path("metrics")

    def flat(self, *only: str) -> dict[str, object]:
        """Return the settings that a run is recorded with, by keys such as `train.seed`.

        Args:
            only: Names of blocks and stages to record; without it, all of them.

        Returns:
            The selectors, and the settings of the selected blocks and of the stages.
        """
        selected = self.selectors.model_dump()
        groups = {name: self.raw[group][selected[name]] for name, group in BLOCKS.items()}
        groups |= {stage: self.raw[stage] for stage in STAGES}
        groups |= {"model": self.model.model_dump(), "train": self.train.model_dump()}
        chosen = {name: group for name, group in groups.items() if not only or name in only}
        return selected | {
            f"{name}.{key}": value for name, group in chosen.items() for key, value in group.items()
        }


class Choice(NamedTuple):
    """Selected name of a selector, its blocks, and descriptions of some."""

    selected: object
    blocks: dict[str, Any]
    descriptions: dict[str, str]


def load_params(path: Path = PARAMS, changes: Mapping[str, object] | None = None) -> Params:
    """Read and validate params.yaml.

    Args:
        path: The file.
        changes: Other values of keys, by full path such as `train.seed`; or a whole new block,
            such as `datasets.mine`.

    Raises:
        UserError: Keys that are unknown, missing or mistyped, by full path; or a file that cannot
            be read.
    """
    raw = _read(path)
    for key, value in (changes or {}).items():
        _change(raw, key, value)
    file = s.validate(s.ParamsFile, raw, file=path)
    _check_descriptions(file)
    selected = {name: _select(file, name, group) for name, group in BLOCKS.items()}
    _keep_apart(file.dataset, selected["dataset"])
    # here, too, because encode would report it only after a download
    s.check_image_size(file.image_size, selected["autoencoder"].downscale)
    preset = selected["model"]
    selected["model"] = s.ModelSettings(**preset.model_dump(include=s.ModelSettings.model_fields))
    sections = {name: getattr(file, name) for name in (*STAGES, *UNTRACKED)}
    sections["train"] = s.TrainSettings.resolve(file.train, preset)
    return Params(
        selectors=s.Selectors(**{name: getattr(file, name) for name in s.Selectors.model_fields}),
        **selected,
        **sections,
        raw=raw,
    )


def load_choices(path: Path) -> dict[str, Choice]:
    """Read what each selector of params.yaml can choose from; its other keys may be wrong.

    Raises:
        UserError: A file that cannot be read, and mistakes in blocks or descriptions.
    """
    raw = _read(path)
    known = raw.keys() & s.BlockGroups.model_fields.keys()
    file = s.validate(s.BlockGroups, {key: raw[key] for key in known}, file=path)
    return {
        selector: Choice(raw.get(selector), getattr(file, group), getattr(file.descriptions, group))
        for selector, group in BLOCKS.items()
    }


def _change(raw: dict, key: str, value: object) -> None:
    *path, last = key.split(".")
    section = raw
    prefix = ""
    for name in path:
        if not isinstance(section.get(name), dict):
            raise UserError(f"{key}: unknown key; {s.nearest(name, section, prefix)}")
        section = section[name]
        prefix += f"{name}."
    if last not in section and path not in [[group] for group in BLOCKS.values()]:
        raise UserError(f"{key}: unknown key; {s.nearest(last, section, prefix)}")
    section[last] = value


def _check_descriptions(file: s.BlockGroups) -> None:
    """Refuse descriptions of blocks that are not there."""
    for group, descriptions in file.descriptions:
        blocks = getattr(file, group)
        for name in descriptions.keys() - blocks.keys():
            prefix = f"descriptions.{group}."
            raise UserError(f"{prefix}{name}: unknown key; {s.nearest(name, blocks, prefix)}")


def _select(file: s.ParamsFile, selector: str, group: str) -> Any:
    name: str = getattr(file, selector)
    blocks: dict[str, Any] = getattr(file, group)
    if name not in blocks:
        near = nearest_matches(name, blocks)
        others = f"there are {listed(sorted(blocks), quotes=False)}" if blocks else "add one"
        hint = f"did you mean {near[0]}?" if near else others
        raise UserError(f"{selector}: no block '{name}' in {group}; {hint}")
    return blocks[name]


def _keep_apart(name: str, dataset: s.DatasetSettings) -> None:
    """Refuse own data below data/, where DVC deletes what a stage is about to make."""
    path = getattr(dataset, "path", None)  # drawn images have none
    if path is not None and own_path(path).resolve().is_relative_to(_data_folder()):
        raise UserError(
            f"datasets.{name}.path: {path} is inside data/, where DVC deletes files; move your "
            "files out of it, such as to images/, and set that path"
        )


def _data_folder() -> Path:
    return (project_root() / "data").resolve()


def _read(path: Path) -> dict[Any, Any]:
    # ruamel reads YAML 1.2 as DVC does; PyYAML would read 1e-4 as text
    try:
        if (size := path.stat().st_size) > MAX_BYTES:
            raise UserError(
                f"{path}: {size / 1e6:.1f} MB, but settings are at most {MAX_BYTES / 1e6:.0f} MB; "
                "remove what is no setting"
            )
        content = path.read_bytes()
        _check_brackets(path, content)  # which would take minutes to parse
        raw = YAML(typ="safe").load(content)
        _check_values(raw, "", [], set())
    except FileNotFoundError:
        raise UserError(f"{path}: no such file; run from the folder that has it") from None
    except RecursionError:
        raise UserError(f"{path}: {TOO_DEEP}") from None
    except MarkedYAMLError as error:
        line = error.problem_mark.line + 1
        raise UserError(f"{path}: line {line}: not valid YAML: {error.problem}") from None
    except YAMLError as error:  # characters that no YAML file may hold
        raise UserError(f"{path}: not valid YAML: {reason_of(error)}; save it as UTF-8") from None
    except ValueError as error:  # such as numbers of thousands of digits
        raise UserError(f"{path}: not valid: {reason_of(error)}; correct it") from None
    if not isinstance(raw, dict):
        raise UserError(f"{path}: must be a mapping of keys, but it is {short_repr(raw)}")
    return raw


def _check_brackets(path: Path, content: bytes) -> None:
    depth = 0
    for bracket in re.finditer(rb"[\[{]|[\]}]", content):
        depth += 1 if bracket[0] in b"[{" else -1
        if depth > MAX_LEVELS:
            raise UserError(f"{path}: {TOO_DEEP}")


def _check_values(value: object, key: str, parents: list[int], checked: set[int]) -> None:
    """Refuse values that contain themselves, are nested too deeply, or cannot be in a path."""
    if isinstance(value, str) and "\0" in value:
        raise UserError(f"{key}: holds the character NUL; remove it")
    if isinstance(value, dict | list) and id(value) not in checked:  # aliases repeat values
        if id(value) in parents or len(parents) > MAX_LEVELS:
            raise UserError(f"{key}: {TOO_DEEP}")
        items = value.items() if isinstance(value, dict) else enumerate(value)
        for name, one in items:
            _check_values(one, f"{key}.{name}".lstrip("."), [*parents, id(value)], checked)
        checked.add(id(value))
