"""Fault injector: Python imports this at its start if the folder is on PYTHONPATH.

Kills a stage, or its DVC, while the stage writes a file. $FAULT says which and when: the fields of
`helpers.faults.kills.KillInWrite` as JSON.
"""

import json
import os
import resource
import signal
import sys
from fnmatch import fnmatch


class Injector:
    """Counts matching files that the process opens for writing, and kills inside the n-th."""

    def __init__(self, pattern, nth, moment, victims):
        self.pattern = pattern
        self.nth = nth
        self.moment = moment
        self.victims = victims
        self.opened = 0
        self.last_size = 0
        self.fsync = os.fsync
        self.replace = os.replace
        os.fsync = self.on_fsync
        os.replace = self.on_replace
        sys.addaudithook(self.on_audit)

    def on_audit(self, event, arguments):
        if event != "open" or not arguments[2] & os.O_CREAT or not self.matches(arguments[0]):
            return
        self.opened += 1
        if self.opened == self.nth and self.moment == "write":
            # the kernel kills the process when the file grows beyond this: half of it is written
            signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
            resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
            resource.setrlimit(resource.RLIMIT_FSIZE, (self.last_size // 2,) * 2)
        self.kill_at("open", arguments[0])

    def on_fsync(self, file):
        path = os.readlink(f"/proc/self/fd/{file if isinstance(file, int) else file.fileno()}")
        self.kill_at("before fsync", path)
        self.fsync(file)
        self.kill_at("after fsync", path)

    def on_replace(self, source, target, **options):
        if self.matches(source):
            self.last_size = os.path.getsize(source)
        self.kill_at("before rename", source)
        self.replace(source, target, **options)
        self.kill_at("after rename", source)

    def kill_at(self, moment, path):
        if moment == self.moment and self.opened == self.nth and self.matches(path):
            # this process last: it could not kill DVC afterwards
            for victim, process in (("dvc", os.getppid()), ("stage", os.getpid())):
                if victim in self.victims:
                    os.kill(process, signal.SIGKILL)

    def matches(self, path):
        is_path = isinstance(path, str | os.PathLike)
        return is_path and fnmatch(os.path.basename(path), self.pattern)


if "FAULT" in os.environ:
    fault = json.loads(os.environ["FAULT"])
    if sys.orig_argv[1:] == ["-m", f"stages.{fault.pop('process')}"]:
        Injector(**fault)
