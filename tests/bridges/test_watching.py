"""Other people's loops under watch: the checkpoints are their model's, and the loop is the same."""

import shutil

import pytest
import torch
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

import toyvit
from tests.model.foreign import find_error, record_blocks
from tests.model.test_families import build_timm
from toyvit import Run
from toyvit.__main__ import main
from toyvit.bridges.trainer_callbacks import WatchCallback, find_child, pl
from toyvit.bridges.watching import watch
from toyvit.errors import BadInput
from toyvit.torchvision_guard import torchvision


def draw_pictures(n=64):
    generator = torch.Generator().manual_seed(0)
    classes = torch.arange(n) % 7
    images = torch.randn(n, 3, 12, 12, generator=generator)
    return images + classes[:, None, None, None] / 3, classes


def train(model, optimizer, n, after=lambda: None):
    """A plain loop, and its losses."""
    images, classes = draw_pictures()
    losses = []
    for _ in range(n):
        value = F.cross_entropy(model(images), classes)
        optimizer.zero_grad()
        value.backward()
        optimizer.step()
        losses.append(value.item())
        after()
    return losses


def build_loop(**options):
    model = build_timm(depth=2, **options).train()
    return model, torch.optim.SGD(model.parameters(), 0.01)


def test_checkpoints_are_the_models_weights_when_they_were_kept(tmp_path):
    model, optimizer = build_loop()
    images, _ = draw_pictures(8)
    expected = {}

    def note():
        watcher.step()
        expected[watcher.n_steps] = record_blocks(model.eval(), model.blocks, images)
        model.train()

    start = record_blocks(model.eval(), model.blocks, images)
    with watch(model, into=tmp_path / "run", every=3, pictures=draw_pictures()) as watcher:
        train(model, optimizer, 7, after=note)

    run = Run(tmp_path / "run")
    assert run.steps == [0, 3, 6, 7]
    assert run.status == "watched"
    for step, model in run.items():
        answer, outputs = start if step == 0 else expected[step]
        assert find_error(model, images, answer, outputs) < 1e-5
    assert find_error(run.model(3), images, *expected[6]) > 1e-4

    shown, classes = draw_pictures()
    batch = run.batch("test", 512)
    assert torch.equal(batch.images, shown)
    assert torch.equal(batch.target, classes)
    with torch.no_grad():
        right = (model(shown).argmax(1) == classes).float().mean().item()
    assert run.entries[7].accuracy == pytest.approx(right)


@pytest.mark.parametrize("by_optimizer", [False, True])
def test_a_watched_loop_has_the_same_losses_to_the_bit(tmp_path, by_optimizer):
    plain = train(*build_loop(proj_drop_rate=0.0), 6)
    model, optimizer = build_loop()
    watcher = watch(
        model,
        into=tmp_path / "run",
        every=[2, 5],
        pictures=draw_pictures(),
        analyses=["attention", "performance"],
        optimizer=optimizer if by_optimizer else None,
    )
    assert (
        train(model, optimizer, 6, after=(lambda: None) if by_optimizer else watcher.step) == plain
    )
    watcher.close()
    run = Run(tmp_path / "run")
    assert run.steps == [0, 2, 5, 6]
    assert list(run.curve("performance", "accuracy").index) == run.steps
    assert train(model, optimizer, 1)
    assert Run(run.path).steps == run.steps  # closed: updates are counted no more


def test_classes_that_no_picture_shows_are_still_the_models(tmp_path):
    model, _ = build_loop()
    images, classes = draw_pictures()
    watch(model, into=tmp_path / "run", pictures=(images, 3 + classes % 2)).close()
    assert set(Run(tmp_path / "run").batch("test", 64).target.tolist()) == {3, 4}


def test_random_numbers_of_the_loop_are_its_own(tmp_path):
    model, _ = build_loop()
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    watch(model, into=tmp_path / "run", pictures=draw_pictures(), analyses=["attention"]).close()
    assert torch.equal(torch.rand(3), expected)
    assert torch.is_grad_enabled()


def test_a_run_is_gone_on_with_where_it_was(tmp_path):
    model, optimizer = build_loop()
    with watch(model, into=tmp_path / "run", every=2, optimizer=optimizer):
        train(model, optimizer, 4)
    with pytest.raises(BadInput, match="exists already: give another folder, or start"):
        watch(model, into=tmp_path / "run")
    with pytest.raises(BadInput, match="a checkpoint at step 4: start there or later"):
        watch(model, into=tmp_path / "run", start=3)
    with watch(model, into=tmp_path / "run", every=2, optimizer=optimizer, start=4):
        train(model, optimizer, 3)
    assert Run(tmp_path / "run").steps == [0, 2, 4, 6, 7]
    assert main(["verify", str(tmp_path / "run")]) == 0

    other = build_timm(depth=3)
    with pytest.raises(BadInput, match="of another shape"):
        watch(other, into=tmp_path / "run", start=9)


@pytest.mark.parametrize("moment", ["before the checkpoint", "before the manifest", "in a line"])
def test_a_kill_in_the_middle_of_a_checkpoint_leaves_a_run_that_goes_on(
    tmp_path, moment, monkeypatch
):
    model, optimizer = build_loop()
    watcher = watch(model, into=tmp_path / "run", every=2)
    train(model, optimizer, 2, after=watcher.step)
    folder = watcher.run.folder

    def stop(*given):
        if moment == "before the manifest":
            (folder.checkpoints / "step_00000004.safetensors").write_bytes(b"whole or not")
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(type(folder), "write_checkpoint", stop)
        with pytest.raises(KeyboardInterrupt):
            train(model, optimizer, 2, after=watcher.step)
    watcher._after.close()  # as the end of the process does
    if moment == "in a line":
        for book in (folder.provenance, folder.manifest):
            book.write_bytes(book.read_bytes() + b'{"step": 4, "sou')
    assert Run(folder.path).steps == [0, 2]
    assert main(["verify", str(folder.path)]) == (2 if moment == "before the manifest" else 0)

    with watch(model, into=folder.path, every=2, start=2) as watcher:
        train(model, optimizer, 4, after=watcher.step)
    assert Run(folder.path).steps == [0, 2, 4, 6]
    assert main(["verify", str(folder.path)]) == 0


def test_a_checkpoint_of_which_nothing_is_told_is_found_out(tmp_path):
    model, optimizer = build_loop()
    with watch(model, into=tmp_path / "run", every=2, optimizer=optimizer) as watcher:
        train(model, optimizer, 4)
    book = watcher.run.folder.provenance
    lines = book.read_bytes().splitlines(keepends=True)
    book.write_bytes(b"".join(line for line in lines if b'"step": 2,' not in line))
    assert main(["verify", str(tmp_path / "run")]) == 2


def test_a_start_that_fails_late_leaves_nothing(tmp_path, monkeypatch):
    model, _ = build_loop()
    with monkeypatch.context() as patch:
        patch.setattr("toyvit.bridges.watching.score_known", lambda *given: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            watch(model, into=tmp_path / "run", pictures=draw_pictures())
    assert not (tmp_path / "run").exists()
    watch(model, into=tmp_path / "run").close()


def test_a_run_that_is_moved_takes_its_pictures_along(tmp_path):
    model, _ = build_loop()
    watch(model, into=tmp_path / "run", pictures=draw_pictures()).close()
    before = Run(tmp_path / "run").batch("test", 9).images
    shutil.move(tmp_path / "run", tmp_path / "there")
    assert torch.equal(Run(tmp_path / "there").batch("test", 9).images, before)


def test_while_it_is_watched_it_is_running(tmp_path):
    model, _ = build_loop()
    watcher = watch(model, into=tmp_path / "run")
    assert Run(tmp_path / "run").status == "running"
    with pytest.raises(BadInput, match="in use"):
        watch(model, into=tmp_path / "run", start=1)
    watcher.close()
    assert Run(tmp_path / "run").status == "watched"


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"every": 0}, "every must be at least 1, got 0"),
        ({"pictures": (torch.zeros(4, 3, 12, 12), torch.zeros(3))}, "need a class for each"),
        ({"pictures": torch.zeros(30, 3, 12, 12)}, "pictures are two tensors"),
        ({"pictures": "folder"}, "pictures are two tensors"),
        ({"pictures": (torch.zeros(30, 3, 12, 12), torch.zeros(30))}, "of torch.float32"),
        ({"pictures": (torch.zeros(30, 3, 12, 12), torch.arange(30) % 9)}, "are 0 to 6 as"),
        ({"pictures": (torch.zeros(1, 3, 12, 12), torch.zeros(1).long())}, "20 to 4096, got 1"),
        (
            {"pictures": (torch.zeros(30, 3, 9, 9), torch.arange(30) % 7)},
            r"must be \(image, \*\(3, 12, 12\)",
        ),
        ({"analyses": ["attenton"]}, "attenton"),
    ],
)
def test_what_cannot_be_watched_is_one_line_and_leaves_nothing(tmp_path, options, match):
    model, _ = build_loop()
    with pytest.raises(BadInput, match=match) as error:
        watch(model, into=tmp_path / "run", **options)
    assert "\n" not in str(error.value)
    assert not (tmp_path / "run").exists()


def test_only_models_that_a_mapping_knows_are_watched(tmp_path):
    config = toyvit.ModelConfig(image_size=(8, 8), patch_size=4, n_channels=1, n_classes=3)
    for model, match in (
        (torch.nn.Linear(2, 2), "Linear is no model that is known"),
        (torchvision.models.resnet18(), "ResNet is no plain VisionTransformer"),
        (toyvit.ViT(config), "a model of the lab itself"),
        (build_timm(qk_norm=True), "no place for"),
        (build_timm(global_pool="max"), "global_pool 'max' is no read-out here"),
    ):
        with pytest.raises(BadInput, match=match):
            watch(model, into=tmp_path / "run")
        assert not (tmp_path / "run").exists()


class Foreign(pl.LightningModule):
    """Somebody's module, with a ViT of torchvision's inside."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.net = torchvision.models.VisionTransformer(
            image_size=12,
            patch_size=4,
            num_layers=2,
            num_heads=4,
            hidden_dim=32,
            mlp_dim=48,
            num_classes=7,
        )
        self.loss = torch.nn.CrossEntropyLoss()

    def training_step(self, batch, batch_idx):
        images, classes = batch
        return self.loss(self.net(images), classes)

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), 1e-3)


def build_trainer(folder, n_steps, *callbacks):
    return pl.Trainer(
        max_steps=n_steps,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=folder,
        callbacks=list(callbacks),
    )


@pytest.mark.filterwarnings("ignore::UserWarning", "ignore::DeprecationWarning")
def test_a_lightning_module_that_is_not_ours(tmp_path):
    loader = DataLoader(TensorDataset(*draw_pictures()), batch_size=16)
    plain = Foreign()
    build_trainer(tmp_path, 10).fit(plain, loader)

    module = Foreign()
    callback = WatchCallback(tmp_path / "run", every=4, pictures=draw_pictures())
    build_trainer(tmp_path, 10, callback).fit(module, loader)
    for weight, other in zip(plain.parameters(), module.parameters(), strict=True):
        assert torch.equal(weight, other)

    run = Run(tmp_path / "run")
    assert run.steps == [0, 4, 8, 10]
    images, _ = draw_pictures(6)
    answer, outputs = record_blocks(module.net.eval(), module.net.encoder.layers, images)
    assert find_error(run.model(), images, answer, outputs) < 1e-5


def test_a_module_with_no_model_or_two_is_asked_which():
    module = Foreign()
    assert find_child(module) is module.net
    module.other = Foreign().net
    with pytest.raises(BadInput, match="2 models that may be watched"):
        find_child(module)


def test_a_script_of_timms_pieces(tmp_path):
    """timm's model by name, optimiser, schedule, mean of weights and loss; two models watched."""
    timm = pytest.importorskip("timm")
    from timm.loss import LabelSmoothingCrossEntropy
    from timm.optim import create_optimizer_v2
    from timm.scheduler import CosineLRScheduler
    from timm.utils import ModelEmaV3

    torch.manual_seed(0)
    model = timm.create_model(
        "vit_tiny_patch16_224",
        img_size=32,
        patch_size=8,
        depth=2,
        num_classes=7,
        drop_path_rate=0.1,
    )
    mean = ModelEmaV3(model, decay=0.9)
    optimizer = create_optimizer_v2(model, opt="lamb", lr=1e-3)
    schedule = CosineLRScheduler(optimizer, t_initial=6, warmup_t=2)
    smoothed = LabelSmoothingCrossEntropy(0.1)
    images = torch.randn(14, 3, 32, 32)
    classes = torch.arange(14) % 7

    watcher = watch(model, into=tmp_path / "net", every=2, optimizer=optimizer)
    beside = watch(mean, into=tmp_path / "mean", every=2, optimizer=optimizer)
    for step in range(4):
        smoothed(model(images), classes).backward()
        optimizer.step()
        optimizer.zero_grad()
        mean.update(model)
        schedule.step_update(step)
    watcher.close()
    beside.close()

    for name, living in (("net", model), ("mean", mean.module)):
        run = Run(tmp_path / name)
        assert run.steps == [0, 2, 4]
        answer, outputs = record_blocks(living.eval(), living.blocks, images)
        assert find_error(run.model(), images, answer, outputs) < (1e-5 if name == "net" else 1)
    assert run.config.task.mean == (0.5, 0.5, 0.5)  # of the pretrained config that timm gives
