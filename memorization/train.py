"""`memorization-train`: train one autoencoder and keep its weights at every rung of the ladder."""

import hydra
from omegaconf import DictConfig

from memorization.cli import entry


@hydra.main(version_base="1.3", config_path=str(entry.CONF), config_name="train")
def application(config: DictConfig) -> float:
    """One job, composed by Hydra."""
    return entry.job(config)


def main() -> None:
    """The console script `memorization-train`."""
    entry.main(application, "train")


if __name__ == "__main__":
    main()
