"""What was measured on: facts for the report, and whether the machine is quiet enough."""

import os
import pathlib
import platform
import re
import resource
import subprocess
import time

from .processes import ENVIRONMENT, TOP, cpu_seconds, machine_cpu_seconds

# Of one core. A quiet desktop stays below it; a compiler does not.
BUSY = 0.10


def facts():
    cpu = pathlib.Path("/proc/cpuinfo").read_text(encoding="utf-8")
    memory = re.search(r"MemTotal:\s+(\d+) kB", pathlib.Path("/proc/meminfo").read_text(encoding="ascii"))
    model = re.search(r"^model name\s*: (.*)$", cpu, re.MULTILINE)
    return {
        "CPU": model.group(1) if model else platform.processor() or platform.machine(),
        "cores": str(os.cpu_count()),
        "virtual": "yes" if re.search(r"^flags\s*:.*\bhypervisor\b", cpu, re.MULTILINE) else "no, or unknown",
        "memory": f"{int(memory.group(1)) / 2**20:.0f} GiB",
        "kernel": f"{platform.system()} {platform.release()}",
        "system": platform.freedesktop_os_release().get("PRETTY_NAME", "unknown"),
        "open files": str(resource.getrlimit(resource.RLIMIT_NOFILE)[0]),
    }


def raise_open_files():
    _soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def output(*command):
    """The first line that a command prints, or None."""
    try:
        done = subprocess.run(command, cwd=TOP, env=ENVIRONMENT, capture_output=True, text=True, timeout=20)
    except (OSError, subprocess.TimeoutExpired):
        return None
    lines = (done.stdout or done.stderr).strip().splitlines()
    return lines[0] if done.returncode == 0 and lines else None


def foreign_load(seconds=2.0):
    """The share of one core that everything but this process uses, and the names of the busiest."""
    before, others = machine_cpu_seconds(), _processes()
    own = time.process_time()
    time.sleep(seconds)
    used = machine_cpu_seconds() - before - (time.process_time() - own)
    spent = {name: now - others.get((pid, name), now) for (pid, name), now in _processes().items()}
    busiest = sorted((name for name, cpu in spent.items() if cpu > 0.02 * seconds), key=lambda name: -spent[name])
    return max(0.0, used / seconds), busiest[:3]


def _processes():
    found = {}
    for entry in pathlib.Path("/proc").iterdir():
        if entry.name.isdigit() and entry.name != str(os.getpid()):
            try:
                found[entry.name, (entry / "comm").read_text().strip()] = cpu_seconds(entry.name)
            except OSError:
                continue
    return found
