import json

import pytest

from medglean.demo import run_demo
from medglean.errors import RunFolderError


def test_the_whole_pipeline_ends_in_a_report(tmp_path):
    said = []

    page = run_demo(
        tmp_path / "demo",
        patients=24,
        overrides=("images.size_px=[32, 32]", "fit.epochs=1", "fit.precision=32-true"),
        brains=16,
        brain_overrides=(
            "images.size_px=[16, 16]",
            "unet.multipliers=[1]",
            "unet.attention_px=[]",
            "fit.max_steps=2",
            "fit.batch_size=4",
            "fit.precision=32-true",
            "predict.precision=32-true",
        ),
        stain_slides=8,
        stain_overrides=(
            "images.size_px=[32, 32]",
            "augment.crop_px=16",
            "slide.tile_px=64",
            "generator.width=4",
            "level.size_px=32",
            "level.fit.epochs=1",
            "level.fit.precision=32-true",
            "fit.max_steps=2",
            "fit.precision=32-true",
            "predict.precision=32-true",
        ),
        say=said.append,
    )

    assert page.is_file()
    assert page.name == "report.html"
    stored = json.loads((page.parent / "report.json").read_text())
    assert stored["metrics"][0]["name"] == "AUROC"
    assert "synthetic" in said[0]
    assert any("AUROC" in line for line in said)
    assert any("known outlines: Dice" in line for line in said)
    assert any(line.endswith(str(tmp_path / "demo/anomaly/report.html")) for line in said)
    assert any("mean colour" in line for line in said)
    assert any(line.endswith(str(tmp_path / "demo/stain/report.html")) for line in said)
    for part in ("audit", "worklist", "run", "evaluation", "anomaly", "brightness", "stain"):
        assert (tmp_path / "demo" / part / "done").is_file()
    with pytest.raises(RunFolderError, match=r"demo: not empty"):
        run_demo(tmp_path / "demo", say=said.append)
