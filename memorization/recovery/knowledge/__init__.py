"""What a method may know of the operator: the truth, or an estimate that is renewed with the image; one file each."""

from typing import Any

from memorization.components import Registry
from memorization.recovery.knowledge.alternating import Alternating
from memorization.recovery.knowledge.estimate import Estimate, OperatorKnowledge
from memorization.recovery.knowledge.estimated import Estimated, Family
from memorization.recovery.knowledge.known import Known
from memorization.recovery.knowledge.robust import Robust

OPERATORS: Registry[Any] = Registry(
    "knowledge", {"known": Known, "alternating": Alternating, "robust": Robust, "estimated": Estimated}
)

__all__ = ["OPERATORS", "Alternating", "Estimate", "Estimated", "Family", "Known", "OperatorKnowledge", "Robust"]
