"""Hostile wheels of plug-ins: the example's attack, and code that tries to pass its own verdict."""

from __future__ import annotations

import zipfile
from pathlib import Path

EXAMPLE = Path(__file__).parents[1] / "examples" / "byzbench-spiral-attack" / "byzbench_spiral.py"
NAME, VERSION = "byzbench-spiral-attack", "1.0"
INFO = f"byzbench_spiral_attack-{VERSION}.dist-info"

BEFORE_A_MESSAGE = """
_craft_messages = Spiral.craft_messages
def _craft_hostile_messages(self, context, memory, rng):
    _be_hostile()
    return _craft_messages(self, context, memory, rng)
Spiral.craft_messages = _craft_hostile_messages
def _be_hostile():
"""
AT_IMPORT = {
    "exit at import": "import os; os._exit(0)",
    "SystemExit at import": "raise SystemExit(0)",
    "a handler of the exit": """
import atexit
from pathlib import Path
atexit.register(lambda: Path("{verdict}").write_text('{{"exit": 0}}'))
""",
    "a thread that stays": """
import threading, time
def _write():
    while True:
        try:
            open("{verdict}", "w").write('{{"exit": 0}}')
        except OSError:
            time.sleep(0.1)
threading.Thread(target=_write, daemon=True).start()
""",
    "a patched measurement": """
from byzbench.leaderboard import submitting
_cell_of = submitting.cell_of
def _flatter(*arguments):
    return _cell_of(*arguments).model_copy(update={{"value": "1.0"}})
submitting.cell_of = _flatter
""",
    "a patched code object": """
from byzbench.sweeps.cells import run_cell
run_cell.__code__ = (lambda description, out, on_existing, wait: None).__code__
""",
    "an answer of its own": """
import os
for _number in range(3, 20):
    try:
        os.write(_number, b'{{"cell": {{}}, "exit": 0}}')
    except OSError:
        pass
""",
}
IN_A_MESSAGE = {
    "exit in a message": "import os; os._exit(0)",
    "SystemExit in a message": "raise SystemExit(0)",
    "a fork bomb": """
import os, time
try:
    while True:
        if os.fork() == 0:
            time.sleep(3600)
except OSError:
    pass
""",
    "a file of 10 GB": """
with open("/tmp/large", "wb") as file:
    for _ in range(10_000):
        file.write(bytes(1_000_000))
""",
    "many files": """
for number in range(100):
    with open(f"/tmp/large{{number}}", "wb") as file:
        file.write(bytes(100_000_000))
""",
    "all the memory": "Spiral.kept = bytearray(32_000_000_000)",
    "the network": """
import socket
socket.create_connection(("127.0.0.1", {port}), timeout=5).sendall(b"reached")
raise SystemExit(0)
""",
    "writing the verdict": """
from pathlib import Path
for folder in ("{folder}", "/tmp", "/", "."):
    try:
        Path(folder, "verdict.json").write_text('{{"exit": 0}}')
    except OSError:
        pass
""",
    "reading secrets": """
import os
if "SECRET" in os.environ or os.access("{folder}/secret", os.R_OK) or os.access("/etc/passwd", os.R_OK):
    open("/tmp/not/there", "w")
""",
    "no end": "\nwhile True:\n    pass\n",
}


def code_of(name: str, **values: object) -> str:
    """Return the module of the example's attack, with hostile code."""
    code = EXAMPLE.read_text()
    if name in AT_IMPORT:
        return code + AT_IMPORT[name].format(**values)
    if name in IN_A_MESSAGE:
        lines = IN_A_MESSAGE[name].format(**values).strip("\n").splitlines()
        return code + BEFORE_A_MESSAGE + "".join(f"    {line}\n" for line in lines)
    return code


def write_wheel(folder: Path, code: str, more: dict[str, str] | None = None, name: str = NAME) -> Path:
    """Write the wheel of a distribution with the attack `spiral`.

    Args:
        folder: The folder of the wheel.
        code: The content of its module.
        more: The contents of further files, by path.
        name: The name of the distribution.
    """
    folder.mkdir(parents=True, exist_ok=True)
    info = INFO.replace(NAME.replace("-", "_"), name.replace("-", "_"))
    path = folder / f"{info.removesuffix('.dist-info')}-py3-none-any.whl"
    files = {
        "byzbench_spiral.py": code,
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {VERSION}\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: tests\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        f"{info}/entry_points.txt": "[byzbench.attacks]\nspiral = byzbench_spiral:Spiral\n",
        f"{info}/RECORD": "",
        **(more or {}),
    }
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for file, content in files.items():
            archive.writestr(file, content)
    return path
