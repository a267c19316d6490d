"""Python imports this at the start of each process that has its folder on PYTHONPATH.

A stage of `dvc repro`, or DVC, is killed while the stage writes a file. $FAULT says which and
where, as JSON with the fields of `faults.kills.InWrite`.
"""

import json
import os
import resource
import signal
import sys
from fnmatch import fnmatch


class Injector:
    """Counts the files of a pattern that the process opens to write; kills within the n-th."""

    def __init__(self, pattern, nth, moment, victims):
        self.pattern, self.nth, self.moment, self.victims = pattern, nth, moment, victims
        self.seen, self.last_size = 0, 0
        self.fsync, self.replace = os.fsync, os.replace
        os.fsync, os.replace = self.on_fsync, self.on_replace
        sys.addaudithook(self.on_audit)

    def on_audit(self, event, arguments):
        if event != "open" or not arguments[2] & os.O_CREAT or not self.concerns(arguments[0]):
            return
        self.seen += 1
        if self.seen == self.nth and self.moment == "write":
            # the kernel ends the process when the file grows beyond: half of it is on the disk
            signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
            resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
            resource.setrlimit(resource.RLIMIT_FSIZE, (self.last_size // 2,) * 2)
        self.at("open", arguments[0])

    def on_fsync(self, file):
        path = os.readlink(f"/proc/self/fd/{file if isinstance(file, int) else file.fileno()}")
        self.at("before fsync", path)
        self.fsync(file)
        self.at("after fsync", path)

    def on_replace(self, source, target, **options):
        if self.concerns(source):
            self.last_size = os.path.getsize(source)
        self.at("before rename", source)
        self.replace(source, target, **options)
        self.at("after rename", source)

    def at(self, moment, path):
        if moment == self.moment and self.seen == self.nth and self.concerns(path):
            # itself last: it would not come to kill DVC after that
            for victim, process in (("dvc", os.getppid()), ("stage", os.getpid())):
                if victim in self.victims:
                    os.kill(process, signal.SIGKILL)

    def concerns(self, path):
        named = isinstance(path, str | os.PathLike)
        return named and fnmatch(os.path.basename(path), self.pattern)


if "FAULT" in os.environ:
    fault = json.loads(os.environ["FAULT"])
    if sys.orig_argv[1:] == ["-m", f"stages.{fault.pop('process')}"]:
        Injector(**fault)
