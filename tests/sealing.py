"""Seals of run folders that a test has edited on purpose, as if they had been written like that."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import safetensors
import safetensors.torch

from byzbench.records.seals import BLANK, stamp


def seal(folder: Path) -> None:
    """Write the digests of the files that the folder has into its result, and the seal of the result."""
    result = json.loads((folder / "result.json").read_text())
    for name in ("experiment.json", "metrics.jsonl", "timing.jsonl"):
        if (folder / name).exists():
            result["digests"][name] = digest(folder / name)
    if result["trace"] and (folder / "trace.jsonl").exists():
        result["trace"] = digest(folder / "trace.jsonl")
    content = json.dumps(result | {"run": folder.name, "seal": BLANK}).encode()
    (folder / "result.json").write_bytes(stamp(content))


def seal_checkpoint(folder: Path) -> None:
    """Write the digest of the folder's experiment into its checkpoint, and the seal of the checkpoint."""
    path = folder / "checkpoint.safetensors"
    with safetensors.safe_open(path, framework="pt") as handle:
        progress = json.loads(handle.metadata()["progress"])
    progress["digests"]["experiment.json"] = digest(folder / "experiment.json")
    tensors = safetensors.torch.load(path.read_bytes())
    path.write_bytes(stamp(safetensors.torch.save(tensors, {"progress": json.dumps(progress), "seal": BLANK})))


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
