"""Sandboxes in which the cells of entries with plug-ins run, by bubblewrap (package `bubblewrap` of Debian).

A cell runs in a process with mount, PID, network, IPC, UTS and user namespaces of its own. It sees Python, byzbench and
the plug-ins, read-only, and nothing else of this machine; it has no network, no capabilities and no environment
variables of the caller. Where the caller is root, it runs as the user nobody. Processes, memory, disk and time are
limited. All its processes end with it. Where a namespace is refused, nothing runs.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from pydantic import ValidationError

import byzbench
from byzbench.errors import UserError
from byzbench.leaderboard.schema import Cell

MEMORY = 4 * 2**30
"""The address space of a process, in bytes."""

DISK = 256 * 2**20
"""The size of each folder that can be written, which are in memory, in bytes."""

PROCESSES = 32
"""The largest number of processes and threads."""

ANSWER = 2**20
"""The largest size of the answer of a sandbox, in bytes."""

_BEGIN = """
import json, sys
first, last = json.loads(sys.argv[1])
sys.path[:] = [*(path for path in first if path not in sys.path), *sys.path, *last]
from byzbench.leaderboard.sandboxed_cell import main
main()
"""


_PACKAGE = Path(str(byzbench.__file__)).parent


@dataclass(frozen=True)
class NoCell:
    """A run that ended without a cell.

    Attributes:
        reason: The reason, in one line.
        verdict: What it means for the claim.
    """

    reason: str
    verdict: Literal["refused", "infrastructure"] = "refused"


@dataclass(frozen=True)
class Sandbox:
    """A sandbox.

    Attributes:
        plugins: The folders that have the plug-ins. They are last on the search path, and cannot hide other modules.
        seconds: The seconds after which a cell is ended.
    """

    plugins: tuple[Path, ...] = ()
    seconds: float = 3600.0

    def run(
        self, place: tuple[str, str, str | None, int], experiment: str, description: Mapping[str, Any]
    ) -> Cell | NoCell:
        """Run a cell in a fresh sandbox.

        Args:
            place: The place of the cell in the suite, as `CellKey.key`.
            experiment: The hash of the experiment.
            description: The experiment, as `Experiment.describe` returns it.

        Returns:
            The cell. It is what the sandbox wrote, with this place and this hash, and has the form of a cell.
        """
        request = json.dumps({"experiment": description, "hash": experiment, "place": place})
        paths = json.dumps([[str(_PACKAGE.parent)], list(map(str, self.plugins))])
        command = [*self._command, sys.executable, "-I", "-c", _BEGIN, paths]
        try:
            status, answer = _output(command, request.encode(), self.seconds)
        except subprocess.TimeoutExpired:
            return NoCell(f"the plug-in ran longer than {self.seconds:g} s")
        if len(answer) > ANSWER:
            return NoCell(f"the plug-in wrote more than {ANSWER} bytes")
        try:
            data = json.loads(answer)
            if isinstance(data, dict) and isinstance(reason := data.get("refused"), str):
                return NoCell(ascii(reason)[1:-1][:300])
            cell = Cell.model_validate(data["cell"])
        except (ValidationError, ValueError, LookupError, TypeError, RecursionError):
            return NoCell(f"the plug-in ended its process without a cell, with exit status {status}")
        stratum, attack, algo, seed = place
        named = {"cell": experiment, "stratum": stratum, "attack": attack, "algo": algo, "seed": seed}
        return cell.model_copy(update=named)

    def check(self) -> None:
        """Check that a sandbox can be made here.

        Raises:
            UserError: Bubblewrap is not installed, or a namespace is refused.
        """
        if sys.platform != "linux":
            raise UserError("plug-ins are run in a sandbox of Linux, which this system does not have")
        if not shutil.which("bwrap"):
            raise UserError(
                "plug-ins are run in a sandbox by bubblewrap, which is not installed: apt-get install bubblewrap"
            )
        status, _ = _output([*self._command, sys.executable, "-I", "-c", "print(1)"], b"", 60.0)
        if status:
            raise UserError(f"plug-ins are run in a sandbox, which cannot be made here: bubblewrap ended with {status}")

    @cached_property
    def _command(self) -> list[str]:
        """The command that begins a command in a sandbox."""
        limits = [f"--as={MEMORY}", f"--nproc={PROCESSES}", f"--fsize={DISK}", "--nofile=256", "--core=0"]
        limited = ["choom", "-n", "1000", "--", "prlimit", *limits, "--"]
        if os.geteuid() != 0:
            return [*self._bubblewrap("--unshare-user"), *limited]
        # Root makes the mounts, as nobody may not be able to reach Python; nobody then enters a user namespace.
        nobody = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "--no-new-privs"]
        without = ["--inh-caps=-all", "--bounding-set=-all", "unshare", "--user", "--map-current-user"]
        return [*self._bubblewrap(), *nobody, *without, *limited]

    def _bubblewrap(self, *namespaces: str) -> list[str]:
        """Return the command that enters namespaces and shows the folders that a cell needs."""
        variables = {"PATH": "/usr/bin:/bin", "HOME": "/tmp", "LANG": "C.UTF-8", "NUMBA_CACHE_DIR": "/tmp/numba"}
        variables |= {"OMP_NUM_THREADS": "1", "PYTHONDONTWRITEBYTECODE": "1"}
        if instruction_set := os.environ.get("ATEN_CPU_CAPABILITY"):  # by which the replay has the bits of the entry
            variables["ATEN_CPU_CAPABILITY"] = instruction_set
        homes = [*map(Path, (sys.base_prefix, sys.prefix, *byzbench.__path__)), *self.plugins]
        shown = sorted({path for home in homes for path in (home.absolute(), home.resolve())})
        above = sorted({folder for path in shown for folder in path.parents[:-1]} - {Path("/usr"), Path("/tmp")})
        links = [folder for folder in map(Path, ("/bin", "/lib", "/lib64", "/sbin")) if folder.is_symlink()]
        written = ["--perms", "1777", "--size", str(DISK), "--tmpfs"]
        options = [
            ("--unshare-ipc", "--unshare-pid", "--unshare-net", "--unshare-uts", "--unshare-cgroup-try", *namespaces),
            ("--die-with-parent", "--new-session", "--clearenv"),
            *(("--setenv", name, value) for name, value in variables.items()),
            ("--ro-bind", "/usr", "/usr"),
            *(("--symlink", os.readlink(folder), str(folder)) for folder in links),
            *(("--ro-bind-try", name, name) for name in ("/bin", "/lib", "/lib64") if Path(name) not in links),
            ("--ro-bind-try", "/etc/ld.so.cache", "/etc/ld.so.cache"),
            ("--proc", "/proc", "--dev", "/dev", *written, "/tmp", *written, "/dev/shm"),
            *(("--perms", "0755", "--dir", str(folder)) for folder in above),
            *(("--ro-bind", str(folder), str(folder)) for folder in shown),
            ("--remount-ro", "/", "--chdir", "/tmp", "--"),
        ]
        return ["bwrap", *(word for words in options for word in words)]


def _output(command: list[str], request: bytes, seconds: float) -> tuple[int, bytes]:
    """Run a command, and return its exit status and the beginning of its output.

    Raises:
        TimeoutExpired: It ran longer than the limit.
    """
    # A file and no pipe, as the limit on the size of files then bounds the output too.
    with tempfile.TemporaryFile() as output:
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=output, stderr=subprocess.DEVNULL)
        try:
            process.communicate(request, timeout=seconds)
        finally:
            process.kill()  # with which all processes of the sandbox end
            process.wait()
        output.seek(0)
        return process.returncode, output.read(ANSWER + 1)
