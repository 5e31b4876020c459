"""What `phalanx doctor` finds out about one thing."""

from typing import NamedTuple


class Finding(NamedTuple):
    """`text` says what is there; `advice` what to do; a run is impossible or wrong where it is `serious`."""

    subject: str
    text: str
    advice: str = ""
    serious: bool = False

    def lines(self, width: int) -> list[str]:
        """One line, and the advice on a second; subjects padded to `width`."""
        mark = "BAD " if self.serious else "note" if self.advice else "ok  "
        first = f"{mark}  {self.subject:<{width}}  {self.text}"
        return [first, f"{'':{len(mark) + width + 4}}-> {self.advice}"] if self.advice else [first]
