"""The command line: how a job is run and told of, and the commands beside those of Hydra."""
