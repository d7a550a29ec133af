"""The recovery methods, one file each."""

from typing import Any

from memorization.components import Registry
from memorization.recovery.methods.anderson import Anderson
from memorization.recovery.methods.energy import Energy
from memorization.recovery.methods.inpaint import Inpaint
from memorization.recovery.methods.iterate import Iterate
from memorization.recovery.methods.nearest_member import NearestMember
from memorization.recovery.methods.null_space import NullSpace
from memorization.recovery.methods.pnp_admm import PnPADMM

METHODS: Registry[Any] = Registry(
    "methods",
    {"iterate": Iterate, "pnp_admm": PnPADMM, "null_space": NullSpace, "energy": Energy, "inpaint": Inpaint},
)

__all__ = ["METHODS", "Anderson", "Energy", "Inpaint", "Iterate", "NearestMember", "NullSpace", "PnPADMM"]
