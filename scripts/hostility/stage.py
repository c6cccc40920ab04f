"""What attacks take place on that need servers of their own making, and are played once."""

import contextlib
import pathlib
import time

from hostility.checks import eventually, expect
from hostility.peer import Subject
from hostility.scene import Bench
from measuring import machine
from measuring.servers import Running


class Stage:
    """One attack on servers that it starts itself."""

    def __init__(self, program, attack, is_quick):
        self.program = program
        self.attack = attack
        self.is_quick = is_quick

    def play(self):
        """The figure of the attack; how memory is before and after is no question here."""
        return self.attack(self), ""

    @property
    def server_core(self):
        return machine.cores()[0]

    @property
    def client_core(self):
        """Another core than the servers', where there is one."""
        return machine.cores()[-1]

    @contextlib.contextmanager
    def server(self, *flags, cores=None, prefix=()):
        """A server with these flags, which must still serve when the attack is over."""
        command = [*prefix, str(self.program), "serve", "--listen", "127.0.0.1:0",
                   "--log-level", "error", *flags]
        cores = machine.cores() if cores is None else cores
        with Running(command, ",".join(map(str, cores))) as running:
            subject = Subject(running)
            expect(subject.echoes(), "no echo at the start")
            yield subject
            expect(subject.is_alive(), "the server has ended")
            expect(eventually(subject.echoes), "no echo afterwards")

    def bench(self, subject, path, *arguments):
        """A run of the load generator, which must pass; its report."""
        return Bench(self.program, subject.running.url + path, arguments).report()


def cpu_seconds(pid):
    """Processor time that all threads of a process have taken, exact to the nanosecond."""
    spent = 0
    for thread in pathlib.Path(f"/proc/{pid}/task").iterdir():
        # Documentation/scheduler/sched-stats.rst: time on the processor comes first.
        spent += int((thread / "schedstat").read_text().split()[0])
    return spent / 1e9


def high_water_bytes(pid):
    """The most memory that has been resident since the start."""
    return machine.resident_bytes(pid, "VmHWM")


class Usage:
    """The share of a core that a process takes while this is entered."""

    def __init__(self, pid):
        self.pid = pid

    def __enter__(self):
        self.begin, self.spent = time.monotonic(), cpu_seconds(self.pid)
        return self

    def __exit__(self, *_):
        self.spent = cpu_seconds(self.pid) - self.spent
        self.share = self.spent / (time.monotonic() - self.begin)
