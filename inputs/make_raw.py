"""Makes inputs/raw: records of a simulated air-shower telescope as an observatory might hold them, in three formats.

    python inputs/make_raw.py

Each record is what is known of one camera image: the ellipse of its light, how much of it there was, where the
telescope looked, and what the particle was: a gamma ray, a hadron or a muon. 2023 is CSV, 2024 Parquet, 2025 NumPy;
`new.csv` are images of the next year, whose particles are not known. As in any archive some records are damaged and
some are there twice.
"""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet

PARTICLES = ("gamma", "hadron", "muon")
SHARES = (0.45, 0.4, 0.15)
YEARS = {2023: 7_000, 2024: 7_000, 2025: 6_000}
NEW = 3_000


def showers(count: int, first_id: int, random: np.random.Generator) -> dict[str, np.ndarray]:
    """Image parameters: of gammas slim and pointing at the source, of hadrons broad, of muons arcs."""
    particle = random.choice(len(PARTICLES), count, p=SHARES)
    by = lambda *values: np.array(values)[particle]  # noqa: E731
    size = np.exp(random.normal(by(5.8, 6.0, 5.2), by(0.7, 0.9, 0.3)))
    length = random.gamma(by(9.0, 6.0, 14.0), by(0.030, 0.062, 0.035)) * (size / 300) ** 0.12
    width = length * random.beta(by(6.0, 8.0, 3.0), by(9.0, 6.0, 14.0))
    alpha = np.abs(random.normal(0, by(11.0, 46.0, 52.0))) % 90
    distance = np.abs(random.normal(by(0.95, 1.05, 0.8), by(0.28, 0.42, 0.3)))
    zenith = random.uniform(5, 45, count)
    columns = {
        "size": size,
        "length": length,
        "width": width,
        "concentration": np.clip(0.75 - 0.08 * np.log(size) + random.normal(0, by(0.05, 0.07, 0.06)), 0.01, 0.99),
        "asymmetry": random.normal(by(0.12, 0.0, 0.0), by(0.22, 0.4, 0.3)),
        "skewness": random.normal(by(0.25, 0.05, 0.0), by(0.4, 0.6, 0.5)),
        "alpha": alpha,
        "distance": distance,
        "leakage": np.clip(random.exponential(by(0.02, 0.06, 0.03)), 0, 1),
        "islands": 1.0 + random.poisson(by(0.12, 0.9, 0.25)),
        "time_gradient": random.normal(by(6.0, 2.0, 0.3), by(2.5, 3.5, 1.2)),
        "zenith": zenith,
    }
    columns = {name: value.astype(np.float32) for name, value in columns.items()}
    return {
        "event": np.arange(first_id, first_id + count, dtype=np.int64),
        "quality": random.integers(0, 4, count).astype(np.int64),
        **columns,
        "particle": np.array(PARTICLES)[particle],
    }


def spoilt(columns: dict[str, np.ndarray], random: np.random.Generator) -> dict[str, np.ndarray]:
    """Some numbers are not finite, some records come a second time at the end."""
    count = len(columns["event"])
    for name in ("width", "time_gradient"):
        columns[name][random.choice(count, 6, replace=False)] = np.nan
    again = random.choice(count, 20, replace=False)
    return {name: np.concatenate([value, value[again]]) for name, value in columns.items()}


def main() -> None:
    """Write the four files."""
    folder = Path(__file__).parent / "raw"
    folder.mkdir(exist_ok=True)
    random = np.random.default_rng(2026)
    first, years = 1, {}
    for year, count in YEARS.items():
        years[year] = spoilt(showers(count - 20, first, random), random)
        first += count - 20
    pa.csv.write_csv(pa.table(years[2023]), folder / "2023.csv")
    pa.parquet.write_table(pa.table(years[2024]), folder / "2024.parquet", row_group_size=2_000, compression="zstd")
    np.savez_compressed(folder / "2025.npz", **years[2025])
    new = showers(NEW, first, random)
    del new["particle"]
    pa.csv.write_csv(pa.table(new), folder / "new.csv")


if __name__ == "__main__":
    main()
