"""Encoders of images over shards: those of one machine, and what they refuse."""

from __future__ import annotations

import pickle

import cv2
import numpy as np
import pandas as pd
import pytest
from tests.curate.shards.here import in_this_process

from medglean.curate.embed import EmbeddingSettings, embed
from medglean.curate.shards import encoders, engine
from medglean.curate.shards.embedding import EMBEDDINGS
from medglean.curate.shards.encoders import make_encoder
from medglean.curate.shards.engine import run_sharded
from medglean.curate.shards.parts import Part, matrix
from medglean.data.manifest import Manifest
from medglean.errors import EmbeddingError, UsageError

STEPS = {"max_steps": 2, "batch_size": 4, "accelerator": "cpu"}
PCA = EmbeddingSettings.model_validate(
    {"encoder": "pca", "images": {"size_px": (16, 16)}, "pca": {"components": 4}}
)

DVAE = EmbeddingSettings.model_validate(
    {"encoder": "dvae", "images": {"size_px": (16, 16)}, "dvae": {"latent": 3, "fit": STEPS}}
)


@pytest.fixture
def pictures(tmp_path):
    """Twenty pictures of five patients on disk; number 7 is cut short."""
    generator = np.random.default_rng(0)
    for number in range(20):
        picture = generator.integers(0, 255, (16, 16)).astype(np.uint8)
        data = cv2.imencode(".png", picture)[1].tobytes()
        (tmp_path / f"{number}.png").write_bytes(data[:60] if number == 7 else data)
    table = {
        "id": [f"i{number}" for number in range(20)],
        "image": [f"{number}.png" for number in range(20)],
        "patient": [f"p{number % 5}" for number in range(20)],
    }
    return Manifest.from_frame(pd.DataFrame(table), tmp_path)


def test_embeddings_are_one_machines(pictures, tmp_path, monkeypatch):
    monkeypatch.setattr(engine, "connect", in_this_process)
    encoder = make_encoder(pictures, PCA, folder=tmp_path / "encoder", workers=0)

    run = run_sharded(
        pictures, encoder=encoder, out=tmp_path / "run", shards=2, budget=6, start=2, batch=4
    )

    alone = embed(pictures, PCA, folder=tmp_path / "alone", workers=0)
    assert (run.usable == alone.ok).all()
    assert [problem.file for problem in run.problems] == ["7.png"]
    found = {}
    for shard in range(2):
        table = Part(tmp_path / "run", EMBEDDINGS, shard).read("id", "values")
        found |= dict(zip(table["id"].to_pylist(), matrix(table["values"]), strict=True))
    ours = np.array([found[name] for name in alone.embedding.ids])
    # a product of a batch of four images differs from one of all in its last bits
    np.testing.assert_allclose(ours, alone.embedding.values, rtol=1e-4, atol=1e-5)
    assert (tmp_path / "encoder" / "encoder.safetensors").is_file()


@pytest.mark.parametrize(
    "settings",
    [pytest.param(PCA, id="pca"), pytest.param(DVAE, id="dvae", marks=pytest.mark.slow)],
)
def test_encoder_can_be_sent_to_a_worker(pictures, tmp_path, settings):
    cloudpickle = pytest.importorskip("ray.cloudpickle")
    good = pictures.select(list(range(5)))
    encoder = make_encoder(pictures, settings, folder=tmp_path / "encoder", workers=0)
    before, _ = encoder.encode(good)

    sent = cloudpickle.loads(cloudpickle.dumps(encoder))

    assert (sent.encode(good)[0] == before).all()
    assert sent.record == encoder.record


def test_hash_changes_with_weights_and_preparation(pictures, tmp_path):
    other = PCA.model_copy(update={"images": PCA.images.model_copy(update={"size_px": (24, 24)})})
    fewer = PCA.model_copy(update={"pca": PCA.pca.model_copy(update={"components": 3})})

    hashes = {
        make_encoder(pictures, settings, folder=tmp_path / str(number), workers=0).record["sha256"]
        for number, settings in enumerate([PCA, PCA, other, fewer])
    }

    assert len(hashes) == 3


def test_components_are_found_once(pictures, tmp_path, monkeypatch):
    folder = tmp_path / "encoder"
    first = make_encoder(pictures, PCA, folder=folder, workers=0)
    before = (folder / "encoder.safetensors").read_bytes()
    good = pictures.select(list(range(5)))

    with monkeypatch.context() as patch:
        patch.setattr(encoders, "prepare_pictures", None)  # reads the images to learn from
        again = make_encoder(pictures, PCA, folder=folder, workers=0)
    assert again.record == first.record
    assert (again.encode(good)[0] == first.encode(good)[0]).all()

    (folder / "encoder.safetensors").write_bytes(before[:-8] + bytes(8))
    repaired = make_encoder(pictures, PCA, folder=folder, workers=0)
    assert repaired.record == first.record
    assert (folder / "encoder.safetensors").read_bytes() == before

    other = make_encoder(pictures, PCA, folder=folder, seed=1, workers=0)
    assert other.record["seed"] == 1


@pytest.mark.parametrize(
    ("changes", "name"),
    [
        ({"encoder": "arrays", "arrays": {"path": "a.npy"}}, "encoder = 'arrays'"),
        ({"centre": True}, "centre"),
        ({"encoder": "dvae", "dvae": {"sampled": True}}, "dvae.sampled"),
        ({"mask": {"text": True, "static": True}}, "mask.static"),
    ],
)
def test_what_needs_all_images_at_once_is_refused(pictures, tmp_path, changes, name):
    settings = EmbeddingSettings.model_validate({"encoder": "pca", **changes})

    with pytest.raises(UsageError, match=rf"embedding\.{name} needs all images"):
        make_encoder(pictures, settings, folder=tmp_path / "encoder", workers=0)


# how such files are made is deprecated in torch 2.15; that they are read is not
@pytest.mark.filterwarnings("ignore:`torch.jit:FutureWarning")
@pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")
def test_a_network_from_a_file_is_loaded_by_the_worker(pictures, tmp_path):
    torch = pytest.importorskip("torch")
    network = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(256, 3))
    example = torch.zeros(1, 1, 16, 16)
    torch.jit.save(torch.jit.trace(network, example), str(tmp_path / "net.pt"))
    settings = EmbeddingSettings.model_validate(
        {"encoder": "file", "file": {"path": str(tmp_path / "net.pt")}, "images": PCA.images}
    )
    encoder = make_encoder(pictures, settings, folder=tmp_path / "encoder")
    first, _ = encoder.encode(pictures.select([0, 1]))

    sent = pickle.loads(pickle.dumps(encoder))

    assert (sent.encode(pictures.select([0, 1]))[0] == first).all()
    assert first.shape == (2, 3)
    assert sent.record["file"] == "net.pt"


def test_nothing_to_learn_from_is_refused(pictures, tmp_path):
    tested = pictures.with_columns(split=["test"] * 20)

    with pytest.raises(EmbeddingError, match="no image is in the part 'train'"):
        make_encoder(tested, PCA, folder=tmp_path / "encoder", workers=0)
