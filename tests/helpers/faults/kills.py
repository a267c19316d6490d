"""Ways to kill what `dvc repro` starts: at a time, or inside the writing of a file."""

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
LONGEST = 300  # seconds that a `dvc repro` may take
EXITED = re.compile(r"exited with (-?\d+)")  # as DVC says it of its stage
TRACEBACK = re.compile(r"Traceback \(most recent call last\):\n((?: .*\n)+)(\S.*)")


@dataclass(frozen=True)
class InWrite:
    """SIGKILL within the n-th file of a pattern that a process writes.

    At the moment "write" the process dies with half of the file written, by SIGXFSZ; the others
    stay alive.
    """

    process: str  # a stage
    nth: int
    moment: str
    victims: tuple[str, ...] = ("stage",)
    pattern: str = CHECKPOINT

    @property
    def environment(self) -> dict[str, str]:
        """What makes the injector act in that process."""
        return {"FAULT": json.dumps(asdict(self)), "PYTHONPATH": str(INJECTED)}

    @property
    def label(self) -> str:
        """Its row in the table of kills."""
        return f"SIGKILL {self.moment} of a save"

    def strike(self, process: subprocess.Popen) -> None:
        """The process does it itself."""

    def explains(self, code: int, exits: set[int]) -> bool:
        """Whether DVC, or else its stage, ended as it was to."""
        if self.moment == "write":
            return exits == {-signal.SIGXFSZ}
        if "dvc" in self.victims:
            return code == -signal.SIGKILL
        return exits == {-signal.SIGKILL}


@dataclass(frozen=True)
class AtTime:
    """A signal some seconds after the start of `dvc repro`."""

    seconds: float
    number: signal.Signals
    victims: tuple[str, ...]

    @property
    def label(self) -> str:
        """Its row in the table of kills."""
        return f"{self.number.name} to {' and '.join(self.victims)}"

    environment: ClassVar[dict[str, str]] = {}

    def strike(self, process: subprocess.Popen) -> None:
        """Wait, and send the signal to whoever is there by then."""
        with suppress(subprocess.TimeoutExpired):
            process.wait(self.seconds)
        for victim in self.victims:
            with suppress(ProcessLookupError, psutil.NoSuchProcess):
                if victim == "dvc":
                    os.kill(process.pid, self.number)
                elif victim == "group":
                    os.killpg(process.pid, self.number)
                elif stage := stage_of(process.pid):
                    stage.send_signal(self.number)

    def explains(self, code: int, exits: set[int]) -> bool:
        """Whether the stage, or else DVC, ended by the signal or because it was asked to."""
        if exits:
            return exits <= {-self.number, INTERRUPTED}
        return code == -self.number or self.number == signal.SIGINT  # of which DVC makes an error


def stage_of(dvc: int) -> psutil.Process | None:
    """The process of the stage that DVC runs, if it runs one."""
    for child in psutil.Process(dvc).children(recursive=True):
        with suppress(psutil.NoSuchProcess):
            if any(word.startswith("stages.") for word in child.cmdline()):
                return child
    return None


def struck(checkout: Checkout, fault: InWrite | AtTime | None, *arguments: str) -> tuple[int, str]:
    """Run `dvc repro` with a fault: its exit code, and all that was said.

    What did not end well must have ended by the fault, and no stage with a traceback of its own.
    """
    with tempfile.TemporaryFile("w+") as said:
        process = subprocess.Popen(
            ("dvc", "repro", *arguments),
            cwd=checkout.root,
            env=checkout.environment() | (fault.environment if fault else {}),
            stdout=said,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            if fault:
                fault.strike(process)
            process.wait(LONGEST)
        except BaseException:
            os.killpg(process.pid, signal.SIGKILL)
            raise
        said.seek(0)
        code, text = process.returncode, said.read()
    assert not own_tracebacks(checkout, text), text
    if fault and code:
        assert fault.explains(code, set(map(int, EXITED.findall(text)))), f"{fault}: {code}: {text}"
    return code, text


def own_tracebacks(checkout: Checkout, said: str) -> list[str]:
    """Last lines of a stage's tracebacks, but for SIGINT's while a stage still imports."""
    found = TRACEBACK.findall(said)
    ends = [end for frames, end in found if f'File "{checkout.root}/' in frames]
    return [end for end in ends if not end.startswith("KeyboardInterrupt")]
