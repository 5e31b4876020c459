"""A circuit run once: expectation, probabilities, samples and state, written to run.h5 and states/."""

from time import perf_counter

import numpy as np

from app.circuits.lanczos import lowest
from app.errors import InputError
from app.phases.context import Context
from app.phases.quantum.asked import Asked
from app.phases.quantum.backends import BACKENDS
from app.plan.circuits.circuit import Circuit
from app.plan.circuits.qasm import write_qasm3
from app.storage.tree import Tree

SHOWN = 4  # of the outcomes that came most often, in the log


def simulate(context: Context, asked: Asked) -> dict[str, float]:
    """Run the phase's circuit; the expectation and the seconds. Collective over: world."""
    phase = asked.phase
    backend = BACKENDS[phase.backend](context, asked)
    begun = perf_counter()
    found = backend.simulate()
    context.everyone.barrier_asleep()  # ranks that hold nothing leave their cores to those that do
    seconds = perf_counter() - begun
    numbers = context.everyone.bcast({key: one for key, one in found.items() if isinstance(one, float)})
    numbers |= exact_value(context, asked)
    context.alone(lambda: _write(context, asked, {**found, **numbers}))
    if context.speaks:
        context.log.info("\n".join(_lines(asked, found, numbers, seconds)))
    return {**numbers, "seconds": seconds}


def exact_value(context: Context, asked: Asked) -> dict[str, float]:
    """The observable's lowest value, where the phase wants it. Collective over: world."""
    if asked.phase.exact != "diagonalise" or asked.observable is None:
        return {}
    threads = context.plan.input.run.threads or context.world.threads
    value = lowest(asked.observable, asked.circuit.qubits, threads) if context.speaks else 0.0
    context.everyone.barrier_asleep()
    return {"exact": context.everyone.bcast(value)}


def described(asked: Asked) -> Tree:
    """What every quantum phase writes of itself."""
    phase, circuit = asked.phase, asked.circuit
    return {
        "kind": phase.kind,
        "task": phase.task,
        "backend": phase.backend,
        "precision": phase.precision,
        "qubits": circuit.qubits,
        "parameters": circuit.parameters,
        "operations": len(circuit.operations),
        "ranks": asked.held.ranks,
        "circuit": _text(circuit),
    }


def _text(circuit: Circuit) -> str:
    try:
        return write_qasm3(circuit)
    except InputError as error:
        return f"// {' '.join(error.problems)}"


def _write(context: Context, asked: Asked, found: Tree) -> None:
    table: Tree = described(asked) | {"values": asked.values} | found
    context.results.update({"phases": {asked.phase.name: table}}, context.provenance_of(asked.phase.name))


def _lines(asked: Asked, found: Tree, numbers: dict[str, float], seconds: float) -> list[str]:
    phase, circuit = asked.phase, asked.circuit
    lines = [f"{phase.name}: {circuit.qubits} qubits, {len(circuit.operations)} operations in {seconds:.3g} s"]
    lines += [f"  {key:<18} {value:+.10f}" for key, value in numbers.items()]
    traffic = found.get("exchanges")
    if isinstance(traffic, dict) and asked.held.ranks > 1:
        lines.append(
            f"  exchanges          {traffic['done']} (expected {traffic['expected']}), {traffic['bytes']:,} bytes sent"
            f" by each of {asked.held.ranks} ranks (expected {traffic['expected_bytes']:,})"
        )
    samples = found.get("samples")
    if isinstance(samples, dict):
        counts, words = np.asarray(samples["counts"]), list(samples["bits"])  # type: ignore[arg-type]
        most = sorted(range(len(words)), key=lambda k: (-counts[k], words[k]))[:SHOWN]
        shown = ", ".join(f"{words[k]} {counts[k]}" for k in most)
        lines.append(f"  samples            {shown}{', ...' if len(words) > SHOWN else ''}")
    if phase.save_state:
        lines.append(f"  state              states/{phase.name}")
    return lines
