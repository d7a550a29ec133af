"""`memorization-recover`: recover members and non-members from an autoencoder, which is trained first if need be."""

import hydra
from omegaconf import DictConfig

from memorization.cli import entry


@hydra.main(version_base="1.3", config_path=str(entry.CONF), config_name="recover")
def application(config: DictConfig) -> float:
    """One job, composed by Hydra."""
    return entry.job(config)


def main() -> None:
    """The console script `memorization-recover`."""
    entry.main(application, "recover")


if __name__ == "__main__":
    main()
