"""A network of torch as ONNX: normalisation and probabilities inside, for any number of images.

Equal weights give equal bytes.

The graph has one input, `images` (see `rvbuild.learn.export.inputs`), and one output, which the task names. The side of
images is that of chips. Weights that one file cannot hold lie in a second one beside it ("external data" of ONNX).
Needs the packages onnx and onnxscript.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import onnx
import torch
from torch import nn

from rvbuild.errors import ModelError
from rvbuild.learn.export.inputs import BYTE_MAX, input_type
from rvbuild.learn.export.rewrite import rewrite
from rvbuild.learn.model_files import ONNX, ONNX_WEIGHTS, ModelInfo
from rvbuild.learn.normalize import Normalizer

INPUT = "images"
OPSET = 18
IR_VERSION = 9
"""onnxruntime in QGIS refuses 10."""

MOST_BYTES = (1 << 31) - (1 << 26)
"""The weights that lie in the file of the graph at most: a file of Protocol Buffers holds 2 GiB."""

_BATCH = 2
"""Images in the example: torch takes a batch of one for a constant."""


class _Whole(nn.Module):
    """The normalisation, and the network behind it."""

    def __init__(self, network: nn.Module, info: ModelInfo) -> None:
        super().__init__()
        self.network = network
        self._normalizer = Normalizer(info)
        self._bytes = info.dtype == "uint8"
        self._work = self._normalizer.work_type(getattr(torch, info.dtype))

    def forward(self, images: torch.Tensor) -> Any:
        """Return the output of the network for images as `as_input` returns them."""
        # Rounded, because an eighth bit that is not exact would move the steps of a normalisation.
        raw = torch.round(images * BYTE_MAX) if self._bytes else images
        values = self._normalizer.steps(raw.to(self._work, copy=True)).to(torch.float32)
        return self.network(torch.where(torch.isnan(images), torch.zeros_like(values), values))


def export(
    network: nn.Module, info: ModelInfo, output: str, translations: Mapping[Any, Callable[..., Any]], folder: Path
) -> bytes:
    """Return a network as ONNX.

    Parameters
    ----------
    network
        Maps normalised images, `(N, C, H, W)` float32, to one tensor; in eval mode on the CPU.
    info
        Its description.
    output
        The name of the output.
    translations
        Functions of onnxscript for operators that torch does not translate.
    folder
        Receives `model.onnx.data`, the weights, if they have more than `MOST_BYTES`.

    Returns
    -------
    bytes
        A serialised `onnx.ModelProto` without anything that differs between two exports, such as stack traces; the
        content of a file in `folder`.

    Raises
    ------
    ModelError
        torch cannot export the network.
    """
    kind = getattr(torch, input_type(info.dtype))
    example = torch.full((_BATCH, info.bands, info.chip_px, info.chip_px), 0.5, dtype=kind)
    try:
        with _silently(), torch.no_grad():
            program = torch.onnx.export(
                _Whole(network, info).eval(),
                (example,),
                dynamo=True,
                input_names=[INPUT],
                output_names=[output],
                dynamic_shapes=({0: torch.export.Dim("batch", min=1)},),
                opset_version=OPSET,
                external_data=False,
                custom_translation_table=dict(translations),
                verbose=False,
            )
        model = _proto(program, folder)
    except Exception as error:  # torch raises what it likes for what it cannot export
        reason = next((line for line in str(error.__cause__ or error).splitlines() if line.strip()), repr(error))
        raise ModelError(f'the model "{info.model}" cannot be exported as ONNX: {reason:.300}') from error
    if not model.graph.input[0].type.tensor_type.shape.dim[0].dim_param:
        raise ModelError(
            f'the model "{info.model}" cannot be exported as ONNX: it is made for one number of images, '
            "perhaps because it uses len(images); images.shape[0] works"
        )
    rewrite(model)
    _strip(model)
    content = serialized(model)
    _check(content, folder)
    return content


def _proto(program: Any, folder: Path) -> onnx.ModelProto:
    """Return what torch has exported; large weights are written to a file, without a copy of them in memory."""
    tensors = [value.const_value for value in program.model.graph.initializers.values()]
    if sum(tensor.nbytes for tensor in tensors if tensor is not None) <= MOST_BYTES:
        model: onnx.ModelProto = program.model_proto
        return model
    path = folder / ONNX
    program.save(path, external_data=True)  # the name of the second file is that of the first, and .data
    model = onnx.load(path, load_external_data=False)
    path.unlink()
    return model


def _check(content: bytes, folder: Path) -> None:
    """Raise an exception of onnx unless a network is right."""
    if not (folder / ONNX_WEIGHTS).exists():
        onnx.checker.check_model(content, full_check=True)
        return
    path = folder / ONNX
    path.write_bytes(content)
    onnx.checker.check_model(path, full_check=True)  # by path: weights in a second file are found beside the first
    path.unlink()


def with_metadata(content: bytes, metadata: Mapping[str, str]) -> bytes:
    """Return an exported network with other metadata, in the order of the names."""
    model = onnx.load_model_from_string(content)
    del model.metadata_props[:]
    for key in sorted(metadata):
        model.metadata_props.add(key=key, value=metadata[key])
    return serialized(model)


def serialized(model: onnx.ModelProto) -> bytes:
    """Return the bytes of a model, always the same."""
    content: bytes = model.SerializeToString(deterministic=True)
    return content


@contextmanager
def _silently() -> Iterator[None]:
    """Keep the warnings and the log of the exporter, which speak to developers of torch, from users."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)


def _strip(model: onnx.ModelProto) -> None:
    """Remove what describes the export instead of the network, paths of source files among it."""
    model.ir_version = IR_VERSION
    model.producer_name, model.producer_version, model.doc_string = "rvbuild", "", ""
    graph = model.graph
    graph.name, graph.doc_string = "network", ""
    del model.metadata_props[:], graph.metadata_props[:], graph.value_info[:]
    for item in (*graph.node, *graph.input, *graph.output, *graph.initializer):
        item.doc_string = ""
        del item.metadata_props[:]
