"""Writes the commit that is built into the package, where `guardproxy --version` finds it."""

from __future__ import annotations

import os
import subprocess
import tempfile
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

TARGET = "guardproxy/COMMIT"


class CommitHook(BuildHookInterface):  # type: ignore[type-arg] # its configuration is hatchling's
    """Takes the commit from GUARDPROXY_COMMIT, else from git; where neither knows it the package has none."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Put the file among those that are built in."""
        if version == "editable" or (Path(self.root) / TARGET).exists():  # a source archive brings it
            return
        if commit := os.environ.get("GUARDPROXY_COMMIT") or self._git():
            folder = Path(tempfile.mkdtemp())
            (folder / "COMMIT").write_text(commit + "\n")
            build_data["force_include"][str(folder / "COMMIT")] = TARGET

    def _git(self) -> str:
        if not (Path(self.root) / ".git").exists():
            return ""
        command = ["git", "rev-parse", "HEAD"]
        try:
            done = subprocess.run(command, cwd=self.root, capture_output=True, text=True, check=False)  # noqa: S603 -- a fixed command
        except OSError:
            return ""
        return done.stdout.strip()
