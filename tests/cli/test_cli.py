"""The command `liquidgen`: sample, presets and doctor."""

import json
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Callable
from importlib import metadata
from pathlib import Path

import numpy as np
import pytest
from helpers.checkout import PROJECT, Checkout, read_params
from helpers.small_model import CLASSES, IMAGE_SIZE
from helpers.standin import StandInHub
from PIL import Image

from liquidgen import LiquidGenPipeline
from liquidgen.cli import main
from liquidgen.cli.health import checks
from liquidgen.cli.sample import RENAMED
from liquidgen.config.params import BLOCKS
from liquidgen.flow.solvers import scheduler_of
from liquidgen.pipeline.labels import read_class

RAW = read_params(PROJECT / "params.yaml")
COMMANDS = ("sample", "demo", "sweep", "presets", "use", "ui", "doctor", "repair")
LATER = ("device", "tracking", "hub")  # slower checks of doctor
Run = Callable[..., str]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture) -> Run:
    """Run the command in an empty folder; returns what it printed, or its error line."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)

    def call(*arguments: object) -> str:
        with pytest.raises(SystemExit) as ended:
            main([str(one) for one in arguments])
        out = capsys.readouterr().out
        return out if ended.value.code in (0, 1) else str(ended.value.code)

    return call


def images(folder: Path) -> dict[str, np.ndarray]:
    return {path.name: np.asarray(Image.open(path)) for path in sorted(folder.iterdir())}


def test_sample_writes_images_of_pipeline_named_by_class(run: Run, model: Path):
    options = ["--num-images", 4, "--seed", 3, "--num-inference-steps", 2]
    options += ["--guidance-scale", 2, "--solver", "heun"]
    classes = ["--class-labels", "dots", "--class-labels", 0]
    printed = run("sample", "--model", model, *classes, *options, "--out", "own/new")
    assert printed == "sample: 4 images in own/new\n"
    pipe = LiquidGenPipeline.from_pretrained(model)
    pipe.scheduler = scheduler_of("heun")
    settings = {"num_images": 4, "num_inference_steps": 2, "guidance_scale": 2}
    expected = pipe(["dots", "hills"], seed=3, **settings).images
    found = images(Path("own/new"))
    assert [*found] == ["0000-dots.png", "0001-hills.png", "0002-dots.png", "0003-hills.png"]
    for image, pixels in zip(expected, found.values(), strict=True):
        assert np.array_equal(np.asarray(image), pixels)


def test_sample_mixes_classes(run: Run, model: Path):
    options = ["--num-inference-steps", 2, "--seed", 3]
    run("sample", "--model", model, "--class-labels", "hills=1, 2=.5", *options)
    [(name, pixels)] = images(Path("samples")).items()
    assert name == f"0000-0_667_hills_0_333_{CLASSES[2]}.png"
    pipe = LiquidGenPipeline.from_pretrained(model)
    [image] = pipe({"hills": 1, 2: 0.5}, num_inference_steps=2, seed=3).images
    assert np.array_equal(np.asarray(image), pixels)


@pytest.mark.parametrize("name", ["a=1,b=2", "a=1"])
def test_class_that_looks_like_a_mixture_is_a_class(name: str):
    assert read_class(name, ("a", name)) == name


@pytest.mark.parametrize(
    ("text", "weights"),
    [("a=1,b=2", {"a": 1, "b": 2}), ("a,b=1,c=0.5", {"a,b": 1, "c": 0.5}), ("0=1", {"0": 1})],
)
def test_weights_of_classes_are_read(text: str, weights: dict):
    assert read_class(text, ("a", "b", "c", "a,b")) == weights


def test_sample_default_is_one_image_per_class(run: Run, model: Path):
    run("sample", "--model", model, "--num-inference-steps", 1)
    assert [*images(Path("samples"))] == [f"000{i}-{name}.png" for i, name in enumerate(CLASSES)]


def test_sample_unconditional_model(run: Run, unconditional: Path):
    run("sample", "--model", unconditional, "--num-images", 2, "--num-inference-steps", 1)
    found = images(Path("samples"))
    assert [*found] == ["0000-image.png", "0001-image.png"]
    assert found["0000-image.png"].shape == (IMAGE_SIZE, IMAGE_SIZE, 3)


def test_sample_existing_file_is_not_replaced(run: Run, model: Path):
    Path("samples").mkdir()
    Path("samples/0001-marble.png").write_text("mine")
    message = run("sample", "--model", model, "--num-inference-steps", 1)
    assert message.startswith("error: samples/0001-marble.png: already exists; name another")
    assert [path.name for path in Path("samples").iterdir()] == ["0001-marble.png"]
    assert Path("samples/0001-marble.png").read_text() == "mine"


@pytest.mark.parametrize(
    ("options", "rule"),
    [
        (["--class-labels", "cubism"], "error: class 'cubism': not known; choose 0 to 2"),
        (["--class-labels", "3"], "error: class '3': not known"),
        (["--class-labels", "hills=1,dots"], "error: class 'dots': must be NAME=WEIGHT; a class"),
        (["--class-labels", "hills=x"], "error: class 'hills=x': must be NAME=WEIGHT"),
        (["--class-labels", "hills=1,=2"], "error: class '=2': must be NAME=WEIGHT"),
        (["--class-labels", "dots=1,hills=1,dots=3"], "error: class 'dots': is named twice"),
        (["--class-labels", "a=1," * 50 + "b"], "error: class 'a': is named twice"),
        (
            ["--class-labels", ",".join(f"c{i}=1" for i in range(50)) + ",x"],
            "error: class 'x': must",
        ),
        (["--num-images", "0"], "error: 0 images of 3 classes; ask for at least one"),
        (["--solver", "eular"], "error: solver: no solver 'eular'"),
        (["--class-labels", "a\x1b]0;b\n"], r"error: class 'a\x1b]0;b\n': not known"),
        (["--seed", "-1"], "error: seed: -1; must be at least 0"),
        (["--guidance-scale", "nan"], "error: guidance_scale: nan; must be at least 1"),
        (
            ["--device", "gpu"],
            "error: machine.device: 'gpu' is not known; use auto, cpu, cuda or cuda:1",
        ),
        (["--device", "meta"], "error: machine.device: 'meta' is not known"),
        (["--device", "cuda:9"], "error: machine.device: 'cuda:9', but there are"),
        (["--out", "file"], "error: file"),
    ],
)
def test_sample_user_error_is_one_line_and_writes_nothing(
    run: Run, model: Path, options: list, rule: str
):
    Path("file").write_text("mine")
    message = run("sample", "--model", model, "--num-inference-steps", 1, *options)
    assert message.startswith(rule)
    assert "\n" not in message
    assert [path.name for path in Path().iterdir()] == ["file"]


@pytest.mark.parametrize(("before", "now"), RENAMED.items())
def test_option_of_earlier_versions_is_refused_by_its_new_name(run: Run, before: str, now: str):
    assert run("sample", before, "2") == f"error: {before}: was renamed to {now}"
    assert before not in run("sample", "--help").split()


def test_sample_without_trained_model_names_folder(run: Run):
    folder = f"data/models/{'-'.join(str(RAW[key]) for key in ('dataset', 'image_size'))}"
    assert run("sample").startswith(f"error: {Path.cwd() / folder}")


@pytest.mark.parametrize(("selector", "group"), BLOCKS.items())
def test_presets_list_licenses_and_mark_selected(run: Run, selector: str, group: str):
    table = run("presets").split(f"{selector}: (a block of")[1].split("\n\n")[0].splitlines()[2:]
    assert [line.split()[line.startswith("*")] for line in table] == [*RAW[group]]
    assert [line.split()[1] for line in table if line.startswith("*")] == [RAW[selector]]
    for line, block in zip(table, RAW[group].values(), strict=True):
        assert block.get("license", "") in line


def test_presets_show_descriptions_of_params_yaml(run: Run):
    printed = run("presets")
    assert "paintings in 10 styles, drawn from a seed: no download" in printed
    assert "1.8 M parameters: a CPU demo at 64 px" in printed
    (line,) = (line for line in printed.splitlines() if " procedural " in line)
    assert "CC0-1.0" in line


@pytest.mark.parametrize(
    ("before", "after", "complaint"),
    [
        ("dataset: procedural", "dataset: procedurel", "dataset: no block 'procedurel' in"),
        ("image_size: 64", "image_size: 65", "image_size: 65 is not a multiple of 16"),
        ("\nmodel: nano", "\nmodle: nano", "modle: unknown key in params.yaml; did you"),
        ("warmup_steps: 1", "warmup_step: 1", "train.warmup_step: unknown key; did you mean"),
    ],
)
def test_presets_are_listed_before_error_in_params_yaml(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture,
    before: str,
    after: str,
    complaint: str,
):
    text = (PROJECT / "params.yaml").read_text()
    assert before in text
    (tmp_path / "params.yaml").write_text(text.replace(before, after, 1))
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as ended:
        main(["presets"])
    listed = capsys.readouterr().out.split()
    assert all(name in listed for group in BLOCKS.values() for name in RAW[group])
    assert str(ended.value.code).startswith(f"error: {complaint}")
    assert "\n" not in ended.value.code


def test_presets_without_comments_are_listed(run: Run):
    Path("params.yaml").write_text(json.dumps(RAW))  # which is YAML, too
    assert "* liquid" in " ".join(run("presets").split())


def findings(printed: str) -> dict[str, tuple[str, str]]:
    """Level and text of each finding by its subject."""
    rows = [line.split(maxsplit=2) for line in printed.splitlines()[:-1]]
    return {about: (level, text) for level, about, text in rows}


def test_doctor_in_empty_folder_finds_nothing_wrong(run: Run, hub: StandInHub):
    printed = run("doctor")
    found = findings(printed)
    assert [*found] == ["python", "packages", "settings", "dvc", "data", *LATER]
    assert "wrong" not in {level for level, _ in found.values()}
    assert f"torch {metadata.version('torch')}" in found["packages"][1]
    assert found["hub"] == (
        "ok",
        f"{hub.url} answers, without a token: HF_TOKEN opens gated repositories",
    )
    assert "created by the first run" in found["tracking"][1]
    assert not list(Path().iterdir())
    assert printed.endswith("doctor: nothing is wrong\n")


def test_doctor_unreachable_hub_is_note_with_remedy(
    run: Run, hub: StandInHub, monkeypatch: pytest.MonkeyPatch
):
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    level, text = findings(run("doctor"))["hub"]
    assert level == "note"
    assert "http://127.0.0.1:9 not reached" in text
    assert "the builtin default does not" in text


def test_doctor_hanging_dns_is_note(run: Run, hub: StandInHub, monkeypatch: pytest.MonkeyPatch):
    from huggingface_hub import constants

    released = threading.Event()

    def hanging(*arguments: object, **options: object) -> list:
        released.wait(60)
        raise OSError("too late")

    monkeypatch.setattr(constants, "ENDPOINT", "http://no-such-host.invalid")
    monkeypatch.setattr(socket, "getaddrinfo", hanging)
    monkeypatch.setattr(checks, "HUB_TIMEOUT", 0.2)
    level, text = findings(run("doctor"))["hub"]
    released.set()
    assert level == "note"
    assert "http://no-such-host.invalid not reached (no answer within 0.2 s)" in text


def test_doctor_finds_wrong_settings_and_broken_store(run: Run, hub: StandInHub):
    Path("params.yaml").write_text("train: 1\n")
    Path("mlflow.db").write_text("no database at all " * 100)
    printed = run("doctor")
    found = findings(printed)
    assert found["settings"][0] == "wrong"
    assert "missing key in params.yaml" in found["settings"][1]
    assert found["tracking"][0] == "wrong"
    assert "cannot be opened" in found["tracking"][1]
    assert printed.endswith("doctor: 2 to fix\n")


def test_doctor_names_own_images_that_are_not_there(run: Run, hub: StandInHub):
    text = (PROJECT / "params.yaml").read_text()
    Path("params.yaml").write_text(text.replace("dataset: procedural", "dataset: own_folder", 1))
    printed = run("doctor")
    assert findings(printed)["settings"][0] == "wrong"
    assert "images: no such folder (looked for" in printed
    assert printed.endswith("doctor: 1 to fix\n")


def test_doctor_names_an_evaluation_that_will_be_refused(checkout: Checkout):
    checkout.change(evaluate__kid_subset_size=1000)
    done = checkout.run("liquidgen", "doctor")
    assert done.returncode == 1
    level, text = findings(done.stdout)["settings"]
    assert level == "wrong"
    assert "holdout images are too few: evaluate.kid_subset_size is 1000, but" in text


def test_doctor_names_silent_store_without_password(
    run: Run, hub: StandInHub, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(checks, "STORE_TIMEOUT", 0.5)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"127.0.0.1:{silent.getsockname()[1]}"
        monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://bob:s3cr3t@{address}")
        printed = run("doctor")
    level, text = findings(printed)["tracking"]
    assert level == "wrong"
    assert f"http://{address}: cannot be opened (no answer within 0.5 s)" in text
    assert "s3cr3t" not in printed


@pytest.mark.parametrize(
    ("has_git", "config", "level"),
    [(False, "", "wrong"), (True, "", None), (False, "[core]\n    no_scm = true\n", None)],
)
def test_doctor_says_what_dvc_needs_without_git(
    run: Run, hub: StandInHub, has_git: bool, config: str, level: str | None
):
    Path(".dvc").mkdir()
    Path(".dvc/config.local").write_text(config)
    if has_git:
        Path(".git").mkdir()
    found = findings(run("doctor")).get("git")
    assert (found and found[0]) == level
    assert not found or "dvc config --local core.no_scm true" in found[1]


def test_doctor_without_mlflow_is_note(run: Run, hub: StandInHub, monkeypatch: pytest.MonkeyPatch):
    """It is needed to train, not to sample."""
    monkeypatch.setattr(checks, "_version", lambda name: "" if name == "mlflow" else "99")
    assert findings(run("doctor"))["tracking"] == (
        "note",
        "MLflow is not installed; `pip install 'liquidgen[pipeline]'` to train",
    )


NO_DVC = {"pid": os.getppid(), "cmd": "dvc repro"}
LOCKS = {
    "none": (None, "ok", "no locks are held"),
    "free": ({"write": {}, "read": {}}, "ok", "no locks are held"),
    "dead": ({"write": {"a": {"pid": 2**22 + 1, "cmd": "dvc"}}, "read": {}}, "ok", "no locks"),
    "recycled": (
        {"write": {}, "read": {"a": [NO_DVC]}},
        "wrong",
        "is another program's now; `make repair`",
    ),
    "damaged": ("{", "wrong", "rwlock is damaged; `make repair`"),
    "odd": ([], "wrong", "rwlock is damaged; `make repair`"),
}


@pytest.mark.parametrize("kind", LOCKS)
def test_doctor_distinguishes_stale_dvc_locks(run: Run, hub: StandInHub, kind: str):
    content, level, text = LOCKS[kind]
    Path(".dvc/tmp").mkdir(parents=True)
    if content is not None:
        written = content if isinstance(content, str) else json.dumps(content)
        Path(".dvc/tmp/rwlock").write_text(written)
    found = findings(run("doctor"))["dvc"]
    assert found[0] == level
    assert text in found[1]


def test_doctor_finds_truncated_dvc_lock(run: Run, hub: StandInHub):
    Path(".dvc").mkdir()
    Path("dvc.lock").write_text("sche")
    assert findings(run("doctor"))["dvc"] == ("wrong", "dvc.lock is damaged; `make repair`")


def test_doctor_names_outputs_that_are_gone(run: Run, hub: StandInHub):
    """As after an experiment of a model that does not exist: DVC has removed the old one."""
    Path(".dvc").mkdir()
    Path("data/raw").mkdir(parents=True)
    lock = "stages:\n  train:\n    cmd: t\n    outs: [{path: data/models/m}, {path: data/raw}]\n"
    Path("dvc.lock").write_text(lock)
    level, text = findings(run("doctor"))["outputs"]
    assert level == "note"
    assert text.startswith("data/models/m: recorded in dvc.lock, but missing; `dvc checkout`")
    Path("data/models/m").mkdir(parents=True)
    assert "outputs" not in findings(run("doctor"))


def test_doctor_running_dvc_is_note(run: Run, hub: StandInHub):
    Path(".dvc/tmp").mkdir(parents=True)
    code = "import sys; sys.stdin.read()"
    command = [sys.executable, "-c", code, "dvc", "repro"]
    with subprocess.Popen(command, stdin=subprocess.PIPE) as process:
        entry = {"pid": process.pid, "cmd": "dvc repro"}
        Path(".dvc/tmp/rwlock").write_text(json.dumps({"write": {"a": entry}, "read": {}}))
        level, text = findings(run("doctor"))["dvc"]
        process.stdin.close()
    assert (level, text) == (
        "note",
        f"DVC is running here (process {process.pid}); wait for it, or end it",
    )


def test_doctor_missing_package_names_pip_command(
    run: Run, hub: StandInHub, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(metadata, "requires", lambda name: ["torch>=99", "no-such-library>=1"])
    printed = run("doctor")
    assert "but LiquidGen needs torch>=99; `pip install 'torch>=99'`" in printed
    assert "no-such-library is missing, but LiquidGen needs" in printed


def test_help_imports_nothing_heavy():
    """Of libraries that take long to import."""
    command = [sys.executable, "-X", "importtime", "-m", "liquidgen", "--help"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=PROJECT, check=True)
    assert all(name in done.stdout for name in COMMANDS)
    assert not any(f" {name}\n" in done.stderr for name in ("torch", "diffusers", "mlflow", "dvc"))


@pytest.mark.parametrize(
    ("arguments", "rule"),
    [
        (["sampel"], "No such command 'sampel'. Did you mean 'sample'?"),
        (["sample", "--num-imgaes", "1"], "No such option: --num-imgaes"),
        (["sample", "--num-images", "many"], "Invalid value for '--num-images': "),
    ],
)
def test_wrong_usage_exits_with_2(
    arguments: list[str], rule: str, run: Run, capsys: pytest.CaptureFixture
):
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 2
    assert rule in capsys.readouterr().err


def test_keyboard_interrupt_exits_with_130(run: Run, monkeypatch: pytest.MonkeyPatch):
    def interrupted() -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(checks, "python", interrupted)
    assert run("doctor") == "130"


def test_unexpected_error_has_plain_traceback(run: Run, monkeypatch: pytest.MonkeyPatch):
    """A bug is not formatted by rich, and not hidden."""

    def broken() -> None:
        raise RuntimeError("a bug")

    monkeypatch.setattr(checks, "python", broken)
    with pytest.raises(RuntimeError, match="a bug"):
        main(["doctor"])


def test_version(run: Run):
    assert run("--version") == f"liquidgen {metadata.version('liquidgen')}\n"


def test_repair_outside_repository_is_one_line(run: Run):
    message = run("repair")
    assert message.startswith("error: ")
    assert ": not a DVC repository; run from a checkout, or copy a damaged folder" in message
