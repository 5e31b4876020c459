"""Devices, precisions and ways of executing that cannot be had."""

import pytest

from app.learning.devices import kinds


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("cuda", ("sees no NVIDIA or AMD GPU", "the torch built for CUDA")),
        ("mps", ("sees no Apple GPU", "macOS")),
        ("hpu", ("needs the package habana_frameworks", "install habana-torch-plugin")),
        ("xla", ("needs the package torch_xla", "install torch_xla[tpu]")),
    ],
)
def test_a_device_that_is_not_there(job, refused, kind, words):
    if kind == kinds.torchs_own() or kinds.installed(kind):
        pytest.skip(f"this machine has {kind}")
    job.edit(('"cpu"', f'"{kind}"'))
    refused(job.run(), f'[run] device = "{kind}"', *words, 'Or say "auto" or "cpu"', code=1)


def test_a_kind_of_device_that_nobody_knows(job, refused):
    job.edit(('"cpu"', '"tpu"'))
    refused(job.run(), '[run]: device = "tpu"', '"xla"')


def test_graphs_of_what_is_not_compiled(job, refused):
    job.edit(('device = "cpu"', 'device = "cpu"\ncuda_graphs = true'))
    refused(job.run(), "[run]", "cuda_graphs = true", "compile = true")


def test_a_precision_that_is_none(job, refused):
    job.edit(('device = "cpu"', 'device = "cpu"\nprecision = "fp16"'))
    refused(job.run(), '[run]: precision = "fp16"', '"tf32"', '"bf16"')
