"""Faults of a `dvc repro`: signals at a time, and kills inside the writing of a file."""

import json
import os
import re
import signal
import subprocess
import tempfile
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import ClassVar

import psutil

from helpers.checkout import Checkout
from liquidgen.runtime.signals import INTERRUPTED

INJECTED = Path(__file__).parent / "injected"
MOMENTS = ("open", "write", "before fsync", "after fsync", "before rename", "after rename")
CHECKPOINT = ".step-*.tmp"
TIMEOUT_SECONDS = 1800  # for one `dvc repro`, which takes 10 to 40 on a quiet machine
EXITED = re.compile(r"exited with (-?\d+)")  # how DVC reports the exit code of its stage
TRACEBACK = re.compile(r"Traceback \(most recent call last\):\n((?: .*\n)+)(\S.*)")


@dataclass(frozen=True)
class KillInWrite:
    """SIGKILL while a process writes a file.

    Attributes:
        process: Name of the stage.
        nth: Which of the matching files, from 1.
        moment: One of MOMENTS. At "write" SIGXFSZ ends the stage with half of the file written;
            no other victim is killed then.
        victims: Which processes are killed, "dvc" or "stage" or both.
        pattern: Pattern of the file name.
    """

    process: str
    nth: int
    moment: str
    victims: tuple[str, ...] = ("stage",)
    pattern: str = CHECKPOINT

    @property
    def environment(self) -> dict[str, str]:
        """Environment variables that activate the injector in the process."""
        return {"FAULT": json.dumps(asdict(self)), "PYTHONPATH": str(INJECTED)}

    @property
    def label(self) -> str:
        """Row in the table of kills."""
        return f"SIGKILL {self.moment} of a save"

    def apply(self, process: subprocess.Popen) -> None:
        """Do nothing: the injector kills from inside the process."""

    def explains(self, code: int, stage_codes: set[int]) -> bool:
        """Whether the exit codes of DVC and its stage are those of this fault."""
        if self.moment == "write":
            return stage_codes == {-signal.SIGXFSZ}
        if "dvc" in self.victims:
            return code == -signal.SIGKILL
        return stage_codes == {-signal.SIGKILL}


@dataclass(frozen=True)
class SignalAtTime:
    """A signal some seconds after the start of `dvc repro`.

    Attributes:
        seconds: Time since the start.
        number: The signal.
        victims: Who gets it, in this order: "dvc", "stage" or "group" (the process group).
    """

    seconds: float
    number: signal.Signals
    victims: tuple[str, ...]

    environment: ClassVar[dict[str, str]] = {}

    @property
    def label(self) -> str:
        """Row in the table of kills."""
        return f"{self.number.name} to {' and '.join(self.victims)}"

    def apply(self, process: subprocess.Popen) -> None:
        """Wait, then send the signal to those victims that are running."""
        with suppress(subprocess.TimeoutExpired):
            process.wait(self.seconds)
        for victim in self.victims:
            with suppress(ProcessLookupError, psutil.NoSuchProcess):
                if victim == "dvc":
                    os.kill(process.pid, self.number)
                elif victim == "group":
                    os.killpg(process.pid, self.number)
                elif stage := find_stage(process.pid):
                    stage.send_signal(self.number)

    def explains(self, code: int, stage_codes: set[int]) -> bool:
        """Whether the exit codes of DVC and its stage are those of this signal."""
        if stage_codes:
            return stage_codes <= {-self.number, INTERRUPTED}
        # DVC turns SIGINT into an exit code of its own
        return code == -self.number or self.number == signal.SIGINT


Fault = KillInWrite | SignalAtTime


def find_stage(dvc: int) -> psutil.Process | None:
    """Return the stage's process among the descendants of a DVC process; None if there is none."""
    for child in psutil.Process(dvc).children(recursive=True):
        with suppress(psutil.NoSuchProcess):
            if any(word.startswith("stages.") for word in child.cmdline()):
                return child
    return None


def run_repro(checkout: Checkout, fault: Fault | None, *arguments: str) -> tuple[int, str]:
    """Run `dvc repro`, with a fault or without.

    Asserts that a failure has the exit codes of the fault, and that no stage printed a traceback.

    Returns:
        Exit code and output, stdout and stderr together.
    """
    with tempfile.TemporaryFile("w+") as file:
        process = subprocess.Popen(
            ("dvc", "repro", *arguments),
            cwd=checkout.root,
            env=checkout.environment() | (fault.environment if fault else {}),
            stdout=file,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            if fault:
                fault.apply(process)
            process.wait(TIMEOUT_SECONDS)
        except BaseException:
            os.killpg(process.pid, signal.SIGKILL)
            raise
        file.seek(0)
        output = file.read()
    code = process.returncode
    assert not stage_tracebacks(checkout, output), output
    if fault and code:
        stage_codes = set(map(int, EXITED.findall(output)))
        assert fault.explains(code, stage_codes), f"{fault}: {code}: {output}"
    return code, output


def stage_tracebacks(checkout: Checkout, output: str) -> list[str]:
    """Return last lines of the stages' tracebacks, except those of SIGINT during the imports."""
    found = TRACEBACK.findall(output)
    last_lines = [last for frames, last in found if f'File "{checkout.root}/' in frames]
    return [last for last in last_lines if not last.startswith("KeyboardInterrupt")]
