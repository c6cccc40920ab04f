"""The machine that measures: what it is, and whether it is idle enough to be believed."""

import os
import pathlib
import platform
import re
import shutil
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parents[2]
# Of one core, the share that others may use while something is measured.
LOAD_MOST = 0.3


def refuse_when_busy(force):
    """Ends the program when others use the machine, because no figure would be worth anything."""
    load = os.getloadavg()[0]
    if load <= LOAD_MOST:
        return
    message = f"the load average is {load:.2f}, more than {LOAD_MOST}: something else is running"
    if not force:
        sys.exit(f"error: {message}; wait until it is over, or say --force for a trial")
    print(f"warning: {message}; these figures are a trial", file=sys.stderr)


def cores():
    """The cores that this process may use."""
    return sorted(os.sched_getaffinity(0))


def available_bytes():
    """Memory that can be had without swapping."""
    return meminfo()["MemAvailable"]


def meminfo():
    """/proc/meminfo in bytes."""
    lines = pathlib.Path("/proc/meminfo").read_text().splitlines()
    parsed = (re.match(r"(\S+):\s+(\d+) kB", line) for line in lines)
    return {found[1]: int(found[2]) << 10 for found in parsed if found}


def resident_bytes(pid, field="VmRSS"):
    """Resident memory of a process, nothing when it has ended; VmHWM is the most there has been."""
    found = re.search(rf"{field}:\s+(\d+) kB", read(f"/proc/{pid}/status") or "")
    return int(found[1]) << 10 if found else None


def slab_bytes():
    """Bytes of each kernel slab cache; nothing where /proc/slabinfo may not be read."""
    try:
        lines = pathlib.Path("/proc/slabinfo").read_text().splitlines()[2:]
    except PermissionError:
        return {}
    fields = (line.split() for line in lines)
    return {field[0]: int(field[1]) * int(field[3]) for field in fields}


def facts():
    """Everything about the machine and the sources that a figure depends on."""
    return {
        "commit": output("git", "rev-parse", "HEAD"),
        "uncommitted": bool(output("git", "status", "--porcelain", "--untracked-files=no")),
        "kernel": f"{platform.release()} {platform.version()}",
        "cpu": cpu_name(),
        "cores": len(cores()),
        "hypervisor": "hypervisor" in cpu_flags(),
        "memory_bytes": meminfo()["MemTotal"],
        "descriptors": os.sysconf("SC_OPEN_MAX"),
        "rustc": output("rustc", "--version"),
        "load_average": os.getloadavg(),
        "governor": read("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor"),
        "somaxconn": read("/proc/sys/net/core/somaxconn"),
        "tcp_rmem": read("/proc/sys/net/ipv4/tcp_rmem"),
        "tcp_wmem": read("/proc/sys/net/ipv4/tcp_wmem"),
    }


def machine_name():
    """A name for directories: the processor and its cores."""
    words = re.sub(r"\(.*?\)|@.*|\b(CPU|Processor)\b", " ", cpu_name())
    slug = re.sub(r"[^a-z0-9]+", "-", words.lower()).strip("-")
    return f"{slug or platform.machine()}-{len(cores())}cores"


def cpu_name():
    found = re.search(r"model name\s*: (.*)", read("/proc/cpuinfo") or "")
    return found[1] if found else platform.machine()


def cpu_flags():
    found = re.search(r"flags\s*: (.*)", read("/proc/cpuinfo") or "")
    return found[1].split() if found else []


def read(path):
    """The text of a file of the kernel, or nothing where there is no such file."""
    try:
        return pathlib.Path(path).read_text().strip()
    except OSError:
        return None


def output(*command):
    """What a command prints, or nothing when it fails."""
    try:
        run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    return run.stdout.strip()


def require_tool(name, package):
    """Installs a Debian package unless the tool is there."""
    if not shutil.which(name):
        install(package)


def require_package(package):
    """Installs a Debian package unless it is there."""
    status = output("dpkg-query", "--show", "--showformat=${db:Status-Status}", package)
    if status != "installed":
        install(package)


def install(package):
    if os.geteuid() != 0:
        sys.exit(f"error: something is missing; install the package {package}")
    quiet = {"stdout": subprocess.DEVNULL, "check": True}
    subprocess.run(["apt-get", "update", "-q"], **quiet)
    subprocess.run(["apt-get", "install", "-q", "-y", "--no-install-recommends", package], **quiet)


def cargo_tool(name, crate, version):
    """The path of a program from a crate, installed below target/tools unless it is there."""
    tools = ROOT / "target" / "tools"
    path = tools / "bin" / name
    if not path.exists():
        print(f"installing {crate} {version} into {tools.relative_to(ROOT)}", file=sys.stderr)
        subprocess.run(["cargo", "install", crate, "--version", version, "--locked", "--quiet",
                        "--root", tools], cwd=ROOT, check=True)
    return path
