"""The tree: its top level, its types, its import rules, its style, its README."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest

TOOLS = {
    "ruff check": ["-m", "ruff", "check", "--no-cache", "."],
    "ruff format": ["-m", "ruff", "format", "--no-cache", "--check", "."],
    "mypy": ["-m", "mypy", "--cache-dir=/dev/null"],
    "import-linter": ["-c", "from importlinter.cli import lint_imports_command; lint_imports_command()", "--no-cache"],
}


@pytest.mark.parametrize("name", TOOLS)
def test_tool_is_content(name, root):
    done = subprocess.run([sys.executable, *TOOLS[name]], cwd=root, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_top_level_holds_exactly_what_the_design_says(root):
    files = subprocess.run(["git", "ls-files"], cwd=root, capture_output=True, text=True, check=True).stdout.split("\n")
    top = {file.split("/")[0] for file in files if file and not file.startswith(".")}
    assert top == {"pyproject.toml", "lab", "native", "tests", "notebooks", "README.md"}


def test_modules_stay_readable(root):
    long = {
        str(path.relative_to(root)): lines
        for pattern in ("lab/**/*.py", "native/*.[ch]")
        for path in root.glob(pattern)
        if (lines := len(path.read_text().splitlines())) > 400
    }
    assert not long


@pytest.mark.parametrize("mark", ["run", "test"])
def test_the_readme_has_its_two_commands(mark, root):
    text = (root / "README.md").read_text()
    assert re.search(rf"<!-- {mark} -->\s*```\w*\n.+?\n```", text, re.DOTALL)


def test_what_the_readme_points_to_is_there(root):
    text = (root / "README.md").read_text()
    for target in re.findall(r"\]\(([^)#:]+)\)", text):
        assert (root / target).exists(), target
