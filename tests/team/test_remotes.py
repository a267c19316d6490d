"""A team's caches: results made on one machine are used on another, through DVC's remotes."""

import hashlib
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from helpers.checkout import Checkout
from helpers.remotes import S3, SECRET, SSHD, Remote, s3_server, ssh_server


def author_in(root: Path, pipeline: Checkout, remote: Remote) -> Checkout:
    """Return a checkout with committed results, whose remote is this one."""
    shutil.copytree(pipeline.root, root, symlinks=True)
    author = Checkout(root)
    remote.add_to(author)
    author.commit("results")
    return author


def push(author: Checkout) -> None:
    done = author.run("dvc", "push", "--run-cache")
    assert done.returncode == 0, done.stderr


def clone(author: Checkout, root: Path, remote: Remote) -> Checkout:
    """Return a colleague's clone, with credentials and without results."""
    subprocess.run(["git", "clone", "--quiet", str(author.root), str(root)], check=True)
    colleague = Checkout(root)
    remote.authorize(colleague)
    return colleague


@pytest.fixture
def s3() -> Iterator[S3]:
    with s3_server() as remote:
        yield remote


@pytest.fixture
def author(pipeline: Checkout, s3: S3, tmp_path: Path) -> Checkout:
    return author_in(tmp_path / "author", pipeline, s3)


def same_scores(one: Checkout, other: Checkout) -> bool:
    scores = [(checkout.root / "metrics/evaluate.json").read_bytes() for checkout in (one, other)]
    return scores[0] == scores[1]


@pytest.mark.skipif(not SSHD or os.getuid() != 0, reason="needs sshd, and root to start it")
def test_colleague_over_ssh_runs_nothing(pipeline, tmp_path):
    with ssh_server(tmp_path) as remote:
        author = author_in(tmp_path / "author", pipeline, remote)
        push(author)
        colleague = clone(author, tmp_path / "colleague", remote)
        colleague.run("dvc", "pull", "--run-cache", check=True)
    assert colleague.repro() == []
    assert same_scores(author, colleague)


def test_colleague_runs_what_changed_and_the_author_pulls_it(author, s3, tmp_path):
    push(author)
    colleague = clone(author, tmp_path / "colleague", s3)
    colleague.run("dvc", "pull", "--run-cache", check=True)
    assert colleague.repro() == []
    assert same_scores(author, colleague)
    for checkout in (author, colleague):
        checkout.change(sample__seed=7)
    assert colleague.repro() == ["sample", "evaluate"]
    push(colleague)
    author.run("dvc", "pull", "--run-cache", check=True)
    assert author.repro("--pull") == []
    assert same_scores(author, colleague)


def test_killed_push_is_completed_by_the_next_one(author, s3, tmp_path):
    with author.start("dvc", "push", "--jobs", "1") as pushing:
        deadline = time.monotonic() + 60
        while not s3.objects() and time.monotonic() < deadline:
            time.sleep(0.01)
        os.killpg(pushing.pid, signal.SIGKILL)
        assert pushing.wait() == -signal.SIGKILL
    begun = len(s3.objects())
    push(author)
    assert 0 < begun < len(s3.objects())
    colleague = clone(author, tmp_path / "colleague", s3)
    assert colleague.run("dvc", "pull").returncode == 0
    assert colleague.repro() == []


def test_object_that_the_remote_lacks_is_named_and_copied_from_the_cache(author, s3, tmp_path):
    push(author)
    [weights] = author.root.glob("data/models/*/*/*.safetensors")
    with open(weights, "rb") as file:
        md5 = hashlib.file_digest(file, "md5").hexdigest()
    lost = f"files/md5/{md5[:2]}/{md5[2:]}"
    s3.delete(lost)
    colleague = clone(author, tmp_path / "colleague", s3)
    done = colleague.run("dvc", "pull")
    assert done.returncode
    assert md5 in done.stderr + done.stdout
    push(author)
    assert lost not in s3.objects()  # DVC looks only for the list of the folder
    s3.put(lost, author.root / ".dvc/cache" / lost)
    assert colleague.run("dvc", "pull").returncode == 0
    assert colleague.repro() == []


def test_refusing_server_is_an_error_that_shows_no_secret(author, s3):
    author.run("dvc", "remote", "modify", "team", "endpointurl", "http://127.0.0.1:9", check=True)
    done = author.run("dvc", "push", timeout=60)
    assert done.returncode
    assert "http://127.0.0.1:9" in done.stderr
    assert SECRET not in done.stdout + done.stderr


def test_experiments_are_shared_through_git(author, s3, tmp_path):
    bare = tmp_path / "bare.git"
    subprocess.run(["git", "clone", "--quiet", "--bare", str(author.root), str(bare)], check=True)
    author.run("git", "remote", "add", "origin", str(bare), check=True)
    made = author.run("dvc", "exp", "run", "--name", "guided", "-S", "sample.guidance_scale=3.0")
    assert made.returncode == 0, made.stderr
    pushed = author.run("dvc", "exp", "push", "origin", "guided")
    assert pushed.returncode == 0, pushed.stderr
    subprocess.run(["git", "clone", "--quiet", str(bare), str(tmp_path / "colleague")], check=True)
    colleague = Checkout(tmp_path / "colleague")
    s3.authorize(colleague)
    for command in (("exp", "pull", "origin", "guided"), ("exp", "apply", "guided")):
        done = colleague.run("dvc", *command)
        assert done.returncode == 0, done.stderr
    assert colleague.params["sample"]["guidance_scale"] == 3.0
    assert colleague.repro("--pull") == []
