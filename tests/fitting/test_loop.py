from __future__ import annotations

import signal
import threading
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from medglean.errors import (
    CheckpointError,
    Interrupted,
    NonFiniteLossError,
    RunFolderError,
    UsageError,
)
from medglean.fitting import (
    FitSettings,
    Loader,
    checkpoint,
    fit,
    load_weights,
    make_optimizer,
    on_device_of,
)
from medglean.fitting.progress import Silent
from medglean.fitting.state import FitState

from .tiny import IMAGES, TinyFetch, tiny_fit, tiny_loader, tiny_network, tiny_settings, tiny_step


def linear_fetch(indices, epoch):
    x = torch.linspace(-1.0, 1.0, 12)[torch.from_numpy(indices)].reshape(-1, 1)
    return {"x": x, "y": 3.0 * x - 1.0, "index": torch.from_numpy(indices)}


def linear_fit(folder: Path, *, network=None, optimizer=None, step=None, validate=None, **changes):
    """Fit y = 3 x - 1 with plain SGD, from weight and bias 0."""
    base = {
        "epochs": 1,
        "batch_size": 4,
        "accelerator": "cpu",
        "optimizer": {"name": "sgd", "learning_rate": 0.1, "momentum": 0.0},
    }
    settings = FitSettings.model_validate(base | changes)
    if network is None:
        network = nn.Linear(1, 1)
        nn.init.zeros_(network.weight)
        nn.init.zeros_(network.bias)
    networks = {"net": network}

    def mean_square(batch, generator, update):
        loss = ((networks["net"](batch["x"]) - batch["y"]) ** 2).mean()
        update(loss, "net")
        return {"loss": loss}

    result = fit(
        mean_square if step is None else step(networks),
        networks=networks,
        optimizers={"net": optimizer or make_optimizer(network.parameters(), settings.optimizer)},
        loader=Loader(linear_fetch, np.arange(12), batch_size=settings.batch_size, seed=0),
        settings=settings,
        folder=folder,
        validate=validate,
        progress=Silent(),
    )
    return result, network


# -- the step


def test_one_step_by_hand(tmp_path):
    _, network = linear_fit(tmp_path, batch_size=12)
    # w = b = 0: dL/dw = -2 mean(x y) = -6 mean(x^2), dL/db = -2 mean(y) = 2
    mean_square = float((torch.linspace(-1, 1, 12) ** 2).mean())
    assert network.weight.item() == pytest.approx(0.1 * 6 * mean_square, rel=1e-5)
    assert network.bias.item() == pytest.approx(-0.2, rel=1e-5)


@pytest.mark.parametrize(("batch_size", "accumulate"), [(4, 3), (5, 3), (6, 2)])
def test_accumulation_equals_a_large_batch(tmp_path, batch_size, accumulate):
    changes = {"epochs": 3}
    _, large = linear_fit(tmp_path / "large", batch_size=12, **changes)
    result, small = linear_fit(
        tmp_path / "small", batch_size=batch_size, accumulate=accumulate, **changes
    )

    assert result.steps == 3
    assert torch.allclose(large.weight, small.weight, atol=1e-6, rtol=0)
    assert torch.allclose(large.bias, small.bias, atol=1e-6, rtol=0)


def test_clipping_makes_the_gradient_that_long(tmp_path):
    _, network = linear_fit(tmp_path, batch_size=12, clip_norm=0.5)
    moved = torch.cat([network.weight.flatten(), network.bias])
    assert moved.norm().item() == pytest.approx(0.1 * 0.5, rel=1e-4)


def test_a_gradient_shorter_than_the_limit_is_left_alone(tmp_path):
    _, clipped = linear_fit(tmp_path / "clipped", clip_norm=1e6)
    _, free = linear_fit(tmp_path / "free")
    assert torch.equal(clipped.weight, free.weight)


def test_the_learning_rate_follows_the_schedule(tmp_path):
    result, _ = linear_fit(
        tmp_path, epochs=2, log_every_steps=1, schedule={"name": "cosine", "warmup_steps": 2}
    )
    rates = [row["lr.net"] for row in result.history]
    expected = [0.05, 0.1, 0.1] + [0.05 * (1 + np.cos(np.pi * p / 4)) for p in (1, 2, 3)]
    assert rates == pytest.approx(expected)


def test_the_average_is_what_is_validated_and_kept(tmp_path):
    seen = []

    def validate(networks):
        seen.append(networks["net"].weight.item())
        return {"loss": 1.0}

    weights = []

    def step(networks):
        def call(batch, generator, update):
            loss = ((networks["net"](batch["x"]) - batch["y"]) ** 2).mean()
            update(loss, "net")
            weights.append(networks["net"].weight.item())
            return {"loss": loss}

        return call

    result, network = linear_fit(tmp_path, step=step, validate=validate, ema_decay=0.2)

    average = 0.0
    for n, weight in enumerate(weights):
        decay = min(0.2, (1 + n) / (10 + n))
        average = decay * average + (1 - decay) * weight
    assert seen == pytest.approx([average], rel=1e-5)
    assert network.weight.item() == weights[-1]
    assert load_weights(result.best, {"net": network})["averaged"] is True
    assert network.weight.item() == seen[0]


def test_dropout_and_noise_are_a_function_of_the_step_alone(tmp_path):
    def draws(folder, spoil):
        seen = []

        def step(networks):
            def call(batch, generator, update):
                if spoil:
                    torch.rand(len(seen) + 1)  # as another version of a network might
                loss = networks["net"](batch["x"]).mean()
                update(loss, "net")
                seen.append(torch.rand(1, generator=generator).item())
                return {"loss": loss}

            return call

        linear_fit(folder, step=step, epochs=2)
        return seen

    plain = draws(tmp_path / "plain", spoil=False)
    assert plain == draws(tmp_path / "spoiled", spoil=True)
    assert len(set(plain)) == 6


def test_the_global_generator_is_left_as_it_was(tmp_path):
    tiny_network()  # draws from a seed of its own, as tiny_fit does before the fit begins
    expected = torch.rand(2)

    tiny_fit(tmp_path)

    assert torch.equal(torch.rand(2), expected)


def test_a_tiny_gan_needs_nothing_special(tmp_path):
    torch.manual_seed(0)
    networks = {"generator": nn.Linear(2, 1), "critic": nn.Linear(1, 1)}
    first = {name: [w.clone() for w in net.parameters()] for name, net in networks.items()}
    settings = tiny_settings(epochs=1, accumulate=2, schedule={}, monitor="loss", ema_decay=0.5)
    gradients = []

    def step(batch, generator, update):
        real = batch["image"].mean(dim=(1, 2, 3)).reshape(-1, 1)
        noise = torch.randn(len(real), 2, generator=generator)
        fake = networks["generator"](noise)
        critic = networks["critic"]
        critic_loss = critic(fake.detach()).mean() - critic(real).mean()
        update(critic_loss, "critic")
        generator_loss = -critic(fake).mean()
        update(generator_loss, "generator")
        gradients.append([w.grad for w in critic.parameters()])
        return {"critic": critic_loss, "generator": generator_loss}

    result = fit(
        step,
        networks=networks,
        optimizers={
            name: torch.optim.SGD(networks[name].parameters(), lr=0.1)
            for name in ("generator", "critic")
        },
        loader=tiny_loader(settings),
        settings=settings,
        folder=tmp_path,
        progress=Silent(),
    )

    for name, net in networks.items():
        for before, now in zip(first[name], net.parameters(), strict=True):
            assert torch.equal(before, now) == (name == "critic" and now.ndim == 1)
    assert {"train.critic", "train.generator", "lr.critic"} <= set(result.history[0])
    # after the first batch of a step the critic holds its own gradient, and after the second none:
    # the generator's loss left nothing in it. Its bias has gradient 1 - 1 = 0.
    assert gradients[0][1].item() == 0.0
    assert gradients[1] == [None, None]


def test_an_optimiser_that_is_called_every_other_time(tmp_path):
    calls = []

    def step(networks):
        def call(batch, generator, update):
            loss = ((networks["net"](batch["x"]) - batch["y"]) ** 2).mean()
            calls.append(networks["net"].weight.item())
            if len(calls) % 2:
                update(loss, "net")
            return {"loss": loss}

        return call

    linear_fit(tmp_path, step=step, accumulate=2)
    # batches 1 and 2 are one step: the gradient of batch 1 moves the weights after batch 2
    assert calls[0] == calls[1]
    assert calls[1] != calls[2]


def test_frozen_parts_stay_frozen(tmp_path):
    modes = []

    def step(networks):
        def call(batch, generator, update):
            modes.append([part.training for part in networks["net"].module])
            loss = networks["net"](batch["x"]).mean()
            update(loss, "net")
            return {"loss": loss}

        return call

    network = nn.Sequential(nn.BatchNorm1d(1), nn.Linear(1, 1))
    network[0].eval()
    linear_fit(tmp_path, network=network, step=step, validate=lambda _: {"loss": 0.0}, epochs=2)

    assert modes == [[False, True]] * 6
    assert network[0].num_batches_tracked.item() == 0


# -- validation, the best, stopping early


def scripted(values):
    values = iter(values)
    return lambda networks: {"score": next(values)}


@pytest.mark.parametrize(
    ("mode", "values", "best_epoch"),
    [
        ("max", [0.5, 0.7, 0.7, 0.6], 2),
        ("min", [0.5, 0.7, 0.5, 0.6], 1),
        ("max", [float("nan"), 0.1, float("nan"), 0.05], 2),
        ("min", [float("inf"), 3.0, 2.0, 2.5], 3),
    ],
)
def test_the_best_is_chosen(tmp_path, mode, values, best_epoch):
    after = []

    def validate(networks):
        after.append(networks["net"].weight.item())
        return {"score": values[len(after) - 1], "other": 1.0}

    result, network = linear_fit(tmp_path, epochs=4, validate=validate, monitor="score", mode=mode)

    assert result.best_step == 3 * best_epoch
    assert result.best_value == values[best_epoch - 1]
    facts = load_weights(result.best, {"net": network})
    assert network.weight.item() == after[best_epoch - 1]
    assert (facts["step"], facts["value"], facts["monitor"]) == (
        3 * best_epoch,
        values[best_epoch - 1],
        "score",
    )


def test_never_a_number_is_no_best(tmp_path):
    result, _ = linear_fit(
        tmp_path, epochs=2, validate=scripted([float("nan")] * 2), monitor="score"
    )
    assert (result.best, result.best_step, result.best_value) == (None, None, None)


def test_patience_runs_out(tmp_path):
    values = [0.5, 0.6, 0.6, 0.6, 0.9]  # a tie is not better
    result, _ = linear_fit(
        tmp_path, epochs=9, validate=scripted(values), monitor="score", mode="max", patience=2
    )
    assert (result.epochs, result.stopped_early, result.best_step) == (4, True, 6)
    assert [row["val.score"] for row in result.history if "val.score" in row] == values[:4]


def test_judging_by_hand():
    state = FitState(step=5)
    assert state.judge(0.5, mode="max")
    state.step = 6
    assert not state.judge(0.5, mode="max")
    assert not state.judge(float("nan"), mode="max")
    assert (state.best_step, state.without_better, state.validated_step) == (5, 2, 6)
    assert state.judge(0.6, mode="max")
    assert state.without_better == 0


def test_validation_every_so_many_steps_and_at_the_end(tmp_path):
    result, _ = linear_fit(
        tmp_path,
        epochs=3,
        max_steps=8,
        validate=lambda _: {"loss": 1.0},
        validate_every=3,
        validate_unit="steps",
    )
    assert [row["step"] for row in result.history if "val.loss" in row] == [3, 6, 8]
    assert result.steps == 8


def test_validation_runs_without_gradients_in_evaluation_mode(tmp_path):
    def validate(networks):
        assert not torch.is_grad_enabled()
        assert not networks["net"].training
        batch = on_device_of(networks["net"], {"x": torch.ones(1, 1)})
        return {"loss": float(networks["net"](batch["x"]).sum())}

    linear_fit(tmp_path, validate=validate)


# -- what is written


def test_a_row_for_so_many_steps_and_each_epoch(tmp_path):
    result, _ = linear_fit(tmp_path, epochs=2, log_every_steps=2)
    assert [(row["step"], row["epoch"]) for row in result.history] == [
        (2, 1),
        (3, 1),
        (4, 2),
        (6, 2),
    ]


def test_a_row_holds_the_mean_of_the_steps_since_the_last(tmp_path):
    every, _ = linear_fit(tmp_path / "every", log_every_steps=1)
    few, _ = linear_fit(tmp_path / "few", log_every_steps=2)
    losses = [row["train.loss"] for row in every.history]
    assert few.history[0]["train.loss"] == pytest.approx(sum(losses[:2]) / 2)
    assert few.history[1]["train.loss"] == pytest.approx(losses[2])


def test_networks_come_back_as_they_were_passed(tmp_path):
    network = nn.Linear(1, 1)
    networks = {"net": network}
    settings = FitSettings(epochs=1, batch_size=4, accelerator="cpu")

    def step(batch, generator, update):
        assert networks["net"] is not network
        loss = networks["net"](batch["x"]).mean()
        update(loss, "net")
        return {"loss": loss}

    fit(
        step,
        networks=networks,
        optimizers={"net": make_optimizer(network.parameters(), settings.optimizer)},
        loader=Loader(linear_fetch, np.arange(12), batch_size=4, seed=0),
        settings=settings,
        folder=tmp_path,
        progress=Silent(),
    )
    assert networks["net"] is network


# -- taking up again


class StoppedError(Exception):
    pass


def stop_after(count):
    """A step that fails once it was called so often."""

    def make(networks):
        step, calls = tiny_step(networks), []

        def call(batch, generator, update):
            calls.append(1)
            if len(calls) > count:
                raise StoppedError
            return step(batch, generator, update)

        return call

    return make


def stopped(folder, count=11, **changes):
    with pytest.raises(StoppedError):
        tiny_fit(folder, step=stop_after(count), **changes)


def same_end(one, other):
    a, b = (checkpoint.latest(folder / "checkpoints") for folder in (one, other))
    assert a.tensors.keys() == b.tensors.keys()
    for key in a.tensors:
        assert torch.equal(a.tensors[key], b.tensors[key]), key


def test_resumed_where_it_was(tmp_path):
    tiny_fit(tmp_path / "whole")
    stopped(tmp_path / "parts")
    result = tiny_fit(tmp_path / "parts", resume=True)

    same_end(tmp_path / "whole", tmp_path / "parts")
    assert result.resumed_from == (4,)
    steps = [(row["step"], "val.loss" in row) for row in result.history]
    assert steps == sorted(set(steps))


def test_a_finished_fit_is_not_done_again(tmp_path):
    first = tiny_fit(tmp_path)
    again = tiny_fit(tmp_path, resume=True, step=stop_after(0))
    assert again == first


def test_epochs_may_grow_and_the_report_says_so(tmp_path):
    tiny_fit(tmp_path, epochs=2)
    result = tiny_fit(tmp_path, epochs=3, resume=True)
    assert result.steps == 9
    assert "lengthened from 6 to 9 steps at step 6" in result.warnings[0]


def test_longer_with_a_constant_rate_is_what_it_would_have_been(tmp_path):
    constant = {"schedule": {"name": "constant"}}
    tiny_fit(tmp_path / "whole", **constant)
    tiny_fit(tmp_path / "parts", epochs=1, **constant)
    result = tiny_fit(tmp_path / "parts", resume=True, **constant)
    same_end(tmp_path / "whole", tmp_path / "parts")
    assert result.warnings == ()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"seed": 4}, "seed: 3 before, 4 now"),
        (
            {"optimizer": {"learning_rate": 0.5, "name": "adamw"}},
            r"optimizer.learning_rate: 0.01 before, 0.5 now",
        ),
        ({"batch_size": 8}, "batch_size: 4 before, 8 now"),
        ({"epochs": 1}, "9 steps before, 3 now"),
        ({"ema_decay": None}, "ema_decay: 0.9 before, None now"),
    ],
)
def test_other_settings_are_refused_by_name(tmp_path, changes, message):
    stopped(tmp_path)
    with pytest.raises(UsageError, match=message):
        tiny_fit(tmp_path, resume=True, **changes)


@pytest.mark.parametrize(
    "changes", [{"workers": 1}, {"log_every_steps": 5}, {"checkpoint_every_steps": 1}]
)
def test_settings_that_change_no_bit_may_change(tmp_path, changes):
    tiny_fit(tmp_path / "whole")
    stopped(tmp_path / "parts")
    tiny_fit(tmp_path / "parts", resume=True, **changes)
    same_end(tmp_path / "whole", tmp_path / "parts")


def test_other_images_are_refused(tmp_path):
    settings = tiny_settings()

    def run(count, **options):
        networks = {"net": tiny_network()}
        return fit(
            tiny_step(networks),
            networks=networks,
            optimizers={"net": make_optimizer(networks["net"].parameters(), settings.optimizer)},
            loader=Loader(TinyFetch(), np.arange(count), batch_size=4, seed=3),
            settings=settings,
            folder=tmp_path,
            progress=Silent(),
            **options,
        )

    run(IMAGES, identity={"data": "abc"})
    with pytest.raises(UsageError, match="images: "):
        run(IMAGES - 1, identity={"data": "abc"}, resume=True)
    with pytest.raises(UsageError, match="data: 'abc' before, 'abd' now"):
        run(IMAGES, identity={"data": "abd"}, resume=True)


def test_a_folder_in_use_is_not_overwritten(tmp_path):
    tiny_fit(tmp_path)
    with pytest.raises(RunFolderError, match=r"has checkpoints of an earlier fit.*--resume"):
        tiny_fit(tmp_path)


def test_a_damaged_checkpoint_costs_steps_and_not_bits(tmp_path):
    tiny_fit(tmp_path / "whole")
    stopped(tmp_path / "parts")
    newest = max((tmp_path / "parts" / "checkpoints").glob("last-*"))
    content = bytearray(newest.read_bytes())
    content[-9] ^= 4
    newest.write_bytes(content)

    result = tiny_fit(tmp_path / "parts", resume=True)

    same_end(tmp_path / "whole", tmp_path / "parts")
    assert result.resumed_from == (3,)
    assert "last-0000000004.safetensors: damaged" in result.warnings[0]


def test_another_network_is_refused(tmp_path):
    stopped(tmp_path)
    settings = tiny_settings()
    networks = {"net": nn.Sequential(nn.Flatten(), nn.Linear(64, 2))}
    with pytest.raises(CheckpointError, match=r"missing: net\.1\.weight|not expected"):
        fit(
            tiny_step(networks),
            networks=networks,
            optimizers={"net": make_optimizer(networks["net"].parameters(), settings.optimizer)},
            loader=tiny_loader(settings),
            settings=settings,
            folder=tmp_path,
            resume=True,
            progress=Silent(),
        )


# -- what is not finite


def poisoned(at, where="loss"):
    def make(networks):
        step, calls = tiny_step(networks), []

        def call(batch, generator, update):
            calls.append(1)
            if len(calls) != at:
                return step(batch, generator, update)
            if where == "returned":
                return {**step(batch, generator, update), "aux": torch.tensor(float("inf"))}
            if where == "weights":
                losses = step(batch, generator, update)
                with torch.no_grad():
                    networks["net"].module[5].bias[0] = float("nan")
                return losses
            loss = networks["net"](batch["image"]).mean()
            # 0 * inf at the backward pass only, or already in the loss
            bad = (loss * 0.0).sqrt() if where == "gradient" else loss * float("nan")
            update(bad, "net")
            return {"loss": bad}

        return call

    return make


@pytest.mark.parametrize(
    ("where", "told"),
    [("loss", "the loss of optimiser 'net' is nan"), ("returned", "loss 'aux' is inf")],
)
def test_a_loss_that_is_not_finite_stops_and_names_everything(tmp_path, where, told):
    with pytest.raises(NonFiniteLossError) as caught:
        tiny_fit(tmp_path, step=poisoned(11, where))

    indices = tiny_loader(tiny_settings()).indices(1, 4)
    text = str(caught.value)
    assert f"step 5 (epoch 2, batch 4): {told}" in text
    assert f"rows of the manifest, from 0): {', '.join(map(str, indices))}." in text
    assert "last-0000000004.safetensors" in text
    found = checkpoint.latest(tmp_path / "checkpoints")
    assert found.facts["step"] == 4
    assert all(value.isfinite().all() for value in found.tensors.values())


def test_a_gradient_that_is_not_finite_can_stop_too(tmp_path):
    with pytest.raises(NonFiniteLossError, match=r"step 5 .*gradient norm of optimiser 'net'"):
        tiny_fit(tmp_path, step=poisoned(11, "gradient"), check_gradients=True)


def test_spoiled_weights_are_never_saved(tmp_path):
    with pytest.raises(NonFiniteLossError, match=r"weights of 'net' are not finite \(5.bias\)"):
        tiny_fit(tmp_path, step=poisoned(12, "weights"))
    assert checkpoint.latest(tmp_path / "checkpoints").facts["step"] == 4


def test_the_ids_are_named_where_they_are_known(tmp_path):
    settings = tiny_settings(accumulate=1)
    networks = {"net": tiny_network()}
    ids = [f"case-{number:03d}" for number in range(IMAGES)]
    with pytest.raises(NonFiniteLossError, match=r"Images \(ids\): case-\d{3}, case-\d{3}"):
        fit(
            poisoned(1)(networks),
            networks=networks,
            optimizers={"net": make_optimizer(networks["net"].parameters(), settings.optimizer)},
            loader=tiny_loader(settings, ids=ids),
            settings=settings,
            folder=tmp_path,
            progress=Silent(),
        )


# -- misuse


def test_an_optimiser_that_is_not_there(tmp_path):
    def step(networks):
        def call(batch, generator, update):
            update(networks["net"](batch["x"]).mean(), "other")
            return {}

        return call

    with pytest.raises(UsageError, match=r"no optimiser 'other'; there are \['net'\]"):
        linear_fit(tmp_path, step=step)


def test_twice_in_a_batch_while_accumulating(tmp_path):
    def step(networks):
        def call(batch, generator, update):
            update(networks["net"](batch["x"]).mean(), "net")
            update(networks["net"](batch["x"]).mean(), "net")
            return {}

        return call

    linear_fit(tmp_path / "without", step=step)
    with pytest.raises(UsageError, match="called twice for one batch"):
        linear_fit(tmp_path / "with", step=step, accumulate=2)


def test_weights_that_no_checkpoint_would_keep(tmp_path):
    stray = nn.Linear(1, 1)
    with pytest.raises(UsageError, match="in none of the networks"):
        linear_fit(tmp_path, optimizer=torch.optim.SGD(stray.parameters(), lr=0.1))


def test_a_monitor_that_validation_does_not_return(tmp_path):
    with pytest.raises(UsageError, match=r"fit.monitor is 'auroc'.*\['loss'\]"):
        linear_fit(tmp_path, validate=lambda _: {"loss": 1.0}, monitor="auroc")


def test_patience_without_validation(tmp_path):
    with pytest.raises(UsageError, match="patience needs a validation"):
        linear_fit(tmp_path, patience=3)


def test_a_step_that_bypasses_the_precision(tmp_path):
    kept = nn.Linear(1, 1)

    def step(networks):
        def call(batch, generator, update):
            loss = kept(batch["x"]).mean()
            update(loss, "net")
            return {"loss": loss}

        return call

    with pytest.raises(UsageError, match="did not call the networks of the mapping"):
        linear_fit(tmp_path, network=kept, step=step, precision="bf16-mixed")


def test_half_precision_runs(tmp_path):
    types = []

    def step(networks):
        def call(batch, generator, update):
            networks["net"].module.register_forward_hook(lambda *a: types.append(a[2].dtype))
            loss = ((networks["net"](batch["x"]) - batch["y"]) ** 2).mean()
            update(loss, "net")
            return {"loss": loss}

        return call

    result, network = linear_fit(tmp_path, step=step, precision="bf16-mixed")
    assert set(types) == {torch.bfloat16}
    assert network.weight.dtype == torch.float32
    assert network.weight.item() > 0.1
    assert result.steps == 3


def test_channels_last_changes_layout_and_resumes_to_the_same_bits(tmp_path):
    layouts = []

    def step(networks):
        inner = tiny_step(networks)

        def call(batch, generator, update):
            layouts.append(batch["image"].is_contiguous(memory_format=torch.channels_last))
            return inner(batch, generator, update)

        return call

    tiny_fit(tmp_path / "whole", channels_last=True, step=step)
    stopped(tmp_path / "parts", channels_last=True)
    tiny_fit(tmp_path / "parts", resume=True, channels_last=True)
    assert all(layouts)
    same_end(tmp_path / "whole", tmp_path / "parts")


# -- signals


def test_handlers_are_restored_whatever_happens(tmp_path):
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    tiny_fit(tmp_path / "good")
    stopped(tmp_path / "bad")
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before


def test_it_runs_in_a_thread_where_no_handler_can_be_installed(tmp_path):
    results = []
    thread = threading.Thread(target=lambda: results.append(tiny_fit(tmp_path)))
    thread.start()
    thread.join()
    assert results[0].steps == 9


def test_a_signal_during_validation_saves_first_and_validates_again(tmp_path):
    def run(folder, *, interrupt, resume=False):
        settings = tiny_settings()
        networks = {"net": tiny_network()}
        calls = []

        def validate(nets):
            calls.append(1)
            if interrupt and len(calls) == 2:
                signal.raise_signal(signal.SIGTERM)
                calls.append("went on")
            return {"loss": float(nets["net"](torch.ones(1, 1, 8, 8)).sum())}

        try:
            return fit(
                tiny_step(networks),
                networks=networks,
                optimizers={
                    "net": make_optimizer(networks["net"].parameters(), settings.optimizer)
                },
                loader=tiny_loader(settings),
                settings=settings,
                folder=folder,
                validate=validate,
                resume=resume,
                progress=Silent(),
            )
        finally:
            assert "went on" not in calls

    whole = run(tmp_path / "whole", interrupt=False)
    with pytest.raises(Interrupted, match="stopped by SIGTERM after step 6 of 9"):
        run(tmp_path / "parts", interrupt=True)
    parts = run(tmp_path / "parts", interrupt=False, resume=True)

    same_end(tmp_path / "whole", tmp_path / "parts")
    assert parts.history == whole.history
    assert parts.resumed_from == (6,)


def test_checkpoints_by_the_clock(tmp_path):
    result = tiny_fit(
        tmp_path, checkpoint_every_steps=None, checkpoint_every_minutes=1e-9, epochs=2
    )
    saved = sorted(path.name for path in (tmp_path / "checkpoints").iterdir())
    assert saved == ["last-0000000005.safetensors", "last-0000000006.safetensors"]
    assert all(a["step"] <= b["step"] for a, b in pairwise(result.history))


@pytest.mark.parametrize(("minutes", "saved"), [(60.0, 1), (None, 2)])
def test_without_validation_epochs_are_saved_where_nothing_else_is(tmp_path, minutes, saved):
    tiny_fit(
        tmp_path,
        validate=None,
        checkpoint_every_steps=None,
        checkpoint_every_minutes=minutes,
        epochs=3,
    )

    assert len(list((tmp_path / "checkpoints").iterdir())) == saved  # of the last two, at most
