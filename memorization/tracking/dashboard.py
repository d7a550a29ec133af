"""`memorization-dashboard`: a W&B workspace and a W&B report of what `tracking` logs, built as code.

Every panel is made from the lists `STEPS`, `CURVES`, `LAST` and `GALLERIES` of `tracking`, so that none names what no
run logs.
Needs the extra `dashboard` (wandb-workspaces), and a key and the server to save; `--dry-run` needs neither of the two.
"""

import argparse
import importlib.util
import json
import sys
from typing import Any

from memorization.engine import streams
from memorization.tracking import unreached
from memorization.tracking.curves import CURVES, GALLERIES, LAST, STEPS

SECONDS = 20  # that the server may take to answer
HEADINGS = {"recover": "Recovery", "extract": "Extraction", "train": "Training"}
ALIKE = ("Group", "Name")  # what runs share that differ in their seed alone: their study and name, as W&B calls them
LOGARITHMIC = ("train/loss", "rung")


def title(metric: str) -> str:
    """`members: median psnr erased` for `members/median_psnr_erased`."""
    return metric.replace("/", ": ").replace("_", " ")


def panels(kind: str) -> list[Any]:
    """A panel for each curve of the runs of a kind, against what it is logged with; one for the seeds, and a gallery.

    Runs that are grouped, as those of all seeds are, become a line of their mean with the range from least to most.
    """
    import wandb_workspaces.reports.v2 as wr

    step = STEPS[kind]
    found: list[Any] = [
        wr.LinePlot(
            title=title(name),
            x=step,
            y=[name],
            log_x=step in LOGARITHMIC,
            log_y=name in LOGARITHMIC,
            groupby_aggfunc="mean",
            groupby_rangefunc="minmax",
        )
        for name in CURVES[kind]
    ]
    if last := LAST.get(kind):
        of_seeds = wr.ScatterPlot(title=f"{title(last)}, by seed", x=wr.Config("seed"), y=wr.SummaryMetric(last))
        found.append(of_seeds)
    if kind in GALLERIES:
        found.append(wr.MediaBrowser(title="gallery", media_keys=[GALLERIES[kind][0]]))
    return found


def workspace(entity: str, project: str) -> Any:
    """A saved view of a project: a section a kind of run, runs grouped by study and name, which all seeds share."""
    import wandb_workspaces.workspaces as ws

    sections = [ws.Section(name=HEADINGS[kind], panels=panels(kind), is_open=True) for kind in HEADINGS]
    settings = ws.RunsetSettings(groupby=[ws.Metric(name) for name in ALIKE])
    return ws.Workspace(
        entity=entity, project=project, name="Memorization", sections=sections, runset_settings=settings
    )


def report(entity: str, project: str) -> Any:
    """A report on a project: the curves of recoveries, extractions and trainings, and the galleries with scores."""
    import wandb_workspaces.reports.v2 as wr

    grids: list[Any] = []
    for kind, heading in HEADINGS.items():
        runs = wr.Runset(name=heading, filters=f"JobType = '{kind}'", groupby=[*ALIKE])
        table = [wr.WeavePanelSummaryTable(table_name=GALLERIES[kind][1])] if kind in GALLERIES else []
        grids += [wr.H2(heading), wr.PanelGrid(runsets=[runs], panels=[*panels(kind), *table])]
    return wr.Report(
        entity=entity,
        project=project,
        title="How much of its training data does the autoencoder hold?",
        description="Members, which it was trained on, and non-members, which it never saw, degraded and recovered; "
        "and what comes out of it without a measurement.",
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
        description="Save a W&B workspace and a W&B report of what trainings, recoveries and extractions log.",
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
        sys.exit(f"error: {unreached(error)}; log in with wandb login, or see what would be sent: --dry-run")


if __name__ == "__main__":
    main()
