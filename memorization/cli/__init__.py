"""The command line: how a job runs and how its end is reported, `--help`, and the command that needs no Hydra."""
