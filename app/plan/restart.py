"""What may differ between the input a run began with and the input it goes on with."""

from collections.abc import Collection, Iterator, Mapping
from typing import Any

# Resources and what is only shown: they change who computes or when something is said, not the numbers asked for.
FREE = (
    "run.folder",
    "run.device",
    "run.compile",
    "run.cuda_graphs",
    "run.memory_format",
    "run.threads",
    "run.watchdog",
    "run.log_seconds",
    "run.trace",
    "run.measure",
    "run.stop",
    "grid.",
)
FREE_IN_PHASE = ("checkpoint_steps", "checkpoint_minutes")


def differences(before: dict[str, Any], now: dict[str, Any], begun: Collection[str]) -> list[str]:
    """The keys that differ and may not, as "key: was A, is B"; phases that have not begun are free.

    `before` and `now` are resolved inputs (plain dicts as from TOML), `begun` names phases begun or done.
    """
    old, new = _flat(before, begun), _flat(now, begun)
    return [
        f"{key}: was {_shown(old.get(key))}, is {_shown(new.get(key))}"
        for key in dict.fromkeys([*old, *new])
        if old.get(key) != new.get(key) and not _free(key)
    ]


def other_code(before: Mapping[str, str], now: Mapping[str, str]) -> list[str]:
    """What computes otherwise than when the run began: "torch: was 2.13.0, is 2.14.0"."""
    return [f"{name}: was {before[name]}, is {one}" for name, one in now.items() if before.get(name, one) != one]


def _free(key: str) -> bool:
    return key.startswith(FREE) or (key.startswith("phase.") and key.endswith(FREE_IN_PHASE))


def _flat(tables: dict[str, Any], begun: Collection[str]) -> dict[str, Any]:
    """{"data.inputs": ..., "phase.teacher.epochs": ...} without phases that have not begun.

    The order of phases that have begun is itself a key.
    """
    plain = {key: value for key, value in tables.items() if key != "phase"}
    phases = [p for p in tables["phase"] if p["name"] in begun]
    flat = dict(_leaves(plain, ""))
    if phases:
        flat["the order of phases"] = [p["name"] for p in phases]
    for phase in phases:
        flat |= dict(_leaves(phase, f"phase.{phase['name']}."))
    return flat


def _leaves(table: dict[str, Any], prefix: str) -> Iterator[tuple[str, Any]]:
    for key, value in table.items():
        if isinstance(value, dict):
            yield from _leaves(value, f"{prefix}{key}.")
        else:
            yield prefix + key, value


def _shown(value: Any) -> str:
    return "not given" if value is None else repr(value)
