"""Recovery of degraded images: the methods, what they know of the operator, and the one solver that drives them."""

from typing import Any

from memorization.architectures.autoencoder import Autoencoder
from memorization.components import Registry
from memorization.recovery.knowledge.alternating import Alternating
from memorization.recovery.knowledge.estimate import OperatorKnowledge
from memorization.recovery.knowledge.estimated import Estimated, Family
from memorization.recovery.knowledge.known import Known
from memorization.recovery.knowledge.robust import Robust
from memorization.recovery.methods.anderson import Anderson
from memorization.recovery.methods.energy import Energy
from memorization.recovery.methods.inpaint import Inpaint
from memorization.recovery.methods.iterate import Iterate
from memorization.recovery.methods.null_space import NullSpace
from memorization.recovery.methods.pnp_admm import PnPADMM
from memorization.recovery.problem import Access, Method, Problem
from memorization.recovery.solver import Recovery, Status, asks_operator, solve

METHODS: Registry[Any] = Registry(
    "methods",
    {
        "iterate": Iterate,
        "pnp_admm": PnPADMM,
        "null_space": NullSpace,
        "energy": Energy,
        "inpaint": Inpaint,
    },
)
OPERATORS: Registry[Any] = Registry(
    "knowledge", {"known": Known, "alternating": Alternating, "robust": Robust, "estimated": Estimated}
)

__all__ = [
    "METHODS",
    "OPERATORS",
    "Access",
    "Alternating",
    "Anderson",
    "Autoencoder",
    "Energy",
    "Estimated",
    "Family",
    "Inpaint",
    "Iterate",
    "Known",
    "Method",
    "NullSpace",
    "OperatorKnowledge",
    "PnPADMM",
    "Problem",
    "Recovery",
    "Robust",
    "Status",
    "asks_operator",
    "solve",
]
