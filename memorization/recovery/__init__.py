"""Recovery of degraded images: the methods, what they know of the operator, and the one solver that drives them."""

from memorization.architectures.autoencoder import Autoencoder
from memorization.components import Status
from memorization.recovery.attempt import Recovery
from memorization.recovery.knowledge import OPERATORS, Alternating, Estimated, Family, Known, OperatorKnowledge, Robust
from memorization.recovery.methods import METHODS, Anderson, Energy, Inpaint, Iterate, NearestMember, NullSpace, PnPADMM
from memorization.recovery.problem import Access, Method, Problem
from memorization.recovery.solver import solve
from memorization.recovery.tries import Tries

__all__ = ["METHODS", "OPERATORS", "Access", "Alternating", "Anderson", "Autoencoder", "Energy", "Estimated", "Family"]
__all__ += ["Inpaint", "Iterate", "Known", "Method", "NearestMember", "NullSpace", "OperatorKnowledge", "PnPADMM"]
__all__ += ["Problem", "Recovery", "Robust", "Status", "Tries", "solve"]
