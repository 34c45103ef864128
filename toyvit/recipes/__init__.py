"""Experiments known to work: each a function that returns a Run; its docstring gives the expected result and time."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from toyvit.config import ModelConfig, RunConfig, TrainConfig
from toyvit.data.question_configs import ClassifyConfig, ReconstructConfig, RegressConfig
from toyvit.data.worlds.addition.config import AdditionConfig
from toyvit.data.worlds.counting.config import CountingConfig
from toyvit.data.worlds.dsprites.config import DspritesConfig
from toyvit.data.worlds.fewshot.config import FewshotConfig
from toyvit.data.worlds.glyphs.config import InductionConfig
from toyvit.data.worlds.markov.config import MarkovConfig
from toyvit.data.worlds.objects.config import ObjectsConfig
from toyvit.data.worlds.pointers.config import PointersConfig
from toyvit.data.worlds.relations.config import RelationsConfig
from toyvit.data.worlds.repeats.config import RepeatsConfig
from toyvit.data.worlds.sort_of_clevr.config import SortOfClevrConfig


def induction() -> RunConfig:
    """Visual induction on 5 x 5 glyphs: a phase transition. Two attention-only layers of one head.

    Accuracy sits at or under the bag-of-labels ceiling (0.174), then rises to above 0.98 within a fifth of the steps
    that came before, while an induction head forms in the second layer. About half a CPU minute.
    """
    return RunConfig(
        recipe="induction",
        task=InductionConfig(),
        model=ModelConfig(
            n_layers=2, n_heads=1, d_model=64, mask="causal", cls_token=False, readout="last"
        ),
        train=TrainConfig(steps=2000, batch_size=64, learning_rate=5e-4),
    )


def induction_control() -> RunConfig:
    """The same with one layer, which cannot build the circuit: accuracy stays under 0.25. About 20 CPU seconds."""
    run = induction()
    return replace(run, recipe="induction-control", model=replace(run.model, n_layers=1))


def induction_heads() -> RunConfig:
    """The same with four heads a layer and a higher rate: all last-layer heads become induction heads. Half a CPU minute."""
    run = induction()
    return replace(
        run,
        recipe="induction-heads",
        model=replace(run.model, n_heads=4),
        train=replace(run.train, learning_rate=1e-3),
    )


def induction_smoke() -> RunConfig:
    """4 x 4 glyphs and 16 labels: the same transition in about 5 CPU seconds."""
    run = induction()
    return replace(
        run,
        recipe="induction-smoke",
        task=InductionConfig(rows=4, columns=4, n_labels=16),
        train=replace(run.train, steps=500, learning_rate=1e-3),
    )


def induction_bidirectional() -> RunConfig:
    """3 x 3 glyphs, attention in both directions: rises with most seeds, by another circuit. A CPU minute.

    Seeds 0 and 1 end at 0.98 and 1.00. Their label cells attend to every item but the one before them, and the last layer finds
    the label that lacks the query's item.
    """
    run = induction()
    return replace(
        run,
        recipe="induction-bidirectional",
        task=InductionConfig(rows=3, columns=3, n_labels=16),
        model=replace(run.model, mask="bidirectional"),
        train=replace(run.train, steps=5000, learning_rate=1e-3),
    )


def mnist_attention() -> RunConfig:
    """MNIST, two attention-only layers of four heads. About 0.97 of the test pictures; a CPU minute."""
    return RunConfig(
        recipe="mnist-attention",
        task=ClassifyConfig(world="mnist"),
        model=ModelConfig(
            n_layers=2,
            n_heads=4,
            d_model=64,
            patch_size=7,
            attention_bias=True,
            position_scale=0.02,
        ),
        train=TrainConfig(steps=2000, batch_size=128, learning_rate=2e-3, decay="linear"),
    )


def mnist_mlp() -> RunConfig:
    """The same with MLPs of 256: above 0.97 of the test pictures; a CPU minute and a half."""
    run = mnist_attention()
    return replace(run, recipe="mnist-mlp", model=replace(run.model, d_mlp=256))


def digits() -> RunConfig:
    """scikit-learn's 8 x 8 digits, nothing to download: above 0.9 of the 300 test pictures in 10 CPU seconds."""
    run = mnist_mlp()
    return replace(
        run,
        recipe="digits",
        task=ClassifyConfig(world="digits"),
        model=replace(run.model, patch_size=2, d_mlp=128),
        train=replace(run.train, steps=1000, batch_size=64),
    )


def classify() -> RunConfig:
    """Your own pictures (--task.npz FILE), or one factor of a world (--task.world NAME --task.factor NAME); patches of 4."""
    run = mnist_mlp()
    return replace(
        run, recipe="classify", task=ClassifyConfig(), model=replace(run.model, patch_size=4)
    )


def regress() -> RunConfig:
    """One factor of a world as a number (--task.world NAME --task.factor NAME); by itself the column of a dSprites sprite.

    Seeds 0, 1, 2: 0.995 of the variance of test pictures and of held-out outlines, past 0.9 by step 128 to 140. A ridge on
    the pixels of 2,000 pictures has 0.80, the nearest of them 0.98. Half a CPU minute. Another world may need other patches:
    --model.patch_size N, or none where it is made of cells.
    """
    run = dsprites()
    return replace(
        run, recipe="regress", task=RegressConfig(), train=replace(run.train, steps=1000)
    )


def dsprites() -> RunConfig:
    """The shape of a dSprites sprite: 0.99 to 1.00 of test pictures (seeds 0, 1, 2). Two CPU minutes."""
    return RunConfig(
        recipe="dsprites",
        task=ClassifyConfig(world="dsprites", factor="shape"),
        model=ModelConfig(
            n_layers=2,
            n_heads=4,
            d_model=64,
            d_mlp=256,
            patch_size=16,
            attention_bias=True,
            position_scale=0.02,
        ),
        train=TrainConfig(steps=8000, batch_size=64, learning_rate=2e-3, decay="linear"),
    )


def dsprites_attention() -> RunConfig:
    """The same, attention-only: 0.93 to 0.99 of test pictures (seeds 0, 1, 2)."""
    run = dsprites()
    return replace(run, recipe="dsprites-attention", model=replace(run.model, d_mlp=0))


def dsprites_regress() -> RunConfig:
    """All factors of a dSprites sprite at once, as numbers: 0.74 of the variance after 4,000 steps, still rising."""
    run = dsprites()
    return replace(
        run, recipe="dsprites-regress", task=DspritesConfig(), train=replace(run.train, steps=4000)
    )


def dsprites_larger() -> RunConfig:
    """Two dSprites sprites: which is larger? 0.92 of test pictures, 0.90 of held-out outlines; a linear probe has 0.85."""
    run = dsprites()
    return replace(
        run,
        recipe="dsprites-larger",
        task=DspritesConfig(ask="larger"),
        train=replace(run.train, steps=3000, learning_rate=1e-3),
    )


def dsprites_same() -> RunConfig:
    """Two dSprites sprites: do they stand in the same column, of 32? Chance at first, then a rise.

    Seeds 0, 1, 2: past 0.6 at step 800, 1,100 and 1,400; at the end 0.92, 0.85, 0.84 of the test pictures, 0.91, 0.82, 0.79 of
    held-out outlines; the nearest picture has 0.74. Whether they have the same shape (`--task.factor shape`, seed 0) stays at
    chance for 3,000 steps. Two and a half CPU minutes.
    """
    run = dsprites_larger()
    return replace(
        run,
        recipe="dsprites-same",
        task=DspritesConfig(ask="same", factor="x"),
        model=replace(run.model, position_scale=0.5),
        train=replace(run.train, steps=4000),
    )


def reconstruct() -> RunConfig:
    """Half of the patches of scikit-learn's digits are hidden: 0.72 of the variance of their pixels is restored.

    The mean of every pixel has 0.48. A quarter of a CPU minute.
    """
    run = digits()
    return replace(
        run,
        recipe="reconstruct",
        task=ReconstructConfig(),
        model=replace(run.model, patch_size=None, readout="pixels"),
    )


def markov() -> RunConfig:
    """Markov textures, next patch: from counting textures to counting pairs of them (after Edelman 2024). Half a CPU minute.

    The distance to the true chain, KL, sits near the unigram predictor's (0.18 nats), then falls to 0.08 (exact Bayes: 0.067)
    while the first layer learns to look at the patch before.
    """
    return RunConfig(
        recipe="markov",
        task=MarkovConfig(),
        model=ModelConfig(
            n_layers=2, n_heads=1, d_model=16, mask="causal", cls_token=False, readout="every"
        ),
        train=TrainConfig(steps=2000, batch_size=64, learning_rate=3e-3),
    )


def markov_control() -> RunConfig:
    """The same with one layer: stays at the unigram predictor's distance, 0.176 nats."""
    run = markov()
    return replace(run, recipe="markov-control", model=replace(run.model, n_layers=1))


def repeats() -> RunConfig:
    """A repeated sequence with a varying period, next patch: above 0.99 where it repeats, hardly a plateau. 10 CPU seconds."""
    return RunConfig(
        recipe="repeats",
        task=RepeatsConfig(),
        model=ModelConfig(
            n_layers=2, n_heads=1, d_model=64, mask="causal", cls_token=False, readout="every"
        ),
        train=TrainConfig(steps=800, batch_size=64, learning_rate=1e-3),
    )


def addition() -> RunConfig:
    """Grokking: modular addition of glyphs. Training accuracy 1 by step 125, test accuracy above 0.95 by step 3,000."""
    return RunConfig(
        recipe="addition",
        task=AdditionConfig(),
        model=ModelConfig(
            n_layers=1,
            n_heads=4,
            d_model=64,
            d_mlp=256,
            activation="relu",
            bias=False,
            cls_token=False,
            readout="last",
            position_scale=0.1,
            patch_scale=0.25,
        ),
        train=TrainConfig(
            steps=3000,
            batch_size=1095,
            learning_rate=3e-3,
            warmup=10,
            epsilon=1e-6,
            weight_decay=1.0,
            n_validation=256,
        ),
    )


def clock() -> RunConfig:
    """Grokking on a clock's face: the sum of two hands. Training accuracy 0.99 by step 1,000, test 0.9 at 2,550 to 3,450.

    Three seeds of three: test accuracy 0.07 to 0.1 at step 1,000 (chance 0.027), 0.99 at best, 0.95 to 0.99 at the end: now and
    then a spike of Adam's throws both accuracies down for a while. Three and a half CPU minutes.
    """
    run = addition()
    return replace(
        run,
        recipe="clock",
        task=AdditionConfig(shown="clock"),
        model=replace(run.model, patch_size=16, cls_token=True, readout="cls"),
        train=replace(run.train, steps=5000),
    )


def counting() -> RunConfig:
    """Apples on two sides, how many in all: a smooth rise without a plateau, the negative control. 20 CPU seconds."""
    return RunConfig(
        recipe="counting",
        task=CountingConfig(),
        model=ModelConfig(
            n_layers=1,
            n_heads=4,
            d_model=64,
            d_mlp=128,
            patch_size=6,
            attention_bias=True,
            position_scale=0.02,
        ),
        train=TrainConfig(steps=1100, batch_size=64, learning_rate=1e-3),
    )


def fewshot() -> RunConfig:
    """Few shots (after Chan 2022): many bursty classes teach the model to read the context, not to know the classes.

    On classes never trained, `in_context`, accuracy stays under a bag of labels (0.23) to step 400, then rises past 0.9 by
    step 703 and ends at 0.98 to 0.99, while an induction head forms; `in_weights` ends at 0.05 to 0.06 (chance 0.03). With 32
    classes and no bursts (`--task.n_classes 32 --task.p_bursty 0`) in_context ends at 0.03, in_weights is 1.00 from step 75 on.
    Seeds 0, 1, 2; a third of a CPU minute.
    """
    return RunConfig(
        recipe="fewshot",
        task=FewshotConfig(n_classes=512),
        model=ModelConfig(
            n_layers=2, n_heads=1, d_model=64, mask="causal", cls_token=False, readout="last"
        ),
        train=TrainConfig(steps=1500, batch_size=64, learning_rate=1e-3),
    )


def two_pairs() -> RunConfig:
    """Two exemplar-label pairs and a query (after Singh 2024): a plateau at the two labels, then an induction head.

    Seeds 0, 1, 2: half of the loss of a bag of labels (0.27 nats) at step 264, 282, 360; 0.99 of the test pictures at last. A
    previous-cell pattern held from the start (`--train.clamps 0.0:previous`): step 162, 178, 192; the match held
    (`1.0:match`): step 100 in all, without a plateau. An eighth of a CPU minute.

    Omniglot's handwritten characters need an MLP and longer (`--task.source omniglot --task.n_classes 900 --task.noise 0
    --model.n_heads 4 --model.d_model 128 --model.d_mlp 512 --train.steps 4000 --train.learning_rate 5e-4`, seed 0): at the two
    labels (0.61) to step 2,800, then up, 0.88 of the test pictures at 4,000, 0.84 of those of characters never trained on.
    """
    return RunConfig(
        recipe="two-pairs",
        task=FewshotConfig(n_pairs=2, n_classes=50, n_labels=5, labels="random", burstiness=1),
        model=ModelConfig(
            n_layers=2, n_heads=8, d_model=64, mask="causal", cls_token=False, readout="last"
        ),
        train=TrainConfig(steps=600, batch_size=64, learning_rate=1e-3),
    )


def apples() -> RunConfig:
    """Counting with up to six squares a side that do not count: above 0.99, held-out pairs too, no plateau. 30 CPU seconds."""
    run = counting()
    return replace(
        run,
        recipe="apples",
        task=CountingConfig(distractors=6),
        train=replace(run.train, steps=1500),
    )


def objects() -> RunConfig:
    """Squares, ellipses and hearts on a canvas, the class of each patch: 0.97, of patches that show one 0.8; a CPU minute.

    Background and object are told apart within 50 steps (0.91), the three shapes gradually after that.
    """
    return RunConfig(
        recipe="objects",
        task=ObjectsConfig(),
        model=ModelConfig(
            n_layers=2,
            n_heads=4,
            d_model=64,
            d_mlp=128,
            cls_token=False,
            readout="every",
            position_scale=0.02,
        ),
        train=TrainConfig(steps=1500, batch_size=64, learning_rate=2e-3, decay="linear"),
    )


def sort_of_clevr() -> RunConfig:
    """Sort-of-CLEVR (Santoro 2017), both kinds of questions, four CPU minutes: not enough for relations.

    It stays at what the question alone tells (0.47) for 800 to 1,200 steps, then rises towards, not past, what all objects tell
    if one does not know which is asked about (0.67): to 0.64, 0.60 of the questions about one object and 0.69 of the others.
    """
    return RunConfig(
        recipe="sort-of-clevr",
        task=SortOfClevrConfig(),
        model=ModelConfig(
            n_layers=3,
            n_heads=4,
            d_model=64,
            d_mlp=128,
            attention_bias=True,
            position_scale=0.1,
            cls_token=False,
            readout="last",
        ),
        train=TrainConfig(
            steps=2500, batch_size=64, learning_rate=1e-3, decay="linear", n_validation=256
        ),
    )


def same_different() -> RunConfig:
    """Are two glyphs on a blank grid alike? Chance to about step 150, then a rise. Two attention-only layers of four heads.

    Seeds 0, 1, 2: 0.99, 0.98, 0.98 of the test pictures; 0.94, 0.93, 0.94 on unseen shapes. A fifth of a CPU minute.
    """
    return RunConfig(
        recipe="same-different",
        task=RelationsConfig(ask="same"),
        model=ModelConfig(
            n_layers=2, n_heads=4, d_model=64, attention_bias=True, position_scale=0.1
        ),
        train=TrainConfig(steps=1000, batch_size=64, learning_rate=1e-3),
    )


def same_different_mlp() -> RunConfig:
    """The same with MLPs of 128: as good (0.97 to 0.99; unseen shapes 0.92 to 0.94), a third of a CPU minute."""
    run = same_different()
    return replace(run, recipe="same-different-mlp", model=replace(run.model, d_mlp=128))


def odd_one_out() -> RunConfig:
    """Six objects, one of another shape: which cell? A plateau at 1/6, who sees only where objects are, then a transition.

    Attention only. It starts near step 1,600 with seeds 0, 1, 2; at the end 0.99, 0.97, 0.99 of the test pictures, 0.95, 0.92,
    0.92 on unseen shapes. Under half a CPU minute.
    """
    run = same_different()
    return replace(
        run,
        recipe="odd-one-out",
        task=RelationsConfig(ask="odd"),
        train=replace(run.train, steps=2500),
    )


def match_to_sample() -> RunConfig:
    """Which candidate pair is alike or not as the sample is? 3 x 2 cells, samples alike in 0.8 of the pictures; MLPs of 128.

    Two rises: from chance to 0.8, what the candidates alone say, and after a long plateau to above 0.97, when the sample is
    heeded. The second starts near step 1,900, 1,000 and 3,400 with seeds 0, 1, 2. With even odds (`--task.alike 0.5`, seed 0)
    it stays at chance for 2,500 steps; trained as here, it answers even odds (0.99, 1.00, 0.96). Under a CPU minute.
    """
    return RunConfig(
        recipe="match-to-sample",
        task=RelationsConfig(ask="match", rows=3, columns=2, alike=0.8),
        model=ModelConfig(
            n_layers=2, n_heads=4, d_model=64, d_mlp=128, attention_bias=True, position_scale=0.3
        ),
        train=TrainConfig(steps=5000, batch_size=64, learning_rate=1e-3),
    )


def pointers() -> RunConfig:
    """Pointer-value retrieval: a plateau at the bag of values (0.32), then a transition within 40 steps. Attention only.

    Seeds 0, 1, 2: above 0.99 at step 150, 147 and 150; at the end 1.00 on test and on held-out pairs. One layer
    (`--model.n_layers 1`, seed 0) stays at the bag of values: 0.33, held-out pairs 0.06. An eighth of a CPU minute.
    """
    return RunConfig(
        recipe="pointers",
        task=PointersConfig(),
        model=ModelConfig(n_layers=2, n_heads=4, d_model=64, attention_bias=True),
        train=TrainConfig(steps=600, batch_size=64, learning_rate=1e-3),
    )


def pointers_2hop() -> RunConfig:
    """Two hops with three attention-only layers: a plateau at the bag of values (0.26) and a little above, then a transition.

    Seeds 0, 1, 2: above 0.99 at step 340, 348 and 330; at the end 1.00 on test and on held-out pairs. Two layers
    (`--model.n_layers 2`, seed 0): 0.45 at step 1,000 and still rising, held-out pairs 0.10. A quarter of a CPU minute.
    """
    run = pointers()
    return replace(
        run,
        recipe="pointers-2hop",
        task=PointersConfig(hops=2),
        model=replace(run.model, n_layers=3),
        train=replace(run.train, steps=1000),
    )


RECIPES: dict[str, Callable[[], RunConfig]] = {
    "induction": induction,
    "induction-control": induction_control,
    "induction-heads": induction_heads,
    "induction-smoke": induction_smoke,
    "induction-bidirectional": induction_bidirectional,
    "mnist-attention": mnist_attention,
    "mnist-mlp": mnist_mlp,
    "digits": digits,
    "classify": classify,
    "regress": regress,
    "dsprites": dsprites,
    "dsprites-attention": dsprites_attention,
    "dsprites-regress": dsprites_regress,
    "dsprites-larger": dsprites_larger,
    "dsprites-same": dsprites_same,
    "reconstruct": reconstruct,
    "markov": markov,
    "markov-control": markov_control,
    "repeats": repeats,
    "addition": addition,
    "clock": clock,
    "counting": counting,
    "fewshot": fewshot,
    "two-pairs": two_pairs,
    "apples": apples,
    "objects": objects,
    "sort-of-clevr": sort_of_clevr,
    "same-different": same_different,
    "same-different-mlp": same_different_mlp,
    "odd-one-out": odd_one_out,
    "match-to-sample": match_to_sample,
    "pointers": pointers,
    "pointers-2hop": pointers_2hop,
}
