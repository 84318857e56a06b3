"""The public names, the command's options, and what importing costs."""

from __future__ import annotations

import ast
import inspect
import os
import statistics
import subprocess
import sys
import time

import pytest

import lab
from lab.cli import measuring
from lab.plan import Experiment
from lab.units import duration


def python(code, **env):
    return subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, env={**os.environ, **env}
    )


@pytest.mark.parametrize("name", lab.__all__)
def test_each_public_name_works_twice_in_a_fresh_interpreter(name):
    """No function is shadowed by a module of its own name once that module is imported."""
    module = lab._HOME[name]
    code = f"""
import lab, importlib
first = lab.{name}
assert callable(first), first
importlib.import_module("lab.{module}")
assert lab.{name} is first and callable(lab.{name})
from lab import {name} as again
assert again is first
"""
    done = python(code)
    assert done.returncode == 0, done.stderr


def test_calling_every_public_name_twice_in_one_interpreter(tmp_path):
    code = """
import lab, os, sys
os.chdir(sys.argv[1])
for name in ("a", "b"):
    assert lab.rtt("lo", probe="udp", world="host", count=10).received == 10
    study = lab.compare(links="lo", probes="udp", world="host", rounds=1, count=10, output=name)
    assert len(lab.Study.load(name).runs) == len(study.runs) == 2
    assert lab.doctor().items
    assert lab.ports().to_json()["format"] == 1
    assert lab.Report(()).ok
    assert lab.Condition(link="veth").link == "veth"
    assert lab.Experiment(rounds=1).conditions()
    for error in (lab.UsageError, lab.StudyError, lab.Interrupted):
        assert isinstance(error("text"), lab.LabError)
    assert "fix" in str(lab.Unavailable("what", errno=1, fix="fix"))
    assert lab.StreamError("text", errno=1, done=0).done == 0
    try:
        lab.World(["lo"]).close()
    except lab.Unavailable:
        pass  # no namespaces on this machine
"""
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_no_public_function_shares_its_name_with_a_module(root):
    modules = {path.stem for path in (root / "lab").glob("*.py")} | {
        p.parent.name for p in root.glob("lab/*/__init__.py")
    }
    assert not modules & set(lab.__all__)


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="has no attribute 'nope'; it has"):
        lab.nope  # noqa: B018


def test_import_lab_is_light():
    heavy = ("scapy", "matplotlib", "polars", "numpy", "pyroute2", "rich", "typer")
    done = python(f"import lab, sys; print([m for m in {heavy!r} if m in sys.modules])")
    assert done.stdout.strip() == "[]", done.stdout


def test_help_is_quick():
    """At most 2.5 times an empty interpreter plus 150 ms, by medians of runs in turn."""
    took = {"pass": [], "help": []}
    for _ in range(7):
        for name, command in (("pass", ["-c", "pass"]), ("help", ["-m", "lab", "--help"])):
            start = time.perf_counter()
            subprocess.run([sys.executable, *command], check=True, stdout=subprocess.DEVNULL)
            took[name].append(time.perf_counter() - start)
    assert statistics.median(took["help"]) <= 2.5 * statistics.median(took["pass"]) + 0.150


@pytest.mark.parametrize("command", [measuring.rtt, measuring.compare], ids=["rtt", "compare"])
def test_the_command_line_has_the_defaults_of_python(command):
    options = {name: p.default for name, p in inspect.signature(command).parameters.items()}
    ours = lab.Condition() if command is measuring.rtt else Experiment()
    shared = [
        name
        for name in options
        if hasattr(ours, name) and name not in ("target", "links", "probes", "families", "seed")
    ]
    assert {"size", "wait", "placement"} <= set(shared)
    # What is left out on the command line is left out in Python too.
    assert all(options[name] in (None, getattr(ours, name)) for name in shared)
    python_side = inspect.signature(lab.rtt if command is measuring.rtt else lab.compare).parameters
    assert duration(options["timeout"]) == ours.timeout_ns
    for name in ("count", "warmup", "rounds", "world"):
        if name in options and name in python_side:
            assert options[name] == python_side[name].default, name


def test_every_command_has_an_example_and_json_where_it_prints(run):
    for name in ("rtt", "compare", "show", "plot", "doctor"):
        text = run(name, "--help").stdout
        assert "Example: lab" in text
        assert "--json" in text


def test_the_same_command_by_three_names(root):
    module = subprocess.run([sys.executable, "-m", "lab", "--help"], capture_output=True, text=True, check=True)
    scripts = os.path.dirname(sys.executable)  # noqa: PTH120
    for name in ("lab", "loopback-lab"):
        done = subprocess.run([f"{scripts}/{name}", "--help"], capture_output=True, text=True, check=True)
        assert done.stdout == module.stdout


def test_only_native_imports_the_extension(root):
    for path in (root / "lab").rglob("*.py"):
        names = {
            (node.module or "") if isinstance(node, ast.ImportFrom) else alias.name
            for node in ast.walk(ast.parse(path.read_text()))
            if isinstance(node, ast.Import | ast.ImportFrom)
            for alias in node.names
        }
        assert ("lab._native" in names) == (path.parent.name == "native" and path.stem != "__init__"), path
