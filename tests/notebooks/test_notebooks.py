"""Every notebook runs from top to bottom, shows what it promises, and can be stopped."""

from __future__ import annotations

import base64
import subprocess
import sys
import time
from pathlib import Path

import nbformat
import pytest
from jupyter_client.manager import start_new_kernel

import lab
from lab.services.postgresql import PostgreSQL

ROOT = Path(__file__).resolve().parents[2]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
EXECUTE = Path(__file__).with_name("execute.py")
LAUNCHER = ROOT / "tests" / "launch.py"
#: What lessons need beside this package: servers, and programs in PATH.
SERVERS = {"your-own-service": PostgreSQL}
TOOLS = {"your-own-service": ["curl"]}
# Jupyter's own packages warn about each other; what our code warns about still fails.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning", "ignore::UserWarning")


def mime_types(cell):
    return {mime for output in cell.get("outputs", []) for mime in output.get("data", {})}


@pytest.fixture(params=NOTEBOOKS, ids=lambda path: path.stem)
def notebook(request):
    return request.param


@pytest.fixture
def _installed(notebook, tool, missing):
    """Skips a lesson for want of a program that it needs."""
    for name in TOOLS.get(notebook.stem, ()):
        tool(name)
    try:
        SERVERS.get(notebook.stem, object)()
    except lab.Unavailable as error:
        missing(str(error))


@pytest.mark.usefixtures("_installed")
@pytest.mark.parametrize("faults", [(), ("nobody",)], ids=["as we are", "unprivileged"])
def test_it_runs(notebook, tmp_path, world, missing, faults):
    executed = tmp_path / notebook.name
    command = [sys.executable, str(EXECUTE), str(notebook), str(executed)]
    if faults:
        command = [sys.executable, str(LAUNCHER), *faults, "--", *command]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=300, check=False)
    if faults and done.returncode == 77:
        missing(done.stderr.strip())
    assert done.returncode == 0, done.stderr
    document = nbformat.read(executed, as_version=4)
    shown = set().union(*(mime_types(cell) for cell in document.cells))
    assert {"text/html", "image/png", "text/plain"} <= shown


def test_it_is_committed_executed_and_small(notebook):
    document = nbformat.read(notebook, as_version=4)
    code = [cell for cell in document.cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in code] == list(range(1, len(code) + 1))
    assert not [output for cell in code for output in cell.outputs if output.output_type == "error"]
    assert not [output for cell in code for output in cell.outputs if output.get("name") == "stderr"]
    data = [output.get("data", {}) for cell in code for output in cell.outputs]
    pictures = [bundle["image/png"] for bundle in data if "image/png" in bundle]
    assert pictures
    assert all(base64.b64decode(picture).startswith(b"\x89PNG") for picture in pictures)
    assert notebook.stat().st_size <= 600_000


@pytest.fixture
def kernel(tmp_path):
    manager, client = start_new_kernel(cwd=str(tmp_path))
    yield manager, client
    client.stop_channels()
    manager.shutdown_kernel(now=True)


def outputs_until_idle(client, request, react=lambda message: None):
    """Every message that the kernel publishes for a request; `react` is shown each as it comes."""
    found = []
    while True:
        message = client.get_iopub_msg(timeout=60)
        if message["parent_header"].get("msg_id") != request:
            continue
        found.append(message)
        react(message)
        if message["msg_type"] == "status" and message["content"]["execution_state"] == "idle":
            return found


def test_stopping_a_cell_stops_the_measurement_and_keeps_the_finished_runs(kernel, tmp_path, world, record_property):
    manager, client = kernel
    stopped_at = []

    def stop_at_the_tenth_run(message):
        text = message["content"].get("data", {}).get("text/plain", "")
        if text.startswith("10 of") and not stopped_at:
            manager.interrupt_kernel()
            stopped_at.append(time.monotonic())

    request = client.execute("import lab\nlab.compare(rounds=5000, count=20_000, output='stopped')")
    messages = outputs_until_idle(client, request, stop_at_the_tenth_run)
    took_s = time.monotonic() - stopped_at[0]
    record_property("stopped_after_s", took_s)
    print(f"the cell ended {took_s * 1000:.0f} ms after it was stopped")
    (error,) = [m["content"] for m in messages if m["msg_type"] == "error"]
    assert error["ename"] == "Interrupted"
    assert "finished runs are kept in stopped" in error["evalue"]
    kept = client.execute("study = lab.Study.load('stopped')\nprint(len(study.runs), study.complete)\nstudy")
    messages = outputs_until_idle(client, kept)
    printed = "".join(m["content"]["text"] for m in messages if m["msg_type"] == "stream")
    runs, complete = printed.split()
    assert 10 <= int(runs) < 20
    assert complete == "False"
    shown = [set(m["content"]["data"]) for m in messages if m["msg_type"] == "display_data"]
    assert any("text/html" in mimes for mimes in shown)
    assert any("image/png" in mimes for mimes in shown)


def test_a_host_world_works_inside_a_running_event_loop(kernel):
    """A notebook's kernel runs cells inside an event loop; describing the host's lo must not mind."""
    _manager, client = kernel
    code = "import lab\nprint(len(lab.compare(world='host', probes=['udp'], links=['lo'], rounds=2, count=50).runs))"
    messages = outputs_until_idle(client, client.execute(code))
    assert "".join(m["content"]["text"] for m in messages if m["msg_type"] == "stream") == "4\n"
