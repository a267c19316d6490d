"""Pools of workers: they keep the order, and end quietly with their parent."""

import operator
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from liquidgen.images.row_groups import warm
from liquidgen.utils.errors import UserError
from liquidgen.utils.workers import Processes, Threads, Workers

INTERRUPTED = """
import signal
from liquidgen.images.row_groups import warm
from liquidgen.utils.workers import Processes

try:
    with Processes(2, warm) as workers:
        print(*workers.map(abs, range(9)), flush=True)
        signal.pause()
except KeyboardInterrupt:
    print("interrupted", flush=True)
"""


KINDS = {
    "processes": lambda: Processes(2, warm),
    "threads": lambda: Threads(2),
    "none": lambda: Threads(0),
}


@pytest.fixture(params=KINDS)
def workers(request: pytest.FixtureRequest) -> Iterator[Workers]:
    """Two workers of each kind, and none."""
    with KINDS[request.param]() as found:
        yield found


def test_results_keep_the_order_of_the_items(workers: Workers):
    assert list(workers.map(str, range(50))) == [str(i) for i in range(50)]


def test_map_takes_only_a_few_items_ahead(workers: Workers):
    taken: list[int] = []

    def items() -> Iterator[int]:
        for i in range(100):
            taken.append(i)
            yield i

    assert next(workers.map(abs, items())) == 0
    assert len(taken) <= 6


def test_threads_end_when_the_work_fails():
    before = threading.active_count()
    with pytest.raises(ZeroDivisionError), Threads(2) as workers:
        list(workers.map(lambda item: 1 / item, [1, 0, *range(1, 50)]))
    assert threading.active_count() == before


def test_killed_worker_is_one_line_with_the_remedy():
    with (
        Processes(2, warm) as workers,
        pytest.raises(UserError, match=r"machine.num_workers: .* lower it, 0 works without"),
    ):
        list(workers.map(os._exit, [1]))


def test_worker_that_is_killed_later_is_reported():
    # of modules that a worker can always import, which tests are not
    calls = [os.getppid] * 20 + [partial(os._exit, 1)] + [os.getppid] * 79
    with Processes(2, warm) as workers:
        results = workers.map(operator.call, calls)
        assert next(results) == os.getpid()
        with pytest.raises(UserError, match="a worker process was killed"):
            list(results)


def test_idle_workers_leave_ctrl_c_to_their_parent():
    command = [sys.executable, "-c", INTERRUPTED]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen(command, text=True, start_new_session=True, **pipes) as process:
        assert process.stdout.readline() == "0 1 2 3 4 5 6 7 8\n"
        os.killpg(process.pid, signal.SIGINT)  # as a terminal does: the workers get it, too
        assert process.communicate() == ("interrupted\n", "")
    assert process.returncode == 0


SCRIPT = """
from liquidgen.images.row_groups import warm
from liquidgen.utils.workers import Processes

print("started", flush=True)
with Processes(2, warm) as workers:
    print(*workers.map(abs, range(-3, 0)))
"""


def test_script_without_a_guard_is_not_run_by_workers(tmp_path: Path):
    (tmp_path / "script.py").write_text(SCRIPT)
    command = [sys.executable, str(tmp_path / "script.py")]
    done = subprocess.run(command, capture_output=True, text=True)
    assert (done.returncode, done.stdout.split("\n")) == (0, ["started", "3 2 1", ""]), done.stderr
