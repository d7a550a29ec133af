"""`memorization-dashboard`: a W&B workspace and a W&B report of what `tracking` logs, built as code.

Every panel is made from the lists `STEPS`, `CURVES` and `GALLERY` of `tracking`, so that none names what no run logs.
Needs the extra `dashboard` (wandb-workspaces), and a key and the server to save; `--dry-run` needs neither of the two.
"""

import argparse
import importlib.util
import json
import sys
from typing import Any

from memorization.engine import streams
from memorization.tracking.curves import CURVES, GALLERY, GALLERY_TABLE, STEPS

SECONDS = 20  # that the server may take to answer
HEADINGS = {"recover": "Recovery", "train": "Training"}
LOGARITHMIC = ("train/loss", "train_loss")


def title(metric: str) -> str:
    """`members: median psnr erased` for `members/median_psnr_erased`."""
    return metric.replace("/", ": ").replace("_", " ")


def panels(kind: str) -> list[Any]:
    """A panel for each curve of the runs of a kind (train or recover), against what it is logged with."""
    import wandb_workspaces.reports.v2 as wr

    step = STEPS[kind]
    curves = [
        wr.LinePlot(title=title(name), x=step, y=[name], log_x=step in LOGARITHMIC, log_y=name in LOGARITHMIC)
        for name in CURVES[kind]
    ]
    pictures = [wr.MediaBrowser(title="gallery", media_keys=[GALLERY])] if kind == "recover" else []
    return [*curves, *pictures]


def workspace(entity: str, project: str) -> Any:
    """A saved view of a project: a section a kind of run, runs grouped by study."""
    import wandb_workspaces.workspaces as ws

    sections = [ws.Section(name=HEADINGS[kind], panels=panels(kind), is_open=True) for kind in HEADINGS]
    settings = ws.RunsetSettings(groupby=[ws.Metric("Group")])
    return ws.Workspace(
        entity=entity, project=project, name="Memorization", sections=sections, runset_settings=settings
    )


def report(entity: str, project: str) -> Any:
    """A report on a project: the curves of recoveries and of trainings, and the galleries with their scores."""
    import wandb_workspaces.reports.v2 as wr

    grids: list[Any] = []
    for kind, heading in HEADINGS.items():
        runs = wr.Runset(name=heading, filters=f"JobType = '{kind}'", groupby=["Group"])
        table = [wr.WeavePanelSummaryTable(table_name=GALLERY_TABLE)] if kind == "recover" else []
        grids += [wr.H2(heading), wr.PanelGrid(runsets=[runs], panels=[*panels(kind), *table])]
    return wr.Report(
        entity=entity,
        project=project,
        title="How much of its training data does the autoencoder hold?",
        description="Members, which it was trained on, and non-members, which it never saw, degraded and recovered.",
        blocks=grids,
    )


def definition(entity: str, project: str) -> dict[str, Any]:
    """Workspace and report as W&B stores them."""
    built = {"workspace": workspace(entity, project), "report": report(entity, project)}
    return {
        name: item._to_model().model_dump(mode="json", by_alias=True, exclude_none=True) for name, item in built.items()
    }


def save(entity: str | None, project: str) -> list[str]:
    """Save both with W&B; gives their addresses. Raises what wandb raises without a key or a server."""
    import wandb

    owner = str(wandb.Api(timeout=SECONDS).default_entity) if entity is None else entity
    return [item.save().url for item in (workspace(owner, project), report(owner, project))]


def main(argv: list[str] | None = None) -> None:
    """Run the command line; exits with status 1 and one line on stderr without the extra, a key, or the server."""
    parser = argparse.ArgumentParser(
        prog="memorization-dashboard",
        description="Save a W&B workspace and a W&B report of the curves that trainings and recoveries log.",
    )
    parser.add_argument("--project", default="memorization", help="as in tracking.project (default: memorization)")
    parser.add_argument("--entity", help="as in tracking.entity: a W&B user or team (default: yours)")
    parser.add_argument("--dry-run", action="store_true", help="print both definitions as JSON and send nothing")
    with streams.printing():
        _run(parser.parse_args(argv))


def _run(options: argparse.Namespace) -> None:
    if importlib.util.find_spec("wandb_workspaces") is None:
        sys.exit("error: there is no wandb-workspaces; install it: pip install 'memorization[dashboard]'")
    if options.dry_run:
        print(json.dumps(definition(options.entity or "", options.project), indent=2))
        return
    try:
        print("\n".join(save(options.entity, options.project)))
    except Exception as error:  # of many kinds, plain ones among them, in wandb and wandb-workspaces
        reason = str(error).splitlines()[0].rstrip(".")
        sys.exit(f"error: W&B is not reached ({reason}); log in with wandb login, or see what would be sent: --dry-run")


if __name__ == "__main__":
    main()
