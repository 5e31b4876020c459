"""How the world is arranged: replicas x stages."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Grid:
    """`ranks` ranks as replicas of `stages` stages; the stages of a replica are neighbouring ranks."""

    ranks: int
    stages: int = 1

    @property
    def replicas(self) -> int:
        """Whole copies of the network."""
        return self.ranks // self.stages

    def replica(self, rank: int) -> int:
        """The replica a rank belongs to."""
        return rank // self.stages

    def stage(self, rank: int) -> int:
        """The stage of its replica a rank holds."""
        return rank % self.stages

    def __str__(self) -> str:
        return f"{self.replicas}x{self.stages}"


def grid_problems(ranks: int, stages: int) -> list[str]:
    """Why `ranks` cannot be arranged in pipelines of `stages`, as sentences."""
    if stages > 1:
        return [f"[grid] stages = {stages}: this version does not cut networks by layer yet; leave stages at 1."]
    if ranks % stages:
        fitting = ", ".join(str(s) for s in range(1, ranks + 1) if ranks % s == 0)
        return [
            f"[grid] stages = {stages} does not divide {ranks} ranks (replicas x stages = ranks); it may be {fitting}."
        ]
    return []
