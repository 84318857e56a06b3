"""Executes a notebook in the current folder: ``python execute.py NOTEBOOK EXECUTED``. A cell that fails ends it."""

from __future__ import annotations

import sys

import nbclient
import nbformat

document = nbformat.read(sys.argv[1], as_version=4)
resources = {"metadata": {"path": "."}}
nbclient.NotebookClient(document, timeout=90, kernel_name="python3", resources=resources).execute()
nbformat.write(document, sys.argv[2])
