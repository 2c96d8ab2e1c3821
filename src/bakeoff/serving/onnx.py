"""ONNX files: written, checked, run and quantized. The one door to onnx, onnxruntime and onnxscript, an extra."""

import json
import logging
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch.export import ExportedProgram

from bakeoff.errors import RecipeError
from bakeoff.results.files import write_atomically
from bakeoff.serving.agreement import Images, Logits, Runner
from bakeoff.serving.program import BATCH, INPUT, OUTPUT, cannot

if TYPE_CHECKING:
    import onnx

PACKAGES = ("onnx", "onnxruntime", "onnxscript")
OPSET = 20  # every runtime since ONNX Runtime 1.17 has it
CALIBRATION_BATCH = 32  # images


def require() -> None:
    """Ask for the packages before anything is computed.

    Raises:
        RecipeError: one is not installed.
    """
    if missing := [name for name in PACKAGES if find_spec(name) is None]:
        raise RecipeError(
            "--format onnx",
            found=f"no package {missing[0]}",
            expected="it to be installed",
            hint="pip install 'bakeoff[export]'",
        )


def versions() -> dict[str, str]:
    """Return the versions that wrote and ran a file."""
    return {name: version(name) for name in PACKAGES}


def write(program: ExportedProgram, path: Path, *, about: Mapping[str, Any]) -> None:
    """Translate a program, check the graph, and write it as one file.

    Args:
        program: of one input and one output, the batch dynamic.
        path: of the file.
        about: its metadata; what is no text becomes JSON.

    Raises:
        BakeoffError: an operation that ONNX lacks.
        StorageError: the disk refused.
    """
    import onnx

    try:
        translated = torch.onnx.export(
            program,
            dynamo=True,
            input_names=[INPUT],
            output_names=[OUTPUT],
            opset_version=OPSET,
            external_data=False,
            verbose=False,
        )
        assert translated is not None
        model: onnx.ModelProto = translated.model_proto
    except Exception as error:  # whatever the exporter raises of somebody's network
        raise cannot("ONNX", error) from error
    _tidy(model)
    onnx.helper.set_model_props(model, {key: _text(value) for key, value in about.items()})
    onnx.checker.check_model(model, full_check=True)
    write_atomically(path, model.SerializeToString(deterministic=True))


def opset(path: Path) -> int:
    """Return the version of the standard operators that a file is written in."""
    import onnx

    found = onnx.load(path, load_external_data=False).opset_import
    return int(next(entry.version for entry in found if entry.domain in ("", "ai.onnx")))


def runner(path: Path) -> Runner:
    """Open a file with ONNX Runtime on the CPU, with as many threads as torch has."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.log_severity_level = 3  # errors
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])

    def run(images: Images) -> Logits:
        logits: Logits = session.run([OUTPUT], {INPUT: images})[0]
        return logits

    return run


def quantize(source: Path, path: Path, *, images: Images) -> None:
    """Write the int8 form of a file: weights by channel, activations by the ranges that these pictures span.

    Args:
        source: a float32 file of ours.
        path: of the file.
        images: to calibrate with.
    """
    import onnx
    from onnxruntime import quantization
    from onnxruntime.quantization import shape_inference

    class Reader(quantization.CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            self._batches = iter(np.array_split(images, max(1, len(images) // CALIBRATION_BATCH)))

        def get_next(self) -> dict[str, Images] | None:
            batch = next(self._batches, None)
            return None if batch is None else {INPUT: batch}

    quiet = logging.getLogger().level
    with TemporaryDirectory() as folder:
        ready, result = Path(folder, "ready.onnx"), Path(folder, "int8.onnx")
        try:
            logging.getLogger().setLevel(logging.ERROR)  # it speaks of its own options, in the root's log
            shape_inference.quant_pre_process(source, ready, skip_symbolic_shape=True)
            quantization.quantize_static(
                ready,
                result,
                Reader(),
                quant_format=quantization.QuantFormat.QDQ,
                activation_type=quantization.QuantType.QUInt8,
                weight_type=quantization.QuantType.QInt8,
                per_channel=True,
            )
        finally:
            logging.getLogger().setLevel(quiet)
        model = onnx.load(result)
    about = {entry.key: entry.value for entry in onnx.load(source).metadata_props}
    onnx.helper.set_model_props(model, {**about, "precision": "int8"})
    onnx.checker.check_model(model)
    write_atomically(path, model.SerializeToString(deterministic=True))


def _text(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _tidy(model: "onnx.ModelProto") -> None:
    """Name the batch, and leave out what only the exporter had to know, such as which code each node came from."""
    graph = model.graph
    symbol = graph.input[0].type.tensor_type.shape.dim[0].dim_param
    for value in (*graph.input, *graph.output):
        for dim in value.type.tensor_type.shape.dim:
            if dim.dim_param == symbol:
                dim.dim_param = BATCH
    del graph.value_info[:]  # in terms of the old name; every runtime infers them anew
    described: Sequence[Any] = (*graph.input, *graph.output, *graph.initializer, *graph.node, *model.functions)
    inner = [node for function in model.functions for node in function.node]
    for part in (graph, *described, *inner):
        del part.metadata_props[:]
        part.doc_string = ""
