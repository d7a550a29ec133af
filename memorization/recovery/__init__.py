"""Recovery of degraded images: the methods, what they know of the operator, and the one solver that drives them."""

from memorization.recovery.anderson import Anderson
from memorization.recovery.energy import Energy
from memorization.recovery.estimated import Estimated
from memorization.recovery.inpaint import Inpaint
from memorization.recovery.iterate import Iterate
from memorization.recovery.null_space import NullSpace
from memorization.recovery.operator import Alternating, Known, OperatorKnowledge
from memorization.recovery.pnp_admm import PnPADMM
from memorization.recovery.problem import Autoencoder, Method, Problem
from memorization.recovery.robust import Robust
from memorization.recovery.solver import Recovery, asks_operator, solve

METHODS = {
    "iterate": Iterate,
    "pnp_admm": PnPADMM,
    "null_space": NullSpace,
    "energy": Energy,
    "inpaint": Inpaint,
}
OPERATORS = {"known": Known, "alternating": Alternating, "robust": Robust, "estimated": Estimated}

__all__ = [
    "METHODS",
    "OPERATORS",
    "Alternating",
    "Anderson",
    "Autoencoder",
    "Energy",
    "Estimated",
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
    "asks_operator",
    "solve",
]
