"""The module, its data and the run's writer under anybody's Trainer, loggers and callbacks."""

from __future__ import annotations

import csv
import warnings
from dataclasses import replace

import pytest
import torch
from torch import nn

import toyvit  # before Lightning: behind the torchvision guard
from tests.stories.processes import contents
from toyvit.config import InductionConfig, learning_rate
from toyvit.data.task import accuracy, loss
from toyvit.errors import BadInput
from toyvit.recipes import RECIPES
from toyvit.runs.handle import Run
from toyvit.runs.verification import list_problems
from toyvit.train import fit, replay
from toyvit.train.datamodule import ViTDataModule
from toyvit.train.fit import log
from toyvit.train.module import ViTModule
from toyvit.train.run_writer import PLAIN, RunWriter

# isort: split
import pytorch_lightning as pl
from pytorch_lightning.callbacks import EarlyStopping, LearningRateMonitor, ModelCheckpoint
from pytorch_lightning.loggers import CSVLogger, TensorBoardLogger
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

STEPS = 12
SCORES = ("val_loss", "val_accuracy")
UPDATES = ("train_loss", "gradient_norm", "learning_rate")
BITS = ("checkpoints/*", "manifest.jsonl", "metrics.jsonl")


@pytest.fixture(autouse=True)
def quiet():
    """Without Lightning's advice, which is for long trainings."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def plan_run(recipe="induction-smoke", dropout=0.0, **training):
    run = RECIPES[recipe]()
    small = {"steps": STEPS, "batch_size": 8, "n_validation": 16, "warmup": 4, **training}
    return replace(
        run, train=replace(run.train, **small), model=replace(run.model, dropout=dropout)
    )


def build_trainer(folder, **options):
    quiet = {"enable_progress_bar": False, "enable_model_summary": False, "accelerator": "cpu"}
    plain = {"logger": False, "enable_checkpointing": False, "default_root_dir": folder}
    return pl.Trainer(**{**quiet, **plain, "num_sanity_val_steps": 0, **options})


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The same run by the lab itself, every step but the last one but one a checkpoint."""
    config = plan_run(checkpoints=tuple(range(STEPS - 1)), decay="cosine")
    return Run(fit(config, tmp_path_factory.mktemp("whole") / "run", progress=False))


def train_own(whole, folder, **options):
    """The module of a run under a trainer of one's own; the two."""
    module = ViTModule(whole.config)
    trainer = build_trainer(folder, **options)
    trainer.fit(module, ViTDataModule(whole.config, n_images=20))
    return module, trainer


def check_weights(module, run, step):
    weights = module.model.state_dict()
    assert all(torch.equal(weights[name], value) for name, value in run.weights(step).items())


@pytest.mark.parametrize(
    ("limits", "step"),
    [
        ({"max_epochs": 1}, STEPS),
        ({"max_epochs": 5}, STEPS),
        ({"max_epochs": -1}, STEPS),
        ({"max_steps": 7}, 7),
        ({"max_steps": 100, "max_epochs": -1}, STEPS),
    ],
)
def test_any_trainer_makes_the_updates_of_the_run(whole, tmp_path, limits, step):
    """Without any callback or logger of the lab, and no further than the config goes."""
    module, trainer = train_own(whole, tmp_path, **limits)
    assert module.step == trainer.global_step == step
    check_weights(module, whole, step)


def test_epochs_are_as_long_as_is_asked_and_go_on(whole, tmp_path):
    module = ViTModule(whole.config)
    trainer = build_trainer(tmp_path, max_epochs=2)
    trainer.fit(module, ViTDataModule(whole.config, n_batches=5))
    assert (module.step, trainer.current_epoch) == (10, 2)
    check_weights(module, whole, 10)


def read_rows(logger):
    """The lines of a CSV log that have a value, by its name."""
    with open(f"{logger.log_dir}/metrics.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    names = {name for row in rows for name in row} - {"step", "epoch"}
    return {name: [float(row[name]) for row in rows if row[name]] for name in names}


def test_what_is_logged_is_what_the_run_notes(whole, tmp_path):
    """Loss, gradient norm and rate of every update, and the scores of its checkpoints."""
    logger = CSVLogger(tmp_path)
    monitor = LearningRateMonitor("step")
    options = {"check_val_every_n_epoch": None, "val_check_interval": 3, "log_every_n_steps": 1}
    train_own(whole, tmp_path, logger=logger, callbacks=[monitor], max_epochs=1, **options)
    rows = read_rows(logger)
    metrics = whole.folder.read_metrics()
    for name in UPDATES:
        noted = [line[name.removeprefix("train_")] for line in metrics]
        assert rows[name] == pytest.approx(noted, rel=1e-6), name
    rates = [learning_rate(whole.config.train, step) for step in range(1, STEPS + 1)]
    assert rows["lr-AdamW"] == pytest.approx(rates) and len(set(rates)) > STEPS / 2
    for name in SCORES:
        scores = [getattr(whole.entries[step], name.removeprefix("val_")) for step in (3, 6, 9, 12)]
        assert rows[name] == pytest.approx(scores, rel=1e-6), name


def test_tensorboard_has_curves_and_hyperparameters(whole, tmp_path):
    logger = TensorBoardLogger(tmp_path)
    train_own(whole, tmp_path, logger=logger, max_epochs=1, log_every_n_steps=1)
    events = EventAccumulator(logger.log_dir)
    events.Reload()
    assert {*UPDATES, *SCORES} <= set(events.Tags()["scalars"])
    assert logger.hparams["config"] == whole.config.to_json()


def test_early_stopping_ends_it_where_it_says(whole, tmp_path):
    stopping = EarlyStopping("train_loss", stopping_threshold=100.0, check_on_train_epoch_end=True)
    module = ViTModule(whole.config)
    trainer = build_trainer(tmp_path, callbacks=[stopping], max_epochs=-1)
    trainer.fit(module, ViTDataModule(whole.config, n_batches=4))
    assert module.step == 4
    check_weights(module, whole, 4)


@pytest.mark.parametrize("at", [5, 8])
def test_a_file_of_lightning_holds_all_that_goes_on(whole, tmp_path, at):
    """Loaded with weights only, and gone on with from the middle of an epoch, to the bit."""
    keeping = ModelCheckpoint(tmp_path, filename="{step}", every_n_train_steps=at, save_top_k=-1)
    train_own(whole, tmp_path, callbacks=[keeping], max_steps=at + 1, enable_checkpointing=True)
    file = tmp_path / f"step={at}.ckpt"
    assert torch.load(file, weights_only=True)["toyvit_step"] == at
    module = ViTModule.load_from_checkpoint(file, weights_only=True)
    assert (module.step, module.config) == (at, whole.config)
    check_weights(module, whole, at)

    again = ViTModule(whole.config)
    trainer = build_trainer(tmp_path, max_epochs=1)
    trainer.fit(again, ViTDataModule(whole.config), ckpt_path=file, weights_only=True)
    assert again.step == STEPS
    check_weights(again, whole, STEPS)


def test_validate_test_and_predict(whole, tmp_path):
    """The scores of the run's own pictures, and the logits of its test pictures."""
    module = ViTModule(whole.config)
    module.model.load_state_dict(whole.weights(STEPS))
    module.step = STEPS
    trainer = build_trainer(tmp_path)
    data = ViTDataModule(whole.config, n_images=20)
    (validated,) = trainer.validate(module, data, verbose=False)
    last = whole.entries[STEPS]
    assert validated == pytest.approx({"val_loss": last.loss, "val_accuracy": last.accuracy})

    (tested,) = trainer.test(module, data, verbose=False)
    batch = whole.batch("test", 20)
    logits = whole.model(STEPS)(batch.images)
    scores = {
        "test_loss": loss(logits, batch.target),
        "test_accuracy": accuracy(logits, batch.target),
    }
    assert tested == pytest.approx({name: value.item() for name, value in scores.items()}, rel=1e-5)
    (predicted,) = trainer.predict(module, data)
    torch.testing.assert_close(predicted, logits)
    assert module.step == STEPS


def test_the_pictures_of_a_clamp_and_of_numbers_are_scored_too(tmp_path):
    """The clamp `match` has to know where each picture's match is; the accuracy of numbers: R^2."""
    for config in (plan_run(clamps=("1.0:match",)), plan_run("mess3")):
        folder = fit(config, tmp_path / config.recipe, progress=False)
        run = Run(folder)
        module = ViTModule(run.config)
        trainer = build_trainer(tmp_path, max_epochs=1)
        trainer.fit(module, ViTDataModule(run.config))
        check_weights(module, run, STEPS)
        (scores,) = trainer.validate(module, ViTDataModule(run.config), verbose=False)
        assert scores["val_loss"] == pytest.approx(run.entries[STEPS].loss, rel=1e-6)


class Foreign(pl.LightningModule):
    """Somebody's module around somebody's model, which knows nothing of the lab."""

    def __init__(self, model):
        super().__init__()
        self.model = model
        self.means = []

    def training_step(self, batch, batch_idx):
        images, targets = batch
        self.means.append(images.mean().item())
        return nn.functional.cross_entropy(self.model(images), targets)

    def validation_step(self, batch, batch_idx):
        images, targets = batch
        self.log("right", (self.model(images).argmax(-1) == targets).float().mean())

    test_step = validation_step

    def predict_step(self, batch, batch_idx):
        return self.model(batch[0])

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), lr=1e-2)


@pytest.mark.parametrize("accumulated", [1, 2])
def test_a_foreign_model_is_trained_on_the_data(tmp_path, accumulated):
    """On the digits it learns; each epoch has batches that were not shown."""
    data = ViTDataModule(
        RECIPES["digits"]().task, batch_size=32, seed=3, n_batches=50, n_images=100
    )
    images, _ = next(iter(data.train_dataloader()))
    module = Foreign(nn.Sequential(nn.Flatten(), nn.Linear(images[0].numel(), 10)))
    trainer = build_trainer(tmp_path, max_epochs=3, accumulate_grad_batches=accumulated)
    trainer.fit(module, data)
    (scores,) = trainer.test(module, data, verbose=False)
    assert scores["right"] > 0.6
    assert trainer.predict(module, data)[0].shape == (100, 10)

    indices = torch.arange(150 * 32).numpy()
    drawn, _ = data.task.training_batch(3, "train", indices)
    means = [part.mean().item() for part in drawn.split(32)]
    assert module.means == means and len(set(means)) > 100


def test_what_the_data_cannot_be_is_refused():
    for options, problem in {
        "n_batches": "n_batches must be at least 1, got 0",
        "n_images": "n_images must be at least 1, got 0",
        "batch_size": "batch_size must be >= 1, got 0",
    }.items():
        with pytest.raises(BadInput, match=problem):
            ViTDataModule(InductionConfig(), **{options: 0})


@pytest.mark.parametrize("dropout", [0.0, 0.2])
def test_a_run_with_guests_has_the_same_bits_as_without(tmp_path, dropout):
    """Also where it goes on; and they see the run's own steps."""
    config = plan_run(dropout=dropout)
    alone = fit(config, tmp_path / "alone", progress=False)
    keeping = ModelCheckpoint(tmp_path, filename="{step}", save_top_k=-1, every_n_train_steps=1)
    stopping = EarlyStopping("val_loss", stopping_threshold=100.0)
    logger = CSVLogger(tmp_path / "logs")
    log.setLevel("INFO")
    folder = fit(
        config, tmp_path / "run", progress=False, callbacks=[stopping, keeping], logger=logger
    )
    assert Run(folder).status == "stopped"
    assert (tmp_path / "step=1.ckpt").exists() and not (tmp_path / "step=2.ckpt").exists()
    monitor = LearningRateMonitor("step")
    fit(
        config,
        folder.path,
        resume=True,
        progress=False,
        callbacks=[ModelCheckpoint(tmp_path, filename="late-{step}", monitor="val_loss"), monitor],
        logger=[CSVLogger(tmp_path / "more"), TensorBoardLogger(tmp_path / "board")],
    )
    assert contents(folder.path, *BITS) == contents(alone.path, *BITS)
    assert list_problems(folder, folder.read_manifest()) == {}
    (rows,) = [file.read_text() for file in (tmp_path / "more").rglob("metrics.csv")]
    assert rows.count("\n") > 2 * (STEPS - 1)


def test_without_guests_nothing_is_logged_or_validated(tmp_path, monkeypatch):
    """Which costs the lab's own path nothing."""
    calls = []
    for name in ("log", "log_dict", "validation_step"):
        monkeypatch.setattr(
            ViTModule, name, lambda self, *args, name=name, **rest: calls.append(name)
        )
    fit(plan_run(), tmp_path / "run", progress=False)
    replay(tmp_path / "run", 7, 7, progress=False)
    assert calls == []
    fit(plan_run(), tmp_path / "guests", progress=False, callbacks=[pl.Callback()])
    assert set(calls) == {"log", "log_dict", "validation_step"}


def test_a_run_folder_is_written_under_any_trainer(whole, tmp_path):
    """Stopped, gone on with by the lab or by hand, and to the bit what the lab writes."""
    path = tmp_path / "mine"
    train_own(whole, tmp_path, max_steps=7, callbacks=[RunWriter(path)])
    run = Run(path)
    assert (run.status, run.last_step) == ("stopped", 7)
    by_hand = RunWriter(path, resume=True)
    module, trainer = train_own(whole, tmp_path, max_steps=9, callbacks=[by_hand])
    assert module.step == trainer.global_step == 9
    fit(whole.config, path, resume=True, progress=False)
    assert contents(path, *BITS) == contents(whole.path, *BITS)
    assert list_problems(run.folder, run.refresh().entries.values()) == {}
    with pytest.raises(BadInput, match="is finished"):
        train_own(whole, tmp_path, callbacks=[RunWriter(path, resume=True)])
    assert not run.folder.is_locked()


def test_a_training_that_fails_under_the_writer_is_gone_on_with(whole, tmp_path):
    class Breaks(pl.Callback):
        def on_train_batch_end(self, trainer, pl_module, *args):
            if pl_module.step == 5:
                raise RuntimeError("broken")

    path = tmp_path / "mine"
    with pytest.raises(RuntimeError, match="broken"):
        train_own(whole, tmp_path, callbacks=[RunWriter(path), Breaks()])
    assert not Run(path).folder.is_locked()
    fit(whole.config, path, resume=True, progress=False)
    assert contents(path, *BITS) == contents(whole.path, *BITS)


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"accumulate_grad_batches": 2}, "accumulate_grad_batches=1"),
        ({"gradient_clip_val": 0.5}, "gradient_clip_val=None"),
        ({"precision": "bf16-mixed"}, "precision='32-true'"),
    ],
)
def test_a_folder_says_nothing_that_is_not_so(whole, tmp_path, options, problem):
    """A trainer that would change the bits, other data, another module: nothing is written."""
    writer = RunWriter(tmp_path / "mine")
    with pytest.raises(BadInput, match=problem):
        train_own(whole, tmp_path, callbacks=[writer], **options)
    data = ViTDataModule(whole.config)
    module = ViTModule(whole.config)
    for trained, shown, message in (
        (module, ViTDataModule(whole.config, seed=7), "seeds.data: 0 -> 7"),
        (module, None, "ViTDataModule's batches, got NoneType"),
        (Foreign(nn.Flatten()), data, "of a ViTModule, got Foreign"),
    ):
        loaders = {"datamodule": shown} if shown else {"train_dataloaders": data.train_dataloader()}
        trainer = build_trainer(tmp_path, max_epochs=1, callbacks=[writer])
        with pytest.raises(BadInput, match=message):
            trainer.fit(trained, **loaders)
    assert list(PLAIN) and not (tmp_path / "mine").exists()


def test_the_public_names():
    assert toyvit.RunWriter is RunWriter and toyvit.ViTModule is ViTModule
