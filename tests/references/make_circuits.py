"""Make the mqt_*.qasm files of a folder with MQT Bench; the hand-written files beside them stay as they are.

pip install mqt.bench
python tests/references/make_circuits.py tests/references/circuits
"""

import re
import sys
from pathlib import Path

from mqt.bench import BenchmarkLevel, get_benchmark
from qiskit import QuantumCircuit, qasm2, qasm3, transpile

# Target-independent level: algorithm -> numbers of qubits.
INDEPENDENT = {
    "bmw_quark_cardinality": (4, 8),
    "bmw_quark_copula": (4, 6),
    "bv": (6, 12),
    "cdkm_ripple_carry_adder": (4, 8),
    "dj": (5, 10),
    "draper_qft_adder": (4, 8),
    "full_adder": (4, 8),
    "ghz": (3, 12),
    "graphstate": (5, 10),
    "grover": (3, 5),
    "half_adder": (5, 9),
    "hhl": (3, 5),
    "hrs_cumulative_multiplier": (5,),
    "modular_adder": (4, 6),
    "multiplier": (4, 8),
    "qaoa": (4, 10),
    "qft": (2, 5, 10),
    "qftentangled": (4, 8),
    "qnn": (2, 6),
    "qpeexact": (4, 8),
    "qpeinexact": (4, 8),
    "qwalk": (3, 5),
    "randomcircuit": (4, 8),
    "rg_qft_multiplier": (4,),
    "vbe_ripple_carry_adder": (4, 7),
    "vqe_real_amp": (4, 8),
    "vqe_su2": (4, 8),
    "vqe_two_local": (4, 8),
    "wstate": (3, 9),
}
# The same in OpenQASM 3; those with conditions on single bits can only be written so.
INDEPENDENT_3 = {
    "dynamic_qft": (4,),
    "graphstate": (6,),
    "grover": (4,),
    "iqpe": (5,),
    "qft": (6,),
    "qwalk": (4,),
    "vqe_su2": (5,),
    "wstate": (4,),
}
# The algorithm level, brought to these gates alone: algorithm -> numbers of qubits, gates.
BASIC = {
    "ghz": (4, ("rz", "sx", "x", "cx")),
    "qft": (4, ("rz", "sx", "x", "cz")),
    "qaoa": (6, ("u3", "cx")),
    "wstate": (5, ("rx", "ry", "rz", "rzz")),
}


def write(circuit: QuantumCircuit, file: Path, version: int) -> None:
    """One circuit as OpenQASM 2 or 3, with what and whose it is in its first line."""
    text = qasm2.dumps(circuit) if version == 2 else qasm3.dumps(circuit)
    # Qiskit puts addresses into the names of gates that come more than once.
    addresses = list(dict.fromkeys(re.findall(r"_(\d{12,})", text)))
    text = re.sub(r"_(\d{12,})", lambda match: f"_{addresses.index(match[1])}", text)
    file.write_text(f"// MQT Bench (MIT licence), {file.stem}\n{text.rstrip()}\n")
    print(file.name, file.stat().st_size)


def make(folder: Path) -> None:
    """Write every file. The angles of the variational circuits are MQT Bench's own, of a fixed seed."""
    for version, chosen in ((2, INDEPENDENT), (3, INDEPENDENT_3)):
        for name, sizes in chosen.items():
            for size in sizes:
                circuit = get_benchmark(name, BenchmarkLevel.INDEP, size)
                write(circuit, folder / f"mqt_{name}_{size}{'_v3' * (version == 3)}.qasm", version)
    for name, (size, gates) in BASIC.items():
        circuit = transpile(get_benchmark(name, BenchmarkLevel.ALG, size), basis_gates=list(gates), seed_transpiler=1)
        write(circuit, folder / f"mqt_{name}_{size}_{'_'.join(gates)}.qasm", 2)


if __name__ == "__main__":
    make(Path(sys.argv[1]))
