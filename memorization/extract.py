"""`memorization-extract`: what comes out of an autoencoder, trained first if need be, when nothing is measured."""

import hydra
from omegaconf import DictConfig

from memorization.cli import entry


@hydra.main(version_base="1.3", config_path=str(entry.CONF), config_name="extract")
def application(config: DictConfig) -> float:
    """One job, composed by Hydra."""
    return entry.job(config)


def main() -> None:
    """The console script `memorization-extract`."""
    entry.main(application, "extract")


if __name__ == "__main__":
    main()
