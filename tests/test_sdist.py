"""The source distribution: it has what its own tests need."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).resolve().parents[1]
LEFT_OUT = (".git", ".venv", "build", "dist", "runs", "wandb", ".hypothesis", "*.egg-info", "__pycache__", ".*_cache")


@pytest.mark.slow
def test_the_source_distribution_passes_its_own_tests(tmp_path: Path) -> None:
    copy = shutil.copytree(CHECKOUT, tmp_path / "checkout", ignore=shutil.ignore_patterns(*LEFT_OUT))
    shutil.rmtree(copy / "site", ignore_errors=True)  # what `make docs` builds; a package has the same name
    build = "import sys\nfrom setuptools import build_meta\nbuild_meta.build_sdist(sys.argv[1])"
    subprocess.run([sys.executable, "-c", build, tmp_path / "dist"], cwd=copy, check=True, capture_output=True)
    (archive,) = (tmp_path / "dist").iterdir()
    with tarfile.open(archive) as content:
        content.extractall(tmp_path, filter="data")
    unpacked = tmp_path / archive.name.removesuffix(".tar.gz")
    missing = {path.relative_to(copy) for path in copy.rglob("*") if path.is_file() and "egg-info" not in str(path)} - {
        path.relative_to(unpacked) for path in unpacked.rglob("*")
    }
    assert not missing

    path = os.pathsep.join([str(unpacked), os.environ.get("PYTHONPATH", "")])
    environment = os.environ | {"PYTHONPATH": path, "OMP_NUM_THREADS": "1"}
    files = [f"tests/test_{name}.py" for name in ("architecture", "migrations", "arguments")]
    for words in (["--collect-only"], ["-m", "not slow", *files]):
        command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *words]
        done = subprocess.run(command, cwd=unpacked, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout[-3000:]
