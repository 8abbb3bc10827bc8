"""The notebooks run from top to bottom: their code cells, on a tiny model."""

import json
import sys

import matplotlib
import pandas as pd
import pytest
from conftest import ROOT

NOTEBOOKS = sorted((ROOT / "recipes/notebooks").glob("*.ipynb"))


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_is_clean_and_runs(path, tiny_model, tmp_path, monkeypatch):
    notebook = json.loads(path.read_text(encoding="utf-8"))
    cells = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    assert notebook["nbformat"] == 4 and len({cell["id"] for cell in notebook["cells"]}) == len(notebook["cells"])
    assert all(not cell["outputs"] and cell["execution_count"] is None for cell in cells), "outputs are not kept"

    for kept in ("runs", "my_essays.csv"):
        assert not (ROOT / "recipes/notebooks" / kept).exists()
    (tmp_path / "recipes").symlink_to(ROOT / "recipes")  # a notebook that is started where the recipes are
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.path", [*sys.path])
    matplotlib.use("agg")
    names = {}
    for cell in cells:
        source = "".join(cell["source"])
        assert "\n%" not in source and not source.startswith(("%", "!")), "plain Python"
        exec(compile(source, path.name, "exec"), names)
        names |= {"MODEL": tiny_model} if "MODEL" in names else {}
    assert (tmp_path / "runs/mine/model.safetensors").is_file() and 0 <= names["metrics"]["test"]["exact_agreement"] <= 1
    assert isinstance(names["own"], pd.DataFrame) and len(names["own"])
