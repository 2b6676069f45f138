from typing import Literal

import pydantic
import pytest
from hypothesis import given
from hypothesis import strategies as st

from medglean.errors import PresetError
from medglean.runs import preset as module
from medglean.runs.preset import Expected, Preset, Source, list_presets, load_preset


class Inner(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(frozen=True, extra="forbid")

    learning_rate: float = 1e-3
    momentum: float = 0.9


class Fit(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(frozen=True, extra="forbid")

    epochs: int = pydantic.Field(default=5, ge=1)
    patience: int | None = None
    nesterov: bool = False
    optimizer: Inner = Inner()


class Images(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(frozen=True, extra="forbid")

    size_px: tuple[int, int] = (224, 224)
    channels: Literal["grey", "rgb"] | tuple[str, ...] = "grey"
    equalise: Literal["none", "clahe"] = "none"


class Model(Preset):
    task: Literal["toy"] = "toy"
    weights: str = "none"
    fit: Fit = Fit()
    images: Images = Images()

    @pydantic.model_validator(mode="after")
    def _check(self):
        if self.fit.epochs > 999:
            raise ValueError(f"fit.epochs must stay below 1000, got {self.fit.epochs}.")
        return self


@pytest.fixture
def shelf(tmp_path, monkeypatch):
    folder = tmp_path / "shelf"
    folder.mkdir()
    (folder / "big.toml").write_text(
        'task = "toy"\nsummary = "A large one."\nweights = "imagenet"\n'
        '[source]\npaper = "P"\n[fit]\nepochs = 50\n[fit.optimizer]\nmomentum = 0.5\n'
        "learning_rate = 1e-4\n[images]\nsize_px = [10, 20]\n"
        '[expected]\nstatus = "measured"\nvalues = {auroc = 0.9}\n'
    )
    (folder / "small.toml").write_text(
        'inherits = "big"\nsummary = "A small one."\n[fit.optimizer]\nlearning_rate = 0.5\n'
        "[images]\nsize_px = [3, 4]\n"
    )
    monkeypatch.setattr(module, "_shelf", lambda: folder)
    return folder


def failing(*overrides, name="big"):
    with pytest.raises(PresetError) as caught:
        load_preset(name, Model, overrides=overrides)
    return str(caught.value)


def test_a_preset_is_read_by_name(shelf):
    found = load_preset("big", Model)

    assert (found.name, found.weights, found.fit.epochs) == ("big", "imagenet", 50)
    assert found.images.size_px == (10, 20)
    assert found.expected.values == {"auroc": 0.9}


def test_inheriting_lays_keys_over_but_takes_neither_name_nor_numbers(shelf):
    found = load_preset("small", Model)

    assert found.name == "small"
    assert found.summary == "A small one."
    assert found.source.paper == "P"
    assert found.fit.epochs == 50
    assert found.fit.optimizer == Inner(learning_rate=0.5, momentum=0.5)
    assert found.images.size_px == (3, 4)
    assert found.expected == Expected()


def test_inheriting_goes_one_level(shelf):
    (shelf / "third.toml").write_text('inherits = "small"\n')

    message = failing(name="third")

    assert (
        "inherits from 'small', which itself inherits from 'big'. One level is allowed" in message
    )


def test_a_file_may_inherit_from_a_name_or_from_a_file_beside_it(shelf, tmp_path):
    (tmp_path / "mine.toml").write_text('inherits = "big"\n[fit]\nepochs = 2\n')
    (tmp_path / "other.toml").write_text('inherits = "base.toml"\n')
    (tmp_path / "base.toml").write_text("[fit]\nepochs = 7\n")

    mine = load_preset(tmp_path / "mine.toml", Model)

    assert (mine.name, mine.fit.epochs, mine.weights) == ("mine", 2, "imagenet")
    assert load_preset(str(tmp_path / "other.toml"), Model).fit.epochs == 7


def test_the_list_is_sorted_and_has_summaries(shelf):
    assert list_presets() == [("big", "A large one."), ("small", "A small one.")]


@pytest.mark.parametrize(
    ("override", "read", "expected"),
    [
        ("fit.epochs=3", lambda p: p.fit.epochs, 3),
        ("fit.optimizer.learning_rate=1e-4", lambda p: p.fit.optimizer.learning_rate, 1e-4),
        ("fit.optimizer.learning_rate=1", lambda p: p.fit.optimizer.learning_rate, 1.0),
        ("fit.nesterov=true", lambda p: p.fit.nesterov, True),
        ("fit.patience=4", lambda p: p.fit.patience, 4),
        ("weights=net.safetensors", lambda p: p.weights, "net.safetensors"),
        ("weights=a b=c", lambda p: p.weights, "a b=c"),
        ("weights=2024", lambda p: p.weights, "2024"),
        ("weights='none'", lambda p: p.weights, "none"),
        ("images.equalise=none", lambda p: p.images.equalise, "none"),
        ("images.size_px=[5, 6]", lambda p: p.images.size_px, (5, 6)),
        ('images.channels=["t1","t2"]', lambda p: p.images.channels, ("t1", "t2")),
        ("images.channels=rgb", lambda p: p.images.channels, "rgb"),
        (" fit.epochs = 3 ", lambda p: p.fit.epochs, 3),
    ],
)
def test_overrides_are_toml_or_bare_words(shelf, override, read, expected):
    found = load_preset("big", Model, overrides=[override])

    assert read(found) == expected
    assert found.expected.values == {}
    assert found.expected.status == "not measured with these overrides"


def test_none_unsets_what_may_be_unset_and_the_last_override_wins(shelf):
    assert load_preset("big", Model, overrides=["fit.patience=3", "fit.patience=none"]) == (
        load_preset("big", Model, overrides=["fit.epochs=50"])
    )
    assert "found the text 'none', expected a whole number" in failing("fit.epochs=none")


def test_a_close_key_is_suggested(shelf):
    assert "key fit.epoch: not known. Did you mean 'fit.epochs'?" in failing("fit.epoch=3")
    assert "key epochs: not known. Did you mean 'fit.epochs'?" in failing("epochs=3")
    assert (
        "key fit.optimizer.learning_rat: not known. Did you mean 'fit.optimizer.learning_rate'?"
        in failing("fit.optimizer.learning_rat=3")
    )
    assert "key images.size: not known. Did you mean 'images.size_px'?" in failing("images.size=3")
    assert "Known here: images.size_px, images.channels" in failing("images.zzz=3")


@pytest.mark.parametrize(
    ("override", "sentence"),
    [
        ("fit.epochs=many", "key fit.epochs: found the text 'many', expected a whole number. It"),
        ("fit.epochs='3'", "key fit.epochs: found the text '3', expected a whole number."),
        ("fit.epochs=2.5", "key fit.epochs: found the number 2.5, expected a whole number."),
        ("fit.epochs=0", "key fit.epochs: found the number 0, expected greater than or equal to 1"),
        ("fit.nesterov=yes", "key fit.nesterov: found the text 'yes', expected true or false."),
        ("fit=3", "key fit: found the number 3, expected "),
        ("images.size_px=[1]", "key images.size_px.1: found nothing, expected a value."),
        ("images.channels=blue", "found the text 'blue', expected 'grey' or 'rgb' or a list"),
        ("task=stain", "key task: found the text 'stain', expected 'toy'."),
        ("fit.epochs=1000", "fit.epochs must stay below 1000, got 1000."),
    ],
)
def test_a_wrong_value_is_told_with_key_found_and_expected(shelf, override, sentence):
    message = failing(override)

    assert message.startswith("preset 'big': ")
    assert sentence in message


def test_who_set_a_wrong_value_is_told(shelf):
    assert "It was set by 'fit.epochs=many'." in failing("weights=x", "fit.epochs=many")


def test_all_mistakes_are_told_together(shelf):
    message = failing("fit.epochs=many", "fit.epoch=3", "images.size_px=7")

    assert message.startswith("preset 'big': 3 mistakes:\n  key ")
    assert "key images.size_px: found the number 7, expected a list" in message


@pytest.mark.parametrize("override", ["fit.epochs", "=3", "fit..epochs=3", ".x=1"])
def test_what_is_no_override_is_told(shelf, override):
    assert f"override {override!r}: expected key=value" in failing(override)


def test_a_value_has_no_keys_of_its_own(shelf):
    assert "override 'weights.x=1': weights is a value, not a table" in failing("weights.x=1")


def test_an_override_cannot_smuggle_in_a_second_key(shelf):
    found = load_preset("big", Model, overrides=["weights=1\ntask = 'x'"])

    assert found.weights == "1\ntask = 'x'"


def test_an_unknown_name_gets_suggestions(shelf):
    message = failing(name="smal")

    assert "no preset is named 'smal'. Did you mean 'small'? Known: big, small." in message


def test_a_missing_file_is_told(shelf, tmp_path):
    with pytest.raises(PresetError, match=r"nowhere\.toml: no such file\. Give the path"):
        load_preset(tmp_path / "nowhere.toml", Model)


def test_bad_toml_is_told_with_line_and_column(shelf, tmp_path):
    file = tmp_path / "Größe 1.toml"
    file.write_text('task = "toy"\nweights = imagenet\n')

    with pytest.raises(PresetError, match=r"Größe 1\.toml: not valid TOML: .*line 2, column 11"):
        load_preset(file, Model)


def test_a_file_that_is_not_text_is_told(tmp_path):
    file = tmp_path / "latin.toml"
    file.write_bytes('summary = "Größe"'.encode("latin-1"))

    with pytest.raises(PresetError, match=r"latin\.toml: not UTF-8 text \(byte 13\)"):
        load_preset(file, Model)


words = st.text(st.characters(blacklist_categories=["Cs"]), max_size=12)


@given(words, words, st.integers(1, 999), st.none() | st.integers(0, 9), st.floats(allow_nan=False))
def test_toml_and_back_is_identity(tmp_path_factory, summary, weights, epochs, patience, rate):
    preset = Model(
        name="x",
        summary=summary,
        weights=weights,
        fit=Fit(epochs=epochs, patience=patience, optimizer=Inner(learning_rate=rate)),
        images=Images(channels=("t1", weights)),
        source=Source(deviations=(summary, weights)),
    )
    file = tmp_path_factory.getbasetemp() / "again.toml"
    file.write_text(preset.to_toml(), encoding="utf-8", newline="")

    assert load_preset(file, Model) == preset


def test_unset_where_the_default_is_set_cannot_be_written():
    class Odd(Preset):
        task: str = "odd"
        patience: int | None = 3

    assert Odd(name="o").to_toml()
    with pytest.raises(PresetError, match="a setting is unset"):
        Odd(name="o", patience=None).to_toml()


def test_the_hash_follows_the_work_not_the_words(shelf):
    base = load_preset("big", Model)

    assert base.hash() == load_preset("big", Model, overrides=["summary=other"]).hash()
    assert base.hash() != load_preset("big", Model, overrides=["fit.epochs=51"]).hash()


def test_a_preset_is_frozen(shelf):
    with pytest.raises(pydantic.ValidationError, match="frozen"):
        load_preset("big", Model).name = "other"


def test_a_preset_is_changed_as_a_file_would_be(shelf):
    read = load_preset("big", Model)
    again = module.changed(read, ["fit.optimizer.momentum=0.25", "weights=none"])

    assert again == load_preset(
        "big", Model, overrides=["fit.optimizer.momentum=0.25", "weights=none"]
    )
    assert module.changed(read, []) == read
    with pytest.raises(PresetError, match=r"fit.epocs.*It was set by 'fit.epocs=3'"):
        module.changed(read, ["fit.epocs=3"])
