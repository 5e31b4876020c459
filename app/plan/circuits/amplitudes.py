"""A state from its amplitudes: uniformly controlled rotations, each a chain of rotations and cx.

Mottonen, Vartiainen, Bergholm, Salomaa, Quant. Inf. Comp. 5, 467 (2005), arXiv:quant-ph/0407010.
"""

import cmath
import math
from collections.abc import Sequence

from app.plan.circuits.circuit import Circuit, Gate

MOST_AMPLITUDES = 2**20


def amplitude_embedding(amplitudes: Sequence[complex | Sequence[float]]) -> Circuit:
    """From |0...0> the state with these amplitudes, normalised; zeros are added up to a power of two.

    A complex amplitude is a complex number or a pair [real, imaginary]. The global phase is right too.
    Raises ValueError for a list that is empty, too long, zero or not finite.
    """
    state = _normalised(amplitudes)
    qubits = max(1, (len(state) - 1).bit_length())
    state += [0j] * ((1 << qubits) - len(state))
    sizes = [abs(value) for value in state]
    phases = [cmath.phase(value) if value else 0.0 for value in state]
    gates: list[Gate] = []
    # Downwards: qubit q splits each group of 2^(q+1) neighbours in two, knowing the qubits above it.
    for target in reversed(range(qubits)):
        norms = _norms(sizes, 1 << target)
        turns = [2 * math.atan2(norms[place + 1], norms[place]) for place in range(0, len(norms), 2)]
        gates += _multiplexed("ry", turns, target, qubits)
    if any(phases):
        for target in range(qubits):
            pairs = range(0, len(phases), 2)
            gates += _multiplexed("rz", [phases[place + 1] - phases[place] for place in pairs], target, qubits)
            phases = [(phases[place] + phases[place + 1]) / 2 for place in pairs]
        gates.append(Gate("gphase", (), (phases[0],)))
    return Circuit(qubits, tuple(gates), name="amplitude_embedding")


def _normalised(amplitudes: Sequence[complex | Sequence[float]]) -> list[complex]:
    if not isinstance(amplitudes, Sequence) or isinstance(amplitudes, str) or not amplitudes:
        raise ValueError("amplitudes: expected a list of numbers")
    if len(amplitudes) > MOST_AMPLITUDES:
        raise ValueError(f"amplitudes: found {len(amplitudes)}; at most {MOST_AMPLITUDES} are supported")
    state: list[complex] = []
    for value in amplitudes:
        try:
            number = complex(*value) if isinstance(value, list | tuple) else complex(value)  # type: ignore[arg-type]
        except (TypeError, ValueError):
            raise ValueError(f"amplitudes: found {value!r}; expected numbers or pairs [real, imaginary]") from None
        if not cmath.isfinite(number):
            raise ValueError(f"amplitudes: found {value!r}; expected finite numbers")
        state.append(number)
    largest = max(max(abs(value.real), abs(value.imag)) for value in state)
    if largest == 0:
        raise ValueError("amplitudes: all are zero; expected at least one other")
    state = [value / largest for value in state]
    norm = math.sqrt(math.fsum(value.real**2 + value.imag**2 for value in state))
    return [value / norm for value in state]


def _norms(sizes: list[float], group: int) -> list[float]:
    """The norm of each run of `group` neighbours."""
    return [math.hypot(*sizes[place : place + group]) for place in range(0, len(sizes), group)]


def _multiplexed(name: str, angles: list[float], target: int, qubits: int) -> list[Gate]:
    """Rotate the target by angles[k], k the value of the qubits above it: 2^n rotations with a cx after each."""
    turns = _spread(angles)
    if not any(turns):
        return []
    if len(turns) == 1:
        return [Gate(name, (target,), (turns[0],))]
    gates: list[Gate] = []
    for step, angle in enumerate(turns):
        if angle:
            gates.append(Gate(name, (target,), (angle,)))
        # The bit in which the Gray codes of this step and the next differ; the last step goes back to 0.
        changed = min(((step + 1) & -(step + 1)).bit_length() - 1, qubits - target - 2)
        gates.append(Gate("x", (target,), (), (target + 1 + changed,)))
    return gates


def _spread(angles: list[float]) -> list[float]:
    """The angles between the cx: turns[step] = mean over k of (-1)^(k . gray(step)) angles[k]. A Walsh transform."""
    turned = list(angles)
    width = 1
    while width < len(turned):
        for start in range(0, len(turned), 2 * width):
            for place in range(start, start + width):
                low, high = turned[place], turned[place + width]
                turned[place], turned[place + width] = (low + high) / 2, (low - high) / 2
        width *= 2
    return [turned[step ^ step >> 1] for step in range(len(turned))]
