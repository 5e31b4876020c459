"""The keys of the quantum phase."""

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, ConfigDict, Field, model_validator

from app.inputfile.kinds import Count, Fraction, Name, PathText, Positive, Table
from app.inputfile.networks import FUNCTION

Number = Annotated[float, Field(ge=-1e6, le=1e6)]


class CircuitTable(Table):
    """Where a circuit comes from: one of template, file and function; other keys are the template's own."""

    model_config = ConfigDict(extra="allow", frozen=True, strict=True, allow_inf_nan=False)

    template: str | None = Field(None, description="a circuit by name; its numbers stand beside it")
    file: PathText | None = Field(None, description="OpenQASM 2 or 3, relative to this input file")
    function: Annotated[PathText, Field(pattern=FUNCTION)] | None = Field(
        None, description='"file.py:function" that returns a Circuit, relative to this input file'
    )
    options: dict[str, Any] = Field({}, description="passed to the function by name")

    @model_validator(mode="after")
    def _one(self) -> "CircuitTable":
        given = [key for key in ("template", "file", "function") if getattr(self, key) is not None]
        if len(given) != 1:
            raise ValueError(f"one of template, file and function; it has {' and '.join(given) or 'none'}")
        if self.numbers and self.template is None:
            raise ValueError(
                f"no key {', '.join(self.numbers)}: further keys go with a template, not with a {given[0]}"
            )
        if self.options and self.function is None:
            raise ValueError(f"no options: they go with a function, not with a {given[0]}")
        return self

    @property
    def numbers(self) -> dict[str, Any]:
        """The template's own keys."""
        return dict(self.model_extra or {})

    @property
    def source(self) -> str:
        """In a word: what it is made from."""
        return self.template or self.file or str(self.function)


class Noise(Table):
    """Errors of a machine, as probabilities."""

    one_qubit: Fraction = Field(0.0, description="depolarising: that X, Y or Z acts after a gate on one qubit")
    two_qubit: Fraction = Field(0.0, description="depolarising: that a Pauli string acts after a gate on more qubits")
    amplitude_damping: Fraction = Field(0.0, description="on each qubit of a gate, after it: that a 1 decays")
    phase_damping: Fraction = Field(0.0, description="on each qubit of a gate, after it")
    read_1_for_0: Fraction = Field(0.0, description="that a measurement of 0 reads 1")
    read_0_for_1: Fraction = Field(0.0, description="that a measurement of 1 reads 0")


def _observable(value: Any) -> Any:
    """A model with its numbers, or Pauli strings with coefficients; checked here, as a union would report both."""
    if isinstance(value, dict) and isinstance(value.get("model"), str):
        return value
    numbers = isinstance(value, dict) and all(
        isinstance(one, int | float) and not isinstance(one, bool) for one in value.values()
    )
    if not value or not numbers:
        raise ValueError('a table such as {"Z0 Z1" = 0.5, "X0" = -1.0} or {model = "ising", qubits = 8}')
    return value


def _values(value: Any) -> Any:
    if isinstance(value, str):
        return value
    if not isinstance(value, list | tuple) or any(
        isinstance(one, bool) or not isinstance(one, int | float) for one in value
    ):
        raise ValueError("a list of numbers, or the name of an earlier quantum phase that minimises")
    return tuple(float(one) for one in value)


class Quantum(Table):
    """Run a quantum circuit on a state vector spread over the ranks, or find the parameters of lowest energy."""

    kind: Literal["quantum"]
    name: Name = Field(description="names the phase, its state and its tables")
    task: Literal["simulate", "minimise"] = Field("simulate", description="minimise: the observable, by its gradient")
    backend: Literal["statevector", "qiskit"] = Field("statevector", description="qiskit: its primitives, with Aer")
    device: Annotated[str, Field(pattern=r"^[\w.]+:[A-Za-z_]\w*$")] | None = Field(
        None, description='of backend qiskit: "package.module:function" that returns a BackendV2; default Aer'
    )
    precision: Literal["complex128", "complex64"] = Field("complex128", description="of an amplitude")
    circuit: CircuitTable = Field(
        description="a template with its numbers, a file of OpenQASM, or a function",
        examples=[{"template": "ghz", "qubits": 4}],
    )
    values: Annotated[tuple[float, ...] | str, BeforeValidator(_values)] | None = Field(
        None, description="of the circuit's parameters; or the name of an earlier phase that found them"
    )
    observable: Annotated[dict[str, Any], BeforeValidator(_observable)] | None = Field(
        None,
        description="a sum of Pauli strings with coefficients, or a model by name",
        examples=[{"Z0 Z1": 0.5, "X0": -1.0}],
    )
    exact: Literal["none", "diagonalise"] = Field(
        "none", description="the observable's lowest value beside what is found, by Lanczos iteration"
    )
    shots: Annotated[int, Field(ge=0, le=2**31)] = Field(
        0, description="samples of all qubits, or of each measurement of an energy; 0: none, energies are exact"
    )
    probabilities: Annotated[tuple[Count, ...], Field(strict=False, max_length=20)] = Field(
        (), description="qubits whose probabilities are written, the first the least significant bit"
    )
    save_state: bool = Field(False, description="write the state to states/NAME")
    noise: Noise | None = Field(None, description="errors of a machine, by trajectories")
    trajectories: Annotated[int, Field(ge=2, le=2**31)] = Field(
        1000, description="with noise: random runs whose mean is taken"
    )
    gradient: Literal["adjoint", "shift"] | None = Field(
        None, description="default adjoint; of samples and of backend qiskit shift"
    )
    optimizer: Literal["sgd", "adam", "adamw", "lamb", "lars"] = Field("adam", description="of minimise")
    rate: Annotated[float, Field(gt=0, le=1e3)] = Field(0.1, description="learning rate")
    steps: Positive = Field(100, description="steps of the optimizer, at most")
    tolerance: Annotated[float, Field(ge=0, le=1e3)] = Field(
        0.0, description="stop when no component of the gradient is larger"
    )
    start: Literal["random", "zeros"] = Field("random", description="values of the parameters before the first step")
    spread: Annotated[float, Field(gt=0, le=4)] = Field(0.1, description="of start random: between -spread and spread")
    checkpoint_steps: Count = Field(0, description="steps between checkpoints; 0: by minutes alone")
    checkpoint_minutes: Annotated[float, Field(ge=0, le=1e5)] = Field(
        5.0, description="minutes between checkpoints; 0: by steps alone"
    )

    @property
    def gradient_by(self) -> str:
        """How gradients are computed."""
        return self.gradient or ("shift" if self.shots or self.backend == "qiskit" else "adjoint")

    @model_validator(mode="after")
    def _fits(self) -> "Quantum":
        problem = self._minimise_problem() if self.task == "minimise" else None
        problem = problem or self._backend_problem() or self._noise_problem()
        if self.exact == "diagonalise" and self.observable is None:
            problem = 'exact = "diagonalise" wants an observable'
        if problem:
            raise ValueError(problem)
        return self

    def _minimise_problem(self) -> str | None:
        if self.observable is None:
            return 'task = "minimise" wants an observable, the energy'
        if self.noise is not None:
            return 'noise goes with task = "simulate"'
        if isinstance(self.values, str):
            return 'values = "NAME" goes with task = "simulate"; give a list of numbers to start from'
        if self.gradient == "adjoint" and (self.shots or self.backend == "qiskit"):
            with_ = f"shots = {self.shots}" if self.shots else 'backend = "qiskit"'
            return f'gradient = "adjoint" needs the state itself, and {with_} does not give it; take gradient = "shift"'
        return None

    def _backend_problem(self) -> str | None:
        if self.backend == "statevector":
            return 'device goes with backend = "qiskit"' if self.device else None
        if self.save_state:
            return 'save_state goes with backend = "statevector"'
        if self.noise is not None:
            return 'noise goes with backend = "statevector"; a device of Qiskit brings its own'
        if self.probabilities and not self.shots:
            return 'probabilities with backend = "qiskit" are counted: give shots'
        return None

    def _noise_problem(self) -> str | None:
        if self.noise is not None and self.save_state:
            return "save_state: a circuit with noise ends in no single state"
        if self.noise is not None and self.observable is None and not self.shots:
            return "noise wants an observable, shots or both"
        if self.noise is not None and self.probabilities:
            return "probabilities of a circuit with noise are counted: give shots instead"
        return None


__all__ = ["CircuitTable", "Noise", "Quantum"]
