"""JupyterLab itself opens a notebook, runs all of it, and stops a running measurement."""

from __future__ import annotations

import json
import os
import re
import secrets
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_notebook
from playwright.sync_api import expect

#: Nothing is fetched from elsewhere, and all cells are there, not only those in sight.
SETTINGS = {
    "@jupyterlab/apputils-extension/notification": {"checkForUpdates": False, "fetchNews": "false"},
    "@jupyterlab/notebook-extension/tracker": {"windowingMode": "none"},
}
#: Where a cell shows an exception, or what was written to stderr.
FAILED = "[data-mime-type='application/vnd.jupyter.stderr'], [data-mime-type='application/vnd.jupyter.error']"


def processes_with(text):
    """Those in whose environment it is, except zombies, which have none any more."""
    found = []
    for environment in Path("/proc").glob("[0-9]*/environ"):
        try:
            if text.encode() in environment.read_bytes():
                found.append(environment.parent.name)
        except OSError:  # it has ended, or is another user's
            continue
    return found


@pytest.fixture
def jupyterlab(tmp_path, wait_until):
    """A JupyterLab with nothing of the user's, in a folder of its own: the folder, its address and its token."""
    folders = {name: tmp_path / name.lower() for name in ("CONFIG_DIR", "DATA_DIR", "RUNTIME_DIR")}
    settings, work = tmp_path / "settings", tmp_path / "work"
    for name, values in SETTINGS.items():
        path = settings / f"{name}.jupyterlab-settings"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(values))
    work.mkdir()
    token = secrets.token_hex()
    environment = os.environ | {f"JUPYTER_{name}": str(path) for name, path in folders.items()}
    environment |= {
        "HOME": str(tmp_path),
        "JUPYTERLAB_SETTINGS_DIR": str(settings),
        "JUPYTERLAB_WORKSPACES_DIR": str(tmp_path / "workspaces"),
        "JUPYTER_TOKEN": token,
    }
    options = ("--no-browser", "--ip=127.0.0.1", "--port=0", "--LabApp.extension_manager=readonly")
    root = ("--allow-root",) if os.getuid() == 0 else ()
    command = [sys.executable, "-m", "jupyterlab", *options, *root, f"--ServerApp.root_dir={work}"]
    with (tmp_path / "log").open("w") as log, subprocess.Popen(command, env=environment, stderr=log) as server:
        try:
            told = folders["RUNTIME_DIR"] / f"jpserver-{server.pid}.json"
            wait_until(lambda: told.exists() or server.poll() is not None, "JupyterLab says where it is")
            assert server.poll() is None, (tmp_path / "log").read_text()
            yield work, json.loads(told.read_text())["url"], token
        finally:
            server.terminate()  # which ends its kernels, too
            try:
                server.wait(30)
            except subprocess.TimeoutExpired:
                server.kill()
                raise
    wait_until(lambda: not processes_with(token), "no process of JupyterLab's is left")


@pytest.fixture
def opened(jupyterlab, browser):
    """Opens a notebook and waits for its kernel; at the end nothing may have been fetched from elsewhere."""
    work, url, token = jupyterlab

    @contextmanager
    def opened(document):
        nbformat.write(document, work / "notebook.ipynb")
        with browser.new_page(viewport={"width": 1400, "height": 1000}) as page:
            hosts, said = set(), []
            page.on("request", lambda request: hosts.add(urlsplit(request.url).hostname))
            page.on("pageerror", lambda error: said.append(str(error)))
            page.on("console", lambda message: message.type == "error" and said.append(message.text))
            page.goto(f"{url}lab/tree/notebook.ipynb?token={token}")
            page.locator("#jp-main-statusbar").get_by_text("| Idle").wait_for(timeout=60_000)  # so says its kernel
            yield page
            assert said == []
            assert hosts - {None} == {"127.0.0.1"}

    return opened


def run_all(page):
    page.get_by_role("menuitem", name="Run", exact=True).click()
    page.get_by_role("menuitem", name="Run All Cells", exact=True).click()


def test_it_runs_a_whole_notebook(opened, world, root):
    document = nbformat.read(root / "notebooks" / "how-fast-is-loopback.ipynb", as_version=4)
    code = [cell for cell in document.cells if cell.cell_type == "code"]
    for cell in code:
        cell.outputs, cell.execution_count = [], None
    with opened(document) as page:
        cells = page.locator(".jp-CodeCell")
        expect(cells).to_have_count(len(code))
        assert page.locator(".jp-OutputArea-output").count() == 0
        run_all(page)
        last = cells.last.locator(".jp-InputPrompt").get_by_text(f"[{len(code)}]:", exact=True)
        failed = page.locator(FAILED)
        last.or_(failed.first).first.wait_for(timeout=180_000)
        assert failed.all_inner_texts() == []
        assert [cell.locator(".jp-InputPrompt").inner_text() for cell in cells.all()] == [
            f"[{number}]:" for number in range(1, len(code) + 1)
        ]
        pictures = page.locator(".jp-OutputArea-output img")
        sizes = pictures.evaluate_all("all => all.map(each => each.complete && each.naturalWidth)")
        assert len(sizes) >= 2
        assert all(sizes)
        assert page.locator(".jp-OutputArea-output table").count() >= 2


def test_its_stop_button_stops_a_measurement_and_keeps_the_finished_runs(opened, jupyterlab, world):
    cell = new_code_cell("import lab\nlab.compare(rounds=5000, count=1000, output='stopped')")
    kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3"}}
    with opened(new_notebook(cells=[cell], metadata=kernel)) as page:
        run_all(page)
        output = page.locator(".jp-CodeCell .jp-OutputArea-output")
        output.get_by_text(re.compile(r"\d\d of")).wait_for(timeout=60_000)
        page.locator(".jp-NotebookPanel-toolbar [data-command='notebook:interrupt-kernel']").click()
        failed = page.locator(FAILED)
        failed.wait_for(timeout=60_000)
        text = failed.inner_text()
        assert "Interrupted" in text
        assert "finished runs are kept in stopped" in text
        assert "KeyboardInterrupt" not in text
    assert (jupyterlab[0] / "stopped").is_dir()
