"""Verification of a submission: its checks, the replay of drawn cells, and a verdict as a document.

The verifier never imports a plug-in of the submission. It compares the submission with stand-ins of its plug-ins
(`byzbench.leaderboard.stand_ins`), and their cells run in sandboxes (`byzbench.leaderboard.sandbox`), whose answers are
data.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias

from byzbench.canonical import SCHEMA
from byzbench.errors import StorageError
from byzbench.leaderboard.checks import check_submission
from byzbench.leaderboard.documents import Finding, Refused
from byzbench.leaderboard.entries import read_entry
from byzbench.leaderboard.guard import guard, head_commit
from byzbench.leaderboard.replay import ReplayResult, fresh_salt, replay_entry
from byzbench.leaderboard.runners import LocalRunner, RunCallback, Runner, SandboxRunner
from byzbench.leaderboard.sandbox import Sandbox
from byzbench.leaderboard.stand_ins import missing_plugins, plugin_folders, plugins_stood_in
from byzbench.leaderboard.wheels import unpack_wheels
from byzbench.platforms import num_cores
from byzbench.sweeps.executors import Executor, make_executor

OpenExecutor: TypeAlias = Callable[[Path], AbstractContextManager[Executor]]
OpenSandbox: TypeAlias = Callable[[Path | None, RunCallback | None], SandboxRunner]

_open_processes: OpenExecutor = partial(make_executor, "process")


@dataclass(frozen=True)
class Verification:
    """The result of a verification.

    Attributes:
        folder: The folder of the submission.
        submission: The digest of the submission; None if its files cannot be read.
        commit: The commit of the checkout that holds the folder; None without a checkout.
        base: The commit whose submissions must not have changed; None if none was given.
        findings: The findings of the checks.
        replay: The result of the replay; None if nothing was replayed.
        exit_code: 0 verified, 1 refused or contradicted, 3 not replayed or undecided.
    """

    folder: Path
    submission: str | None
    commit: str | None
    base: str | None
    findings: tuple[Finding, ...]
    replay: ReplayResult | None
    exit_code: int

    @property
    def refused(self) -> bool:
        """True if a finding of the checks is fatal."""
        return any(finding.fatal for finding in self.findings)

    def to_json(self) -> dict[str, Any]:
        """Return the verdict as data for JSON."""
        return {
            "schema": SCHEMA,
            "folder": self.folder.name,
            "submission": self.submission,
            "commit": self.commit,
            "base": self.base,
            "findings": [str(finding) for finding in self.findings],
            "replay": self.replay and self.replay.to_json(),
            "exit": self.exit_code,
        }

    def write(self, path: Path) -> None:
        """Write the verdict as a file, which is complete or not there.

        Raises:
            StorageError: The file cannot be written.
        """
        try:
            with tempfile.NamedTemporaryFile("w", dir=path.parent, delete=False, encoding="utf-8") as file:
                json.dump(self.to_json(), file, indent=1, allow_nan=False)
            os.replace(file.name, path)
        except OSError as error:
            raise StorageError(f"cannot write {path}: {error.strerror}") from None


def sandbox_runner(
    plugins: Path | None = None,
    callback: RunCallback | None = None,
    *,
    jobs: int | None = None,
    seconds: float | None = None,
) -> SandboxRunner:
    """Return the runner of cells with plug-ins; to be called among their stand-ins.

    Args:
        plugins: The folder that has their distributions; None: this environment has them.
        callback: See `RunCallback`.
        jobs: Number of cells that run at a time; None: one for each core.
        seconds: The seconds after which a cell is ended; None: an hour.

    Raises:
        UserError: No sandbox can be made.
    """
    sandbox = Sandbox((plugins,) if plugins else plugin_folders(), 3600.0 if seconds is None else seconds)
    sandbox.check()
    return SandboxRunner(sandbox, jobs or num_cores(), callback)


def verify_submission(
    folder: Path,
    *,
    cells: int = 8,
    salt: str | None = None,
    base: str | None = None,
    wheels: Path | None = None,
    open_executor: OpenExecutor = _open_processes,
    open_sandbox: OpenSandbox = sandbox_runner,
    callback: RunCallback | None = None,
) -> Verification:
    """Check a submission, and replay randomly drawn cells of it.

    Args:
        folder: The folder of the submission, SUBMISSIONS/SUITE/TRACK/SLUG.
        cells: Number of cells to replay; 0: only the checks.
        salt: The salt of the draw; None: a random one.
        base: A commit whose submissions must not have changed; None: the comparison is left out.
        wheels: The folder with the wheels of its plug-ins; None: this environment has them.
        open_executor: A function that opens the executor of cells without plug-ins for a store.
        open_sandbox: A function that returns the runner of cells with plug-ins, as `sandbox_runner` does.
        callback: See `RunCallback`.

    Raises:
        UserError: The base is no commit, or plug-ins have to be run and no sandbox can be made.
    """
    submissions = folder.resolve().parents[2]
    findings = tuple(guard(submissions, base)) if base else ()
    done = partial(Verification, folder, commit=head_commit(folder), base=base)
    digest = None
    with ExitStack() as stack:
        try:
            entry = read_entry(folder)
            digest = entry.digest
            plugins, unpacked = None, []
            if wheels is not None:
                plugins = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="byzbench-")))
                unpacked = unpack_wheels(wheels, entry.submission.code.plugins, plugins)
            if unpacked:
                raise Refused(unpacked)
            stack.enter_context(plugins_stood_in(entry, plugins))
            if entry.submission.replayable and (missing := list(missing_plugins(entry))):
                raise Refused([Finding("plug-in", "submission.json $.code.plugins", line) for line in missing])
        except Refused as error:
            return done(digest, findings=(*error.findings, *findings), replay=None, exit_code=1)
        report = check_submission(folder, submissions)
        findings = (*report.findings, *findings)
        if any(finding.fatal for finding in findings):
            return done(digest, findings=findings, replay=None, exit_code=1)
        if not cells or report.submission_plan is None:
            code = 3 if entry.submission.code.engine is None else 0
            return done(digest, findings=findings, replay=None, exit_code=code)
        scratch = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="byzbench-")))
        if entry.submission.code.plugins:
            runner: Runner = open_sandbox(plugins, callback)
        else:
            runner = LocalRunner(scratch, stack.enter_context(open_executor(scratch)), callback)
        replay = replay_entry(entry, report.submission_plan, cells, salt or fresh_salt(), runner)
        return done(digest, findings=findings, replay=replay, exit_code=replay.exit_code)
