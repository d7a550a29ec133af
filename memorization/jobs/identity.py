"""What run a configuration stands for: its recipe, and what its signature is made of."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from memorization import architectures
from memorization.architectures import given_file
from memorization.components import SettingError
from memorization.config.groups import flat
from memorization.config.schema import build, defaults
from memorization.evaluation.batch import Recipe
from memorization.evaluation.controls import inpaintable
from memorization.evaluation.probes import KINDS
from memorization.recovery import Anderson, Method, asks_operator
from memorization.store.signature import checksum, signature_of


def autoencoder_config(config: dict[str, Any], swap: bool = False) -> dict[str, Any]:
    """The part of a configuration that can change the autoencoder's weights; what its signature is made of.

    Images and a file of weights count by their content, not by where they lie. `swap` trains on the non-members.
    """
    identity = {
        "seed": config["seed"],
        "dataset": {"name": config["dataset"]["name"], **build("dataset", config["dataset"]).identity()},
        "architecture": config["architecture"],
        "training": config["training"],
        "precision": config["trainer"]["precision"],
        **({"swapped": True} if swap else {}),
    }
    if config["architecture"]["name"] == "custom":
        left_out = (*architectures.FILES, "allowed")
        identity["architecture"] = {k: v for k, v in config["architecture"].items() if k not in left_out}
    if file := architectures.given_file(config["architecture"]):
        if not file.is_file():
            raise ValueError(f"architecture: there is no file {file}")
        del identity["training"]  # there is none
        identity["weights"] = checksum(file)
    return identity


def autoencoder_folder(config: dict[str, Any], swap: bool = False) -> Path:
    """Where the store has, or will have, the autoencoder of a configuration, or its reference."""
    return Path(config["store"]) / "autoencoders" / signature_of(autoencoder_config(config, swap))


def recovery_method(settings: dict[str, Any]) -> Method:
    """The method that the group `recovery` of a configuration stands for, extrapolated if it says so."""
    method: Method = build("recovery", settings)
    depth = settings["extrapolation"]
    try:
        return Anderson(method, depth) if depth else method
    except SettingError as error:
        raise SettingError("extrapolation", depth, f"{error.reason}, or 0 for none", ("recovery",)) from None


def recovery_config(config: dict[str, Any], method: Method) -> dict[str, Any]:
    """The part of a configuration that can change a recovery's table, beside its autoencoder.

    The operator is left out for a `method` that asks for none, so that such runs are one and the same.
    """
    return {
        "degradation": config["degradation"],
        "recovery": config["recovery"],
        "operator": config["operator"] if asks_operator(method, config["recovery"]["starts"]) else {"name": "none"},
        "rungs": config["rungs"],
        "threshold_db": config["threshold_db"],
    }


def recipe_of(config: dict[str, Any]) -> Recipe:
    """The recipe of a resolved configuration; that of the control `nearest` lacks its members yet."""
    return Recipe(
        degradation=build("degradation", config["degradation"]),
        method=recovery_method(config["recovery"]),
        operator=build("operator", config["operator"]),
        seed=config["seed"],
        threshold_db=config["threshold_db"],
        starts=config["recovery"]["starts"],
    )


def controlled(config: dict[str, Any]) -> dict[str, Any]:
    """`config` with the method of its control: inpaint and nearest have their own, and are told the operator."""
    if config["control"] not in ("inpaint", "nearest"):
        return config
    method = defaults("recovery", "inpaint") | {"batch_size": config["recovery"]["batch_size"]}
    return {**config, "recovery": method, "operator": defaults("operator", "known")}


def inapplicable(config: dict[str, Any], control: str) -> str:
    """Why a control cannot be had for a configuration; empty if it can."""
    if control == "inpaint" and not inpaintable(build("degradation", config["degradation"])):
        return f"degradation={config['degradation']['name']} is no erasure, such as box"
    if control == "untrained" and config["architecture"].get("export"):
        return "an exported program has no weights to draw anew"
    if control == "reference" and given_file(config["architecture"]):
        return "the weights are given; train a reference without the members and use memorization.audit(reference=...)"
    return ""


def chosen_rungs(wanted: Any, ladder: list[float]) -> list[float]:
    """The rungs of `ladder` that `rungs=` names; raises `ValueError` for one that is not on it."""
    if wanted in ("all", "last"):
        return ladder if wanted == "all" else ladder[-1:]
    try:
        rungs = [float(rung) for rung in (wanted if isinstance(wanted, list) else [wanted])]
    except (TypeError, ValueError):
        raise ValueError(f"rungs={wanted}: give all, last, or a list of train losses such as [1e-2,1e-4]") from None
    if not rungs or set(rungs) - set(ladder):
        names = ", ".join(f"{rung:g}" for rung in ladder)
        raise ValueError(f"rungs={wanted}: choose among the rungs of training.ladder: {names}")
    return sorted(set(rungs), reverse=True)


@dataclass(frozen=True)
class Job:
    """The one recovery that a resolved configuration stands for.

    config: the configuration, with the method of its control.
    identity: what its signature is made of.
    task, setup: what ties controls to the run that they belong to, see `summary.controls_of`.
    """

    config: dict[str, Any]
    recipe: Recipe
    identity: dict[str, Any]
    task: str
    setup: str

    @classmethod
    def of(cls, config: dict[str, Any]) -> Job:
        """A control is a run of its own.

        What has no autoencoder depends on the task alone, so that it is made once for all methods; `untrained` and
        `reference` depend on the setup of the run that they belong to. Raises `ValueError` for settings that a recipe
        cannot have.
        """
        config = controlled(config)
        recipe = recipe_of(config)
        own, autoencoder = recovery_config(config, recipe.method), autoencoder_config(config)
        task = {key: autoencoder[key] for key in ("seed", "dataset", "precision")}
        task |= {key: own[key] for key in ("degradation", "threshold_db")}
        setup = {key: own[key] for key in ("recovery", "operator")} | {"task": task, "autoencoder": autoencoder}
        names = signature_of(task), signature_of(setup)
        match control := config["control"]:
            case "none":
                return cls(config, recipe, own | {"autoencoder": signature_of(autoencoder)}, *names)
            case "untrained":
                return cls(config, recipe, {"control": control, "setup": setup}, *names)
            case "reference":
                return cls(config, recipe, {"control": control, "setup": setup, "rungs": config["rungs"]}, *names)
        return cls(config, recipe, {"control": control, "task": task}, names[0], "")

    def check(self) -> None:
        """Raise `ValueError` for settings beside the recipe that cannot be used."""
        config = self.config
        if config["recovery"]["batch_size"] < 1:
            raise ValueError(f"recovery.batch_size is {config['recovery']['batch_size']}; it must be at least 1")
        if config["gallery"] < 0:
            raise ValueError(f"gallery is {config['gallery']}; it must be at least 0")
        if reason := inapplicable(config, config["control"]):
            raise ValueError(f"control={config['control']} is not applicable: {reason}")
        if given_file(config["architecture"]) is None:
            chosen_rungs(config["rungs"], list(map(float, config["training"]["ladder"])))
        elif config["rungs"] not in ("all", "last"):
            raise ValueError(
                f"rungs={config['rungs']}: an autoencoder whose weights are given has one; leave rungs out"
            )

    @property
    def folder(self) -> Path:
        """Where the store has, or will have, its results."""
        return Path(self.config["store"]) / "recoveries" / signature_of(self.identity)

    @property
    def probes(self) -> Path:
        """Where the store has, or will have, its near-member probes."""
        kinds = {name: list(kind.strengths) for name, kind in KINDS.items()}
        identity = self.identity | {"probes": kinds, "members": self.config["probes"]}
        return Path(self.config["store"]) / "probes" / signature_of(identity)

    @property
    def name(self) -> str:
        """The method, or the control, and the degradation, in words."""
        config = self.config
        degradation, control = flat(config["degradation"]), config["control"]
        method = [config["recovery"]["name"], config["operator"]["name"] if self.recipe.asks_operator else ""]
        if control != "none":
            method = ["control", control, *(method if control in ("untrained", "reference") else [])]
        fraction = degradation.get("fraction")
        return " ".join(filter(None, [*method, degradation["name"], f"{fraction:g}" if fraction else ""]))
