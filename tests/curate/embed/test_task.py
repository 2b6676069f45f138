import numpy as np
import pytest
from safetensors.numpy import load_file

from medglean.curate.embed import Embedding, EmbeddingSettings, embed
from medglean.curate.embed import task as task_module
from medglean.data.manifest import Manifest
from medglean.data.recipe import Recipe
from medglean.errors import DataError, EmbeddingError, UsageError
from medglean.files import sha256_of_file
from medglean.fitting.progress import Silent

SMALL = Recipe(size_px=(16, 16))


def settings(encoder="pca", **changes):
    base = {
        "encoder": encoder,
        "images": SMALL,
        "dvae": {
            "latent": 4,
            "fit": {
                "batch_size": 8,
                "max_steps": 6,
                "accelerator": "cpu",
                "optimizer": {"learning_rate": 3e-3},
            },
        },
        "pca": {"components": 3},
    }
    return EmbeddingSettings.model_validate(base | changes)


@pytest.fixture
def run(tmp_path):
    def run(manifest, chosen, *, work="work", cache="cache", **options):
        place = None if cache is None else tmp_path / cache
        return embed(
            manifest,
            chosen,
            folder=tmp_path / work,
            cache=place,
            workers=0,
            fit_progress=Silent(),
            **options,
        )

    return run


def similar_to_own_kind(embedding: Embedding) -> float:
    """Return how many images have their nearest neighbour among bars at the same place."""
    values = embedding.values - embedding.values.mean(axis=0)
    unit = values / np.linalg.norm(values, axis=1, keepdims=True)
    similarity = unit @ unit.T
    np.fill_diagonal(similarity, -2)
    kind = np.array([int(one.removeprefix("bar")) % 4 for one in embedding.ids])
    return float((kind[similarity.argmax(axis=1)] == kind).mean())


@pytest.mark.parametrize("encoder", ["pca", "dvae"])
def test_like_images_have_like_embeddings(bars, run, encoder):
    chosen = settings(encoder)
    longer = chosen.dvae.fit.model_copy(update={"max_steps": 40})
    found = run(bars(), settings(encoder, dvae=chosen.dvae.model_copy(update={"fit": longer})))

    assert found.ok.all()
    assert found.embedding.ids == tuple(f"bar{number:03d}" for number in range(24))
    assert found.embedding.values.dtype == np.float32
    assert similar_to_own_kind(found.embedding) == 1.0


def test_an_unreadable_image_is_told_and_set_aside(bars, run):
    manifest = bars(bad=(3, 7))

    found = run(manifest, settings())

    assert np.flatnonzero(~found.ok).tolist() == [3, 7]
    assert found.embedding.ids == tuple(manifest.select(found.ok).ids)
    assert len(found.embedding.values) == 22
    assert {problem.file for problem in found.problems} == {"003.png", "007.png"}


def test_no_readable_image_is_an_error(bars, run):
    with pytest.raises(EmbeddingError, match=r"none of the manifest's 3 images .*000\.png"):
        run(bars(3, bad=(0, 1, 2)), settings())


def test_an_empty_manifest_is_an_error(bars, run):
    with pytest.raises(EmbeddingError, match="no image to embed"):
        run(bars(3).select([]), settings())


@pytest.mark.parametrize("encoder", ["pca", "dvae"])
def test_the_encoder_learns_from_the_training_part_alone(bars, run, tmp_path, encoder):
    split = ["train"] * 16 + ["val"] * 4 + ["test"] * 4
    whole = bars(split=split)
    run(whole, settings(encoder), work="whole")
    alone = whole.select(np.arange(16))
    run(alone, settings(encoder), work="alone")

    ours, theirs = (load_file(tmp_path / w / "encoder.safetensors") for w in ("whole", "alone"))
    assert all(np.array_equal(ours[name], theirs[name]) for name in theirs)


def test_at_most_so_many_images_are_learnt_from_and_the_seed_draws_them(bars, run):
    chosen = settings(pca={"components": 3, "train_images": 6})

    one, other = (run(bars(), chosen, seed=seed).embedding for seed in (0, 1))

    assert one.encoder["training_images"] == 6
    assert one.encoder["sha256"] != other.encoder["sha256"]


def test_no_training_image_is_an_error(bars, run):
    manifest = bars(4, split=["test"] * 4)

    with pytest.raises(DataError, match=r"0 image\(s\) to train the d-VAE on"):
        run(manifest, settings("dvae"))
    with pytest.raises(DataError, match=r"0 image\(s\) to find components of"):
        run(manifest, settings("pca"))


@pytest.mark.parametrize("encoder", ["pca", "dvae"])
def test_a_second_call_takes_the_values_of_the_first(bars, run, tmp_path, monkeypatch, encoder):
    first = run(bars(bad=(2,)), settings(encoder), work="first")

    def never(*args, **options):
        raise AssertionError("the encoder was made again")

    monkeypatch.setattr(task_module, "_encoder", never)
    second = run(bars(bad=(2,)), settings(encoder), work="second")

    assert (first.from_cache, second.from_cache) == (False, True)
    np.testing.assert_array_equal(first.embedding.values, second.embedding.values)
    assert first.embedding.ids == second.embedding.ids
    assert first.embedding.encoder == second.embedding.encoder
    assert first.problems == second.problems
    weights = [sha256_of_file(tmp_path / w / "encoder.safetensors") for w in ("first", "second")]
    assert weights == [first.embedding.encoder["sha256"]] * 2


@pytest.mark.parametrize(
    "changes",
    [
        {"seed": 1},
        {"images": Recipe(size_px=(24, 24))},
        {"pca": {"components": 2}},
        {"centre": True},
        {"mask": {"borders": True}},
    ],
)
def test_what_changes_the_values_is_computed_anew(bars, run, changes):
    run(bars(), settings())
    seed = changes.pop("seed", 0)

    assert not run(bars(), settings(**changes), seed=seed).from_cache


def test_other_images_other_ids_and_another_split_are_computed_anew(bars, run):
    manifest = bars()
    run(manifest, settings())

    renamed = manifest.with_columns(id=[f"x{one}" for one in manifest.ids])
    assert not run(renamed, settings()).from_cache
    assert not run(manifest.select(np.arange(20)), settings()).from_cache
    split = ["train"] * 20 + ["test"] * 4
    assert not run(manifest.with_columns(split=split), settings()).from_cache
    # a label changes nothing that is embedded
    assert run(manifest.with_columns(label=["a"] * 24), settings()).from_cache


def test_settings_of_other_encoders_and_of_the_log_do_not_count(bars, run):
    run(bars(), settings("dvae"))
    fit = settings("dvae").dvae.fit.model_copy(update={"log_every_steps": 7})
    dvae = settings("dvae").dvae.model_copy(update={"fit": fit})

    changed = settings("dvae", dvae=dvae, pca={"components": 9}, batch_size=5)

    assert run(bars(), changed).from_cache


def test_a_damaged_cache_is_made_anew(bars, run, tmp_path):
    first = run(bars(), settings())
    (kept,) = (tmp_path / "cache" / "embeddings").glob("*.npz")
    kept.write_bytes(kept.read_bytes()[:100])

    again = run(bars(), settings())

    assert not again.from_cache
    np.testing.assert_array_equal(first.embedding.values, again.embedding.values)
    (weights,) = (tmp_path / "cache" / "embeddings").glob("*.safetensors")
    weights.write_bytes(b"other weights")
    assert not run(bars(), settings()).from_cache


def test_without_a_cache_nothing_is_kept(bars, run, tmp_path):
    run(bars(), settings(), cache=None)

    assert not run(bars(), settings(), cache=None).from_cache
    assert {path.name for path in tmp_path.iterdir()} == {"pictures", "work"}


def test_the_record_says_what_made_the_values(bars, run, tmp_path):
    record = run(bars(), settings("dvae")).embedding.encoder

    assert record["name"] == "dvae"
    assert record["latent"] == record["dimension"] == 4
    assert record["training_images"] == 24
    assert record["training_steps"] == 6
    assert record["sampled"] is False
    assert record["preprocessing"]["size_px"] == [16, 16]
    assert record["mask"] is None
    assert record["sha256"] == sha256_of_file(tmp_path / "work" / "encoder.safetensors")
    assert set(record["versions"]) == {"medglean", "numpy", "torch"}


def test_centring_takes_the_mean_away_and_nothing_else(bars, run):
    plain = run(bars(), settings()).embedding.values
    moved = run(bars(), settings(centre=True)).embedding.values

    np.testing.assert_allclose(moved, plain - plain.mean(axis=0), atol=1e-5)
    np.testing.assert_allclose(moved.mean(axis=0), 0.0, atol=1e-5)


def test_values_do_not_depend_on_the_batch_size(bars, run):
    one = run(bars(), settings("dvae", batch_size=1), cache=None, work="one")
    other = run(bars(), settings("dvae", batch_size=24), cache=None, work="other")

    np.testing.assert_allclose(one.embedding.values, other.embedding.values, atol=1e-5)


def test_values_that_are_not_finite_name_the_ids(bars, run, monkeypatch):
    def broken(*args, **options):
        values = np.ones((24, 2), np.float32)
        values[5] = np.nan
        return values

    monkeypatch.setattr(task_module, "encode", broken)

    with pytest.raises(EmbeddingError, match=r"1 of 24 embeddings hold NaN .*'bar005'"):
        run(bars(), settings())


def test_arrays_need_no_image(bars, run, tmp_path):
    manifest = bars(3, bad=(0, 1, 2))
    path = tmp_path / "made.npz"
    values = np.arange(6.0).reshape(3, 2)
    np.savez(path, ids=np.array(manifest.ids), embeddings=values)

    found = run(manifest, settings("arrays", arrays={"path": str(path)}, centre=True))

    np.testing.assert_allclose(found.embedding.values, [[-2, -2], [0, 0], [2, 2]])
    assert found.ok.all()
    assert found.embedding.encoder["sha256"] == sha256_of_file(path)
    assert found.embedding.encoder["preprocessing"] is None


def test_progress_ends_at_the_number_of_images(bars, run):
    told = []

    run(bars(), settings(batch_size=10), progress=lambda done, total: told.append((done, total)))

    assert told[-3:] == [(10, 24), (20, 24), (24, 24)]


def test_a_folder_of_another_training_is_refused(bars, run):
    run(bars(), settings("dvae"))

    with pytest.raises(UsageError, match="cannot be resumed"):
        run(bars(), settings("dvae"), seed=1)


def test_manifest_type_is_what_is_selected(bars, run):
    manifest = bars(bad=(1,))
    found = run(manifest, settings())

    chosen = manifest.select(found.ok)
    assert isinstance(chosen, Manifest)
    assert tuple(chosen.ids) == found.embedding.ids


def test_settings_and_components_load_no_torch():
    import subprocess
    import sys

    code = (
        "import sys; from medglean.curate.embed import EmbeddingSettings, embed; "
        "import medglean.curate.embed.components; EmbeddingSettings(); "
        "raise SystemExit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
