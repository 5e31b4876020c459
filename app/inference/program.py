"""Programs of torch.export in .pt2 files: read again by torch.export.load, without the code of the network."""

import io
from collections.abc import Mapping

import numpy as np
import torch

from app.inference.comparing import Answer
from app.inference.deployed import quietly


def program_file(program: torch.export.ExportedProgram, metadata: Mapping[str, str]) -> bytes:
    """The content of a .pt2 file; each text of the metadata is an extra file in it. Collective over: none."""
    buffer = io.BytesIO()
    with quietly():
        torch.export.save(program, buffer, extra_files=dict(metadata))
    return buffer.getvalue()


def program_answer(content: bytes, *, tokens: bool) -> Answer:
    """The outputs of a .pt2 file that this program wrote just now: torch reads parts of such files as pickles.

    Collective over: none.
    """
    with quietly():
        module = torch.export.load(io.BytesIO(content)).module()
    dtype = torch.int64 if tokens else torch.float32

    def answer(rows: np.ndarray) -> np.ndarray:
        with torch.no_grad():
            return module(torch.from_numpy(np.array(rows)).to(dtype)).float().numpy()

    return answer
