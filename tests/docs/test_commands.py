"""Code blocks of README and docs run, and what they name exists.

A block that cannot run here has `<!-- not run: reason -->` right above it. Blocks of the languages
`text` and `mermaid` hold no code.
"""

import re
import shutil
from pathlib import Path

import pytest
from helpers.checkout import PROJECT, Checkout, leaves, read_params
from helpers.markdown import CodeBlock, anchors, code_blocks, code_spans, links
from ruamel.yaml import YAML

from liquidgen.config.params import BLOCKS, load_params

PAGES = [
    PROJECT / "README.md",
    *sorted((PROJECT / "docs").glob("*.md")),
    PROJECT / "CONTRIBUTING.md",
    PROJECT / "SECURITY.md",
]
OTHER_PAGES = [
    PROJECT / "CHANGELOG.md",
    PROJECT / "data/README.md",
    PROJECT / "benchmarks/README.md",
]
ALL_PAGES = PAGES + OTHER_PAGES
CODE = [block for page in PAGES for block in code_blocks(page)]
EXECUTED = ("sh", "python", "yaml")
NO_CODE = ("text", "mermaid")
# folders of the repository; others that pages name are made by the pipeline
FOLDERS = (
    "liquidgen",
    "stages",
    "docs",
    "tests",
    "benchmarks",
    "scripts",
    "examples",
    "notebooks",
)
RAW = read_params(PROJECT / "params.yaml")
GIT_IDENTITY = {
    f"GIT_{role}_{key}": value
    for role in ("AUTHOR", "COMMITTER")
    for key, value in {"NAME": "tests", "EMAIL": "tests@localhost"}.items()
}


def to_run(language: str) -> list:
    """Return the blocks of a language that are not marked, as parameters of a test."""
    chosen = [block for block in CODE if block.language == language and not block.marked]
    return [pytest.param(block, id=str(block)) for block in chosen]


def name_of(path: Path) -> str:
    return str(path.relative_to(PROJECT))


@pytest.fixture
def documented(checkout: Checkout, monkeypatch: pytest.MonkeyPatch) -> Checkout:
    """A small checkout after its first run, with the example; dvc.lock is not committed yet."""
    shutil.copytree(PROJECT / "examples", checkout.root / "examples")
    for key, value in GIT_IDENTITY.items():
        monkeypatch.setenv(key, value)
    # console scripts find this checkout's code, too
    monkeypatch.setenv("PYTHONPATH", str(checkout.root))
    monkeypatch.setenv("PYTHONDONTWRITEBYTECODE", "1")
    return checkout


@pytest.mark.parametrize("block", CODE, ids=str)
def test_every_block_is_run_or_marked(block: CodeBlock):
    known = (*EXECUTED, *NO_CODE)
    assert block.language in known, f"{block}: language must be one of {known}"
    assert not (block.marked and block.language in NO_CODE), f"{block}: text needs no mark"


@pytest.mark.parametrize("block", to_run("sh"))
def test_shell_block_runs(block: CodeBlock, documented: Checkout):
    done = documented.run("bash", "-euo", "pipefail", "-c", block.text)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("block", to_run("python"))
def test_python_block_runs(block: CodeBlock, documented: Checkout):
    done = documented.run("python", "-c", block.text)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("block", to_run("yaml"))
def test_yaml_block_belongs_into_params_yaml(block: CodeBlock):
    """Each is one or more groups with new blocks, which their selectors can name."""
    groups = YAML(typ="safe").load(block.text)
    selectors = {group: selector for selector, group in BLOCKS.items()}
    changes = {
        f"{group}.{name}": one for group, found in groups.items() for name, one in found.items()
    }
    for group, found in groups.items():
        for name in found:
            params = load_params(PROJECT / "params.yaml", changes | {selectors[group]: name})
            assert getattr(params.selectors, selectors[group]) == name


@pytest.mark.parametrize("page", ALL_PAGES, ids=name_of)
def test_links_resolve(page: Path):
    for link in links(page):
        if re.match(r"\w+:", link):
            continue
        target, _, anchor = link.partition("#")
        path = (page.parent / target).resolve() if target else page
        assert path.exists(), f"{link}: no such file"
        assert not anchor or anchor in anchors(path), f"{link}: no such heading"


@pytest.mark.parametrize("page", ALL_PAGES, ids=name_of)
def test_paths_exist(page: Path):
    """Words in backticks that look like a path of the repository."""
    words = [word for span in code_spans(page) for word in span.split()]
    paths = [word for word in words if word.split("/")[0] in FOLDERS and "/" in word]
    named = [path for path in paths if not re.search(r"[<>*{}$]", path)]
    assert [path for path in named if not (PROJECT / path).exists()] == []


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_keys_exist(page: Path):
    """Words in backticks that look like a key of params.yaml."""
    keys = set(leaves(RAW)) | set(RAW)
    sections = {key.split(".")[0] for key in keys}
    words = [re.sub(r":.*|=.*", "", span) for span in code_spans(page)]
    named = [
        word
        for word in words
        if re.fullmatch(r"\w+(\.\w+)+", word)
        and word.split(".")[0] in sections
        and Path(word).suffix not in (".json", ".csv")
    ]
    unknown = [key for key in named if not any(k == key or k.startswith(f"{key}.") for k in keys)]
    assert set(unknown) <= {"datasets.mine"}  # the reader's own


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_make_targets_exist(page: Path):
    targets = set(re.findall(r"^(\w+):", (PROJECT / "Makefile").read_text(), re.MULTILINE))
    text = "\n".join([*code_spans(page), *(block.text for block in code_blocks(page))])
    named = re.findall(r"\bmake (\w+(?: \w+)*)", text)
    assert {word for words in named for word in words.split()} <= targets


def test_tree_of_the_readme_is_the_repository():
    (tree,) = [
        block.text
        for block in CODE
        if block.path.name == "README.md" and "liquidgen/ " in block.text
    ]
    names = re.findall(r"^( *)(\S+)", tree, re.MULTILINE)
    paths = [f"liquidgen/{name}" if indent else name for indent, name in names]
    assert [path for path in paths if not (PROJECT / path).exists()] == []
    packages = {path.parent.name for path in (PROJECT / "liquidgen").glob("*/__init__.py")}
    assert {name.rstrip("/") for indent, name in names if indent} == packages


def test_readme_is_short():
    assert len((PROJECT / "README.md").read_text().splitlines()) <= 130


def test_readme_of_data_stays_and_outputs_are_ignored(documented: Checkout):
    """DVC neither removes it nor adds ignore files of its own."""
    page = documented.root / "data/README.md"
    shutil.copyfile(PROJECT / "data/README.md", page)
    documented.commit("README of data")
    assert documented.repro("--force", "sample")
    tracked = documented.run("git", "ls-files", "data").stdout.split()
    assert tracked == ["data/README.md"]
    assert page.is_file()
    changed = documented.run("git", "status", "--porcelain", "--untracked-files=all").stdout
    assert {line[3:] for line in changed.splitlines()} <= {"dvc.lock"}
    status = documented.run("dvc", "status")
    assert "up to date" in status.stdout, status.stdout


def test_example_block_runs_by_itself():
    done = Checkout(PROJECT).run("python", "examples/own_block.py")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("own_block: (2, 64, 8, 8) -> (2, 64, 8, 8)")
