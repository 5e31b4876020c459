"""The circuits that are compared with Aer, on one rank and on several."""

from tests.launch import TREE

TOLERANCE = 1e-10
# 200 circuits: qubits, how many, gates after the first layer
SIZES = [(n, 12, 60) for n in range(2, 13)] + [(n, 10, 50) for n in range(13, 17)] + [(n, 7, 40) for n in range(17, 21)]
FOLDER = TREE / "tests" / "references" / "circuits"
# Those that act on what they measured have no one final state.
FILES = [file for file in sorted(FOLDER.glob("mqt_*.qasm")) if "if (" not in file.read_text()]
