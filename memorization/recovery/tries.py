"""What `solve` tries in turn, and for whom: the starting points of a recovery."""

from dataclasses import dataclass, replace
from enum import Enum

from memorization.components import SettingError
from memorization.degradations.checks import check_whole
from memorization.recovery.knowledge.estimate import OperatorKnowledge
from memorization.recovery.problem import Access, Method

Source = Enum("Source", ["point", "bank", "settled"])  # starting point, image of the bank, what an answer settles at
LATE = 0.8  # share of the iterations that a start from the bank passes over: its image may be the answer as it is
FORMED = 3e-3  # train loss above which no image is held as a fixed point, so that no restart would find one
RECALLED = 3  # images of a bank that are tried where restarts are automatic


@dataclass(frozen=True)
class Start:
    """One try at the images."""

    index: int = 0  # of the starting point, or of the image of the bank, the best first; as many as those if settled
    hypothesis: int | None = 0  # of the operator knowledge; None: that of the best answer so far
    source: Source = Source.point

    def number(self, hypotheses: int) -> int:
        """As `Recovery.start` counts it."""
        return self.index * hypotheses + (self.hypothesis or 0) if self.source is Source.point else -1 - self.index

    def first_iteration(self, method: Method) -> int:
        """That with which it begins."""
        late = self.source is Source.bank and method.access != Access.none
        return int(LATE * method.max_iterations) if late else 0


AGAIN = Start(hypothesis=None, source=Source.settled)
AUTOMATIC = (AGAIN, Start(0, 1), Start(0, 2), AGAIN, Start(1, None), AGAIN)  # after the first and the recalled ones


@dataclass(frozen=True)
class Tries:
    """How often an image is tried with `method` and `knowledge`, as `solve` is told.

    starts: starting points, 0 for automatic. recall: images of a bank, None for automatic.
    Raises `SettingError` for numbers that cannot be given to the method.
    """

    method: Method
    knowledge: OperatorKnowledge | None
    starts: int = 0
    recall: int | None = None

    def __post_init__(self) -> None:
        recall = 0 if self.recall is None else self.recall
        for name, value, least in (("starts", self.starts, 1), ("recall", recall, 0)):
            check_whole(name, value, 0)
            if value > least and self.method.access == Access.none:
                raise SettingError(name, value, f"{type(self.method).__name__} has one start: set it to {least}")

    @property
    def restarts(self) -> bool:
        """Are images that are not solved started again by themselves?

        Not unless method and knowledge, others' included, both say so.
        """
        parts = (self.method, self.knowledge)
        return not self.starts and all(getattr(part, "restarts", False) for part in parts)

    @property
    def asks_operator(self) -> bool:
        """Does anything ask what `H` is: the method in its steps, or to make and to choose among several starts?"""
        return self.method.uses_operator or self.starts > 1 or bool(self.recall)

    @property
    def recalled(self) -> int | None:
        """`recall`, or 0 where it is automatic and images are not started again: what a signature has of it."""
        return 0 if self.recall is None and not self.restarts else self.recall

    def recalls(self, loss: float | None = None) -> int:
        """How many images of a bank are tried, at a train loss (None: unknown)."""
        if self.recalled is not None:
            return self.recalled
        return RECALLED if _is_formed(loss) else 0

    def plan(self, loss: float | None = None) -> list[Start]:
        """What is tried in turn, at a train loss: recalled images come after the first start."""
        hypotheses = self.knowledge.hypotheses if self.knowledge else 1
        first, *others = [Start(*divmod(number, hypotheses)) for number in range(self.starts or 1)]
        recalls = self.recalls(loss)
        if self.restarts and _is_formed(loss):
            others = [replace(s, index=recalls) if s.source is Source.settled else s for s in AUTOMATIC]
        return [first, *(Start(k, source=Source.bank) for k in range(recalls)), *others]

    @property
    def iterations(self) -> int:
        """The most iterations that `solve` takes with an image, over all starts."""
        return self.method.max_iterations * len(self.plan())


def _is_formed(loss: float | None) -> bool:
    return loss is None or not loss > FORMED
