"""Networks that cannot be exported, or not as they should be: one sentence, and no file."""

import sys

import numpy as np
import pytest

pytest.importorskip("onnx")
EXPORT = '\n[[phase]]\nkind = "export"\nname = "deployed"\n'
BRANCHES = """
from torch import nn

class Branches(nn.Module):
    def __init__(self, outputs):
        super().__init__()
        self.linear = nn.Linear(16, outputs)
    def forward(self, inputs):
        outputs = self.linear(inputs.flatten(1))
        return outputs * 2 if float(outputs.sum()) > 0 else outputs

def branches(sample_shape, outputs):
    return Branches(outputs)

class Fixed(Branches):
    def forward(self, inputs):
        return self.linear(inputs.reshape(len(inputs), 16))

def fixed(sample_shape, outputs):
    return Fixed(outputs)
"""


def export(job, text="", data=""):
    job.edit((job.input.read_text()[job.input.read_text().index('\n[[phase]]\nkind = "evaluate"') :], EXPORT + text))
    job.edit(('targets = "labels"\n', f'targets = "labels"\n{data}'))
    return job.run()


def test_other_numbers_are_not_written(job, refused):
    told = export(job, "tolerance = 1e-12\n")
    refused(told, "deployed.onnx gives other numbers", "tolerance = 1e-12", "not written", code=1)
    assert list((job.results / "exports").iterdir()) == []


@pytest.mark.parametrize(("function", "word"), [("branches", "does not depend on values"), ("fixed", "x.shape[0]")])
def test_a_network_that_cannot_be_followed_is_told(job, refused, function, word):
    (job.folder / "nets.py").write_text(BRANCHES)
    job.edit(('kind = "mlp"\nwidths = [8]', f'kind = "nets.py:{function}"'))
    refused(export(job), '"deployed"', "torch.export cannot follow this network", word)


def test_missing_packages_are_told_before_the_first_phase(job, refused, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    refused(export(job), '"deployed"', "not installed: onnxscript", "phalanx-hpc[onnx]")
    assert not (job.results / "networks").exists()


def test_an_empty_part_is_told(job, refused):
    refused(export(job, data="test = 0\n"), "the test part of 240 samples is empty", "another part")


def test_int8_is_made_of_onnx(job, refused):
    refused(export(job, 'formats = ["weights"]\nint8 = true\n'), "int8 = true", '"onnx"')


def test_networks_of_other_data_are_refused(trained, refused):
    trained.edit((f'folder = "{trained.results}"', f'folder = "{trained.folder / "other"}"'))
    trained.store(images=np.zeros((240, 5, 5), "f4"))
    told = export(trained, f'network = "{trained.results}/networks/first.h5"\n')
    refused(told, "first.h5", "(4, 4)", "(5, 5)")


def test_a_damaged_network_is_told(trained, refused):
    path = trained.results / "networks" / "first.h5"
    content = bytearray(path.read_bytes())
    content[-10] ^= 1
    other = trained.folder / "copy.h5"
    other.write_bytes(content)
    refused(export(trained, 'network = "copy.h5"\n'), "copy.h5", "damaged")
