"""`--install-completion`: the script is where each shell looks for it, and what it asks is answered."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPTS = {
    "bash": ".bash_completions/manifestlog.sh",
    "zsh": ".zfunc/_manifestlog",
    "fish": ".config/fish/completions/manifestlog.fish",
}
QUESTIONS = {
    "bash": {"COMP_WORDS": "manifestlog ver", "COMP_CWORD": "1"},
    "zsh": {"_TYPER_COMPLETE_ARGS": "manifestlog ver"},
    "fish": {"_TYPER_COMPLETE_ARGS": "manifestlog ver", "_TYPER_COMPLETE_FISH_ACTION": "get-args"},
}
BASH = shutil.which("bash") or ""
every_shell = pytest.mark.parametrize("shell", SCRIPTS)


def said(home: Path, command: list[str], **environment: str) -> str:
    env = dict(os.environ) | {"HOME": str(home), "ZDOTDIR": str(home)} | environment
    return subprocess.run(command, env=env, cwd=home, capture_output=True, text=True, check=True, timeout=40).stdout


def within(home: Path, shell: str, option: str) -> str:
    """What the program says to a shell of this name; the real one where it is installed, as its name is what counts."""
    program = shutil.which(shell)
    if program is None:
        program = str(home / shell)
        shutil.copy(BASH, program)
    return said(home, [program, "-c", f"'{sys.executable}' -m manifestlog {option}; true"])


@every_shell
def test_the_script_is_installed_where_the_shell_reads_it(tmp_path: Path, shell: str) -> None:
    within(tmp_path, shell, "--install-completion")
    assert "manifestlog" in (tmp_path / SCRIPTS[shell]).read_text()


@every_shell
def test_the_script_can_be_shown(tmp_path: Path, shell: str) -> None:
    assert f"_MANIFESTLOG_COMPLETE=complete_{shell}" in within(tmp_path, shell, "--show-completion")


@every_shell
def test_the_program_answers_the_script(tmp_path: Path, shell: str) -> None:
    ask = {"_MANIFESTLOG_COMPLETE": f"complete_{shell}"} | QUESTIONS[shell]
    assert "verify" in said(tmp_path, [sys.executable, "-m", "manifestlog"], **ask)


@pytest.mark.parametrize(("line", "word"), [("manifestlog ver", "verify"), ("manifestlog verify --lev", "--level")])
def test_bash_completes(tmp_path: Path, line: str, word: str) -> None:
    within(tmp_path, "bash", "--install-completion")
    program = tmp_path / "manifestlog"
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m manifestlog "$@"\n')
    program.chmod(0o755)
    script = f"""
        source {tmp_path / SCRIPTS["bash"]}
        function=$(complete -p manifestlog | sed 's/.*-F \\([^ ]*\\) .*/\\1/')
        COMP_WORDS=({line}) COMP_CWORD={line.count(" ")}
        $function "$1"
        echo "${{COMPREPLY[@]}}"
    """
    assert word in said(tmp_path, [BASH, "-c", script, "-", str(program)]).split()
