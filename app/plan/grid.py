"""How the world is arranged: replicas x stages, and which chunks of the network a stage holds."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Grid:
    """`ranks` ranks as replicas of `stages` stages; the stages of a replica are neighbouring ranks.

    Chunk v of the network, a run of consecutive layers, lives on stage v % stages (Narayanan et al., SC 2021).
    """

    ranks: int
    stages: int = 1
    chunks_per_stage: int = 1

    @property
    def replicas(self) -> int:
        """Whole copies of the network."""
        return self.ranks // self.stages

    @property
    def chunks(self) -> int:
        """Pieces the network is cut into."""
        return self.stages * self.chunks_per_stage

    def replica(self, rank: int) -> int:
        """The replica a rank belongs to."""
        return rank // self.stages

    def stage(self, rank: int) -> int:
        """The stage of its replica a rank holds."""
        return rank % self.stages

    def rank(self, replica: int, stage: int) -> int:
        """The rank that holds a stage of a replica."""
        return replica * self.stages + stage

    def stage_of(self, chunk: int) -> int:
        """The stage that holds a chunk."""
        return chunk % self.stages

    def chunks_of(self, stage: int) -> range:
        """The chunks a stage holds."""
        return range(stage, self.chunks, self.stages)

    def __str__(self) -> str:
        return f"{self.replicas}x{self.stages}"


def grid_problems(ranks: int, stages: int) -> list[str]:
    """Why `ranks` cannot be arranged in pipelines of `stages`, as sentences."""
    if ranks % stages == 0:
        return []
    fitting = ", ".join(f"{s} ({ranks // s} x {s})" for s in range(1, ranks + 1) if ranks % s == 0)
    below = ranks - ranks % stages
    near = f"{below} or {below + stages}" if below else f"{stages}"
    return [
        f"[grid] stages = {stages} does not divide {ranks} ranks: replicas x stages = ranks, and no whole number x"
        f" {stages} is {ranks}. stages may be (replicas x stages) {fitting}; or start {near} ranks."
    ]
