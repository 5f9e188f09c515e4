"""Execute every notebook of a folder on a finished sweep: run_notebooks.py FOLDER SWEEP."""

import os
import sys
from pathlib import Path

import nbformat
from nbclient import NotebookClient

folder, sweep = Path(sys.argv[1]), Path(sys.argv[2]).resolve()
os.environ["AUTOTUNE_SWEEP"] = str(sweep)
notebooks = sorted(folder.glob("*.ipynb"))
if not notebooks:
    sys.exit(f"{folder} holds no notebook")
for path in notebooks:
    notebook = nbformat.read(path, as_version=4)
    NotebookClient(notebook, timeout=300, resources={"metadata": {"path": str(folder)}}).execute()
    cells = sum(cell.cell_type == "code" for cell in notebook.cells)
    print(f"{path}: {cells} cells ran")
