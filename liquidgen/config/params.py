"""Reads params.yaml and knows every folder; only the stages import this."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path

from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError

from liquidgen.config import settings as s
from liquidgen.config.paths import own_path, project_root
from liquidgen.utils.errors import UserError

PARAMS = Path("params.yaml")
STAGES = {
    "download": s.DownloadSettings,
    "encode": s.EncodeSettings,
    "train": s.TrainSettings,
    "sample": s.SampleSettings,
    "evaluate": s.EvaluateSettings,
}
UNTRACKED = {"machine": s.MachineSettings, "tracking": s.TrackingSettings}
BLOCKS = {
    "dataset": "datasets",
    "autoencoder": "autoencoders",
    "model": "models",
    "block": "blocks",
}


@dataclass(frozen=True)
class Params:
    """params.yaml after validation: the selected blocks, the stages' sections, and the folders."""

    selectors: s.Selectors
    dataset: s.DatasetSettings
    autoencoder: s.AutoencoderSettings
    model: s.ModelSettings
    block: dict
    download: s.DownloadSettings
    encode: s.EncodeSettings
    train: s.TrainSettings
    sample: s.SampleSettings
    evaluate: s.EvaluateSettings
    machine: s.MachineSettings
    tracking: s.TrackingSettings
    raw: dict

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
        """Pictures of the evaluation."""
        return Path("data/evaluation") / self.run_name

    @property
    def metrics_folder(self) -> Path:
        """Scores that `dvc metrics` and `dvc plots` show."""
        return Path("metrics")

    def flat(self, *only: str) -> dict[str, object]:
        """What a run is recorded with: selectors, selected blocks and stages, as `train.seed`.

        `only` names the blocks and stages to record; without it, all of them.
        """
        selected = self.selectors.model_dump()
        groups = {name: self.raw[group][selected[name]] for name, group in BLOCKS.items()}
        groups |= {stage: self.raw[stage] for stage in STAGES}
        chosen = {name: group for name, group in groups.items() if not only or name in only}
        return selected | {
            f"{name}.{key}": value for name, group in chosen.items() for key, value in group.items()
        }


def load_params(path: Path = PARAMS, changes: Mapping[str, object] | None = None) -> Params:
    """Read and validate params.yaml, with other values of some keys, named by their full path.

    A change may also add a whole block, such as `datasets.mine`.

    Raises UserError for unknown, missing or mistyped keys, by full path.
    """
    raw = _read(path)
    for key, value in (changes or {}).items():
        _change(raw, key, value)
    named = set(s.Selectors.model_fields) | set(BLOCKS.values()) | set(STAGES) | set(UNTRACKED)
    for key in sorted(raw.keys() - named, key=str):
        near = get_close_matches(str(key), sorted(named - raw.keys()), n=1)
        hint = f"did you mean {near[0]}?" if near else "remove it"
        raise UserError(f"{key}: unknown key in {path}; {hint}")
    for key in sorted(named - raw.keys()):
        raise UserError(f"{key}: missing key in {path}; add it")
    chosen = {key: raw[key] for key in s.Selectors.model_fields}
    selectors = s.validate(s.Selectors, chosen)
    blocks = {group: _blocks(raw[group], group) for group in BLOCKS.values()}
    sections = {
        name: s.validate(model, raw[name], name) for name, model in {**STAGES, **UNTRACKED}.items()
    }
    selected = {
        name: _select(blocks[group], name, getattr(selectors, name), group)
        for name, group in BLOCKS.items()
    }
    _keep_apart(selectors.dataset, selected["dataset"])
    # here, too, because encode would say it only after a download
    s.check_image_size(selectors.image_size, selected["autoencoder"].downscale)
    return Params(selectors=selectors, **selected, **sections, raw=raw)


def load_choices(path: Path) -> dict[str, tuple[object, dict]]:
    """What params.yaml says for each selector that names a block, and the blocks it may name.

    Raises UserError for a file that cannot be read, and for blocks with mistakes.
    """
    raw = _read(path)
    return {
        selector: (raw.get(selector), _blocks(raw.get(group), group))
        for selector, group in BLOCKS.items()
    }


def _change(raw: dict, key: str, value: object) -> None:
    *path, last = key.split(".")
    section: object = raw
    for name in path:
        section = section.get(name) if isinstance(section, dict) else None
    if isinstance(section, dict) and (last in section or path in [[g] for g in BLOCKS.values()]):
        section[last] = value
        return
    near = get_close_matches(key, _paths(raw), n=1)
    raise UserError(f"{key}: unknown key; " + (f"did you mean {near[0]}?" if near else "remove it"))


def _paths(section: dict, prefix: str = "") -> Iterator[str]:
    for name, value in section.items():
        yield f"{prefix}{name}"
        if isinstance(value, dict):
            yield from _paths(value, f"{prefix}{name}.")


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


def _read(path: Path) -> dict:
    # ruamel reads YAML 1.2 as DVC does; PyYAML would read 1e-4 as text
    try:
        raw = YAML(typ="safe").load(path)
    except FileNotFoundError:
        raise UserError(f"{path}: no such file; run from the folder that has it") from None
    except MarkedYAMLError as error:
        line = error.problem_mark.line + 1
        raise UserError(f"{path}: line {line}: not valid YAML: {error.problem}") from None
    except YAMLError as error:  # characters that no YAML file may hold
        problem = " ".join(str(error).split())
        raise UserError(f"{path}: not valid YAML: {problem}; save it as UTF-8") from None
    if not isinstance(raw, dict):
        raise UserError(f"{path}: must be a mapping of keys, but it is {raw!r}")
    return raw


def _blocks(group: object, name: str) -> dict:
    if not isinstance(group, dict):
        raise UserError(f"{name}: must be a mapping of named blocks, but it is {group!r}")
    return {key: _block(name, key, data) for key, data in group.items()}


def _block(group: str, name: object, data: object) -> object:
    path = f"{group}.{name}"
    if not isinstance(name, str):  # YAML reads 2024 as a number
        raise UserError(f"{path}: a block's name must be text; put it in quotes or rename it")
    if not isinstance(data, dict):
        raise UserError(f"{path}: must be a block with keys, but it is {data!r}")
    if group == "blocks":  # its settings are known to the block's own file alone
        return data
    if group == "models":
        return s.validate(s.ModelSettings, data, path)
    if group == "autoencoders":
        return s.validate(s.AutoencoderSettings, data, path)
    return s.validate(_dataset_kind(data, path), data, path)


def _dataset_kind(data: dict, path: str) -> type[s.Settings]:
    kinds = ", ".join(s.DATASET_KINDS)
    if "kind" not in data:  # without it, no other key can be judged
        misspelt = get_close_matches("kind", map(str, data), n=1)
        if misspelt:
            raise UserError(f"{path}.{misspelt[0]}: unknown key; did you mean {path}.kind?")
        raise UserError(f"{path}.kind: missing key; add it, one of {kinds}")
    if str(data["kind"]) not in s.DATASET_KINDS:
        raise UserError(f"{path}.kind: must be one of {kinds}; it is {data['kind']!r}")
    return s.DATASET_KINDS[data["kind"]]


def _select(blocks: dict, selector: str, name: str, group: str) -> object:
    if name not in blocks:
        near = get_close_matches(name, blocks, n=1) or sorted(blocks)
        raise UserError(f"{selector}: no block '{name}' in {group}; did you mean {near[0]}?")
    return blocks[name]
