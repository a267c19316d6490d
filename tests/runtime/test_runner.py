"""Stages as programs: output that cannot be written, signals, memory that runs out."""

import os
import pty
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from helpers.checkout import PROJECT

pytestmark = pytest.mark.fault("closed pipes, signals, memory of stages")

# writes a bar, a warning and a closing line as stages do, much more than a pipe holds
STAGE = """
import logging, time
from pathlib import Path
from tqdm.auto import tqdm
from liquidgen.runtime.runner import run_stage

def main(params, root):
    for number in tqdm(range(3000), mininterval=0, desc="work"):
        if number % 1000 == 0:
            logging.getLogger("work").warning("a warning")
    Path("{done}").write_text("done")
    return "work: done"

run_stage(main, distributed=False)
"""
MAKING_NOISE = {
    "stderr's reader is gone": '"$@" 2>&1 >/dev/null | head -c 50',
    "both readers are gone": '"$@" 2>&1 | head -c 50',
    "stdout's reader is gone": '"$@" | true',
    "stdout on a full disk": '"$@" >/dev/full',
    "both on a full disk": '"$@" >/dev/full 2>&1',
    "stdout closed": '"$@" >&-',
    "stderr closed": '"$@" 2>&-',
    "both closed": '"$@" >&- 2>&-',
}


@pytest.fixture
def stage(tmp_path: Path) -> tuple[str, ...]:
    """A command that works, writes much, and then writes the file `done`."""
    return (sys.executable, "-c", STAGE.format(done=tmp_path / "done"))


def run(script: str, command: tuple[str, ...]) -> subprocess.CompletedProcess[str]:
    shell = ["bash", "-o", "pipefail", "-c", script, "bash", *command]
    return subprocess.run(shell, capture_output=True, text=True, cwd=PROJECT)


@pytest.mark.parametrize("script", MAKING_NOISE.values(), ids=MAKING_NOISE)
def test_work_goes_on_without_output(script: str, stage: tuple[str, ...], tmp_path: Path):
    done = run(script, stage)
    assert (tmp_path / "done").read_text() == "done"
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stdout + done.stderr


def test_output_arrives_where_it_can(stage: tuple[str, ...]):
    done = run('"$@"', stage)
    assert done.stdout == "work: done\n"
    assert "work: 100%" in done.stderr
    assert done.stderr.count("WARNING: a warning") == 3


def test_work_goes_on_beside_a_reader_that_stands_still(stage: tuple[str, ...], tmp_path: Path):
    """As `less` does at its first page."""
    with subprocess.Popen(stage, stderr=subprocess.PIPE, stdout=subprocess.PIPE, cwd=PROJECT) as it:
        assert it.wait(timeout=60) == 0
        assert (tmp_path / "done").read_text() == "done"
        assert it.stderr.read(10).startswith(b"\rwork:")


def test_work_goes_on_after_its_terminal_is_closed(stage: tuple[str, ...], tmp_path: Path):
    ours, terminal = pty.openpty()
    with subprocess.Popen(stage, stdout=terminal, stderr=terminal, cwd=PROJECT) as process:
        os.close(terminal)
        os.read(ours, 100)
        os.close(ours)
        assert process.wait(timeout=60) == 0
    assert (tmp_path / "done").read_text() == "done"


WAITING = """
import time
from liquidgen.runtime.runner import run_stage

def main(params, root):
    print("ready", flush=True)
    try:
        time.sleep(60)
    finally:
        time.sleep(1)  # cleaning up
        print("clean", flush=True)

run_stage(main, distributed=False)
"""


@pytest.mark.parametrize(
    "numbers",
    [[signal.SIGTERM], [signal.SIGHUP], [signal.SIGHUP, signal.SIGTERM]],
    ids=["SIGTERM", "SIGHUP", "SIGHUP and SIGTERM, as of a closed terminal"],
)
def test_signals_end_a_stage_in_one_line(numbers: list[signal.Signals]):
    with subprocess.Popen(
        (sys.executable, "-c", WAITING),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=PROJECT,
    ) as process:
        assert process.stdout.readline() == "ready\n"
        for number in numbers:
            time.sleep(0.3)
            process.send_signal(number)
        output, errors = process.communicate()
    assert process.returncode == 130
    assert output == "clean\n"
    assert errors.startswith("stopped; `dvc repro` continues")
    assert errors.count("\n") == 1


def test_stage_under_nohup_outlives_its_terminal():
    command = ("nohup", sys.executable, "-c", WAITING)
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=PROJECT) as process:
        assert process.stdout.readline() == "ready\n"
        process.send_signal(signal.SIGHUP)
        time.sleep(0.5)
        assert process.poll() is None
        process.terminate()
        assert process.wait() == 130


@pytest.mark.parametrize("code", ["bytearray(2**62)", "import torch; torch.empty(2**60)"])
def test_memory_that_runs_out_is_one_line(code: str):
    stage = f"from liquidgen.runtime.runner import run_stage; run_stage(lambda *_: exec({code!r}))"
    done = run('"$@"', (sys.executable, "-c", stage))
    assert done.returncode == 1
    assert re.fullmatch(r"error: memory ran out \(.+\); close other programs, .+\n", done.stderr)
