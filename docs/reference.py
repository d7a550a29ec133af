"""The reference pages, made from the code each time the site is built, so that they cannot be out of date.

A key's type and default come from the part that has it, its meaning from `memorization/cli/keys.yaml`.
A test fails for a key without a meaning, a meaning without a key, and a column of results that `COLUMNS` does not
explain.
"""

import contextlib
import inspect
import io
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import MISSING, fields, is_dataclass
from enum import StrEnum
from typing import Any

import memorization
from memorization import architectures, data, degradations, extraction, recovery, report, testing
from memorization.cli import help, store
from memorization.cli.entry import CONF
from memorization.cli.help import COMMANDS, kind, meaning, own_fields, shown, told, with_parts
from memorization.config import groups, schema
from memorization.evaluation.attacks import Attacked
from memorization.evaluation.extraction import Extraction
from memorization.extraction.spectrum import Attractors
from memorization.report.audited import Audited
from memorization.store.reading import Run
from memorization.tracking import dashboard

COLUMNS = {
    "image": "index of the image in its data set",
    "member": "whether it is a member",
    "psnr_erased": "PSNR of the answer on the erased pixels, in dB; on all pixels if nothing was erased",
    "psnr": "PSNR of the answer on all pixels, in dB",
    "ssim": "structural similarity of the answer",
    "nearest_member": "which member is nearest to the answer, counted from 0",
    "is_nearest": "whether no member is nearer to the answer than the original is",
    "recovered": "`psnr_erased` is at least `threshold_db`, `is_nearest` holds, and the solver did not diverge",
    "iterations": "iterations of the method",
    "queries": "evaluations of the autoencoder",
    "residual": "how far the solver was from its end",
    "start": "which start gave the answer, counted from 0; below 0: an extracted image, or where an answer settled",
    "energy": "energy of the answer; NaN with a single start",
    "estimated_erased": "blind: estimated share of erased pixels",
    "estimated_noise": "blind: estimated standard deviation of the noise",
    "estimated_width": "`operator=estimated` with `family=blur`: estimated width of the blur, in pixels",
    "estimated_gain": "`operator=estimated` with `family=gain`: estimated gain",
    "operator_error": "mask error: share of pixels that a blind method takes for erased or observed wrongly",
    "status": "`converged`, `iteration_limit` or `diverged`",
    "seconds": "computing time, the batch's divided by its images",
    "row": "place of the image in its run, members first",
    "rung": "the train loss at which the weights were kept",
    "train_loss": "the train loss of these weights, measured",
    "dataset": "choice of `dataset=`",
    "architecture": "choice of `architecture=`",
    "degradation": "choice of `degradation=`; of a chain, both",
    "fraction": "share of pixels erased; NaN of a degradation that erases none",
    "fill": "what the erased pixels hold; `none` of a degradation that erases none",
    "noise": "standard deviation of the noise",
    "erases": "whether the degradation erases pixels",
    "recovery": "choice of `recovery=`",
    "operator": "choice of `operator=`; `none` if the method asks for no operator",
    "seed": "the seed",
    "threshold_db": "PSNR from which an image counts as recovered",
    "control": "which control the run is; `none` of the audited autoencoder",
    "task": "the same for runs on the same images, degraded alike",
    "setup": "the same for runs that differ only in their rungs",
    "study": "the name under which runs are grouped",
    "signature": "name of the run's folder",
}
ENDS = {
    "end": "number of the end in its extraction",
    "nearest_member": "which member is nearest to it, counted from 0; -1 without members",
    "image": "index of that member in its data set",
    "psnr": "PSNR between the two on all pixels, in dB",
    "is_member": "`psnr` is at least `threshold_db`, and no non-member is nearer",
    "nearest_non_member": "which non-member is nearest to it, counted from 0; -1 without non-members",
    "psnr_non_member": "PSNR between the two on all pixels, in dB",
    "hits": "starting images that ended there",
    "queries": "queries of the search up to the end of the round that found it",
    "residual": "root mean square of `f(x) - x`, in pixels of [0, 1]; of a cycle, after a period",
    "period": "1 of a fixed point, the number of images of a cycle",
    "spectral_radius": "of the Jacobian at a fixed point, below 1 if it attracts; NaN of a cycle, or if not asked for",
    "found_by": "the part of the prior that found it",
    "prior": "choice of `prior=`",
} | {
    name: COLUMNS[name]
    for name in (
        "rung", "train_loss", "dataset", "architecture", "control", "seed", "threshold_db", "study", "signature",
    )
}  # fmt: skip
SCRIPTS = {
    "memorization-train": "Trains an autoencoder, and keeps its weights at each train loss of the ladder.",
    "memorization-recover": "Degrades images and recovers them; trains the autoencoder if the store lacks it.",
    "memorization-extract": "Searches for training images without a measurement; trains likewise.",
    "memorization-report": "Makes the page, or prints the tables.",
    "memorization-store": "Lists, shows, verifies, cleans and merges stores.",
    "memorization-dashboard": "Saves a workspace and a report in Weights & Biases.",
}
STATUSES = {
    "0": "Everything was done, or found.",
    "1": "A job failed, a setting or the store cannot be used, or `memorization-store verify` found a damaged file.",
    "2": "An option (`--word`) does not exist, or contradicts another.",
    "130": "Stopped by Ctrl-C (SIGINT).",
    "141": "Nobody reads the output any more, as when it is piped into `head`.",
    "143": "Stopped by SIGTERM.",
}
Row = tuple[str, ...]
NODES = help.nodes("extract")  # keys below a key that is no choice of a group
MODULES = (memorization, data, degradations, recovery, extraction, architectures, testing)


def pages() -> dict[str, str]:
    """The text of each generated page by its path in the site."""
    return {
        "reference/configuration.md": configuration(),
        "reference/choices.md": choices(),
        "reference/results.md": results(),
        "reference/commands.md": commands(),
        "reference/python.md": python(),
    }


def configuration() -> str:
    """The keys that no group has."""
    lines = [
        "# Configuration",
        "Keys are set on the command line as `KEY=VALUE`, and the choices of a group as `GROUP=CHOICE`. "
        "This page lists the keys of the commands; [Choices](choices.md) lists the groups with their keys.",
    ]
    known: set[str] = set()
    for command, node in COMMANDS.items():
        own = [field for field in own_fields(command) if field[0] not in known]
        said = "Beside the keys of `memorization-train`:" if known else "All three commands have these keys."
        known |= {name for name, *_ in own} if node is schema.TrainConfig else set()
        lines += [f"## memorization-{command}", said, table(rows_of("", own))]
    for name, node in NODES.items():
        lines += [f"## {name}", table(rows_of(name, fields_of(node)))]
    return "\n\n".join(lines) + "\n"


def choices() -> str:
    """The groups: their choices, and the keys of each."""
    lines = ["# Choices", "Each group is set as `GROUP=CHOICE`. The keys of a choice are set as `KEY=VALUE`."]
    for group, asks in help.ASKS.items():
        parts = dict(ours()).get(group, {})
        lines += [f"## {group}", asks]
        if not parts:
            lines.append(table(described(group), ("choice", "")))
            continue
        if group in groups.EXTRA:
            lines += [f"Every choice of `{group}` has these keys.", table(rows_of(group, groups.EXTRA[group]))]
        for name, text in described(group):
            own = with_parts(fields_of(parts[name]), CONF, group, name) if name in parts else []
            lines += [f"### {group}={name}", text]
            lines += [table(rows_of(f"{group}.{name}", own))] if own else []
    return "\n\n".join(lines) + "\n"


def results() -> str:
    """The columns of a recovery's results."""
    lines = [
        "# Results",
        '`results.parquet` of a recovery has one row an image and rung. `memorization.load_results("runs")` '
        "returns the rows of all recoveries of a store. Columns that do not apply are missing or NaN.",
        table(((name, text) for name, text in COLUMNS.items()), ("column", "meaning")),
        "`results.parquet` of an extraction has one row a distinct end; "
        '`memorization.load_extractions("runs")` returns those of all extractions.',
        table(ENDS.items(), ("column", "meaning")),
        "The columns of the attractors are at "
        "[load_attractors](python.md#memorizationload_attractors), and those of a membership inference at "
        "[load_lira](python.md#memorizationload_lira).",
    ]
    return "\n\n".join(lines) + "\n"


def commands() -> str:
    """What each command does, and how it ends."""
    lines = ["# Commands", table(SCRIPTS.items(), ("command", "what it does"))]
    lines += [
        "The first three take `KEY=VALUE` and `GROUP=CHOICE`, see [Configuration](configuration.md) and "
        "[Choices](choices.md). `-m` runs all combinations, `--plan` says what would be done, `--help` lists the "
        "choices and keys, `--help GROUP` explains those of a group, `--cfg job` prints the configuration.",
        "## Exit statuses",
        table(STATUSES.items(), ("status", "when")),
        "An error is one line on standard error. It names the wrong value and the way out.",
        "## Options",
    ]
    for main in (report.main, store.main, dashboard.main):
        lines += [f"```text\n{help_of(main)}\n```"]
    return "\n\n".join(lines) + "\n"


def help_of(main: Callable[[list[str]], None]) -> str:
    """What a command prints for `--help`."""
    with contextlib.redirect_stdout(io.StringIO()) as printed, contextlib.suppress(SystemExit):
        main(["--help"])
    return printed.getvalue().strip()


def python() -> str:
    """The public names with their signatures and docstrings."""
    lines = ["# Python", "What can be imported, with what the code says about it."]
    for module in MODULES:
        name = module.__name__
        lines += [f"## {name}", prose(inspect.getdoc(module) or "")]
        for member in public(module):
            thing = getattr(module, member)
            lines += [f"### {name}.{member}", signature(member, thing), prose(inspect.getdoc(thing) or "")]
    lines += ["## Results of calls", "What `audit`, `lira`, `extract`, `attractors` and `load_run` return."]
    for result in (Audited, Attacked, Extraction, Attractors, Run):
        lines += [f"### {result.__name__}", prose(inspect.getdoc(result) or "")]
        names = [name for name in dir(result) if not name.startswith("_") and name not in result.__dataclass_fields__]
        for name in names:
            thing = inspect.getattr_static(result, name)
            called = signature(name, thing) if inspect.isfunction(thing) else f"```python\n{name}\n```"
            lines += [called, prose(inspect.getdoc(getattr(thing, "func", thing)) or "")]
    return "\n\n".join(line for line in lines if line) + "\n"


def public(module: Any) -> list[str]:
    """The classes and functions that a module offers."""
    names = getattr(module, "__all__", ("check", "parts"))
    return [name for name in names if inspect.isclass(thing := getattr(module, name)) or inspect.isfunction(thing)]


def signature(name: str, thing: Any) -> str:
    """The call of a function or a class, a line a parameter if it is long."""
    if inspect.isclass(thing) and issubclass(thing, StrEnum):
        return f"One of {', '.join(f'`{word}`' for word in thing)}."
    found = inspect.signature(thing)
    short = f"{name}{found}"
    if len(short) > 90:
        parameters = [str(parameter) for parameter in found.parameters.values()]
        named = [p.kind is p.KEYWORD_ONLY for p in found.parameters.values()]
        if True in named:
            parameters.insert(named.index(True), "*")
        short = "\n".join([f"{name}(", *(f"    {parameter}," for parameter in parameters), ")"])
    short = re.sub(r"(: |-> )'([^'\n]*)'", r"\1\2", short)  # annotations that are kept as text
    short = re.sub(r"\*<class '[\w.]*?(\w+)'>", r"Unpack[\1]", short)
    short = re.sub(r"(?:[a-z_]+\.)+([A-Z]\w+)", r"\1", short)  # without the modules of types
    return f"```python\n{short}\n```"


def prose(docstring: str) -> str:
    """A docstring as Markdown: the entries `name: meaning` as a list."""
    paragraphs = []
    for paragraph in docstring.split("\n\n"):
        if paragraph.startswith("    "):
            paragraphs.append(paragraph)
            continue
        text = re.sub(r"\n(?!\w+(?:, \w+)*: )", " ", paragraph)
        text = re.sub(r" +", " ", text)
        text = re.sub(r"^(\w+(?:, \w+)*): ", r"- **\1**: ", text, flags=re.MULTILINE)
        paragraphs.append(re.sub(r"(?<!\n)\n- ", "\n\n- ", text, count=0 if text.startswith("- ") else 1))
    return "\n\n".join(paragraphs).replace("<", "&lt;") if "<" in docstring else "\n\n".join(paragraphs)


def described(group: str) -> list[tuple[str, str]]:
    """The choices of a group with what their files, or else the parts, say of them."""
    parts = dict(ours()).get(group, {})
    files = {path.stem: told(path) for path in sorted((CONF / group).glob("*.yaml"))}
    names = [*parts, *(name for name in files if name not in parts)]
    return [(name, files.get(name) or first_paragraph(parts[name])) for name in names]


def first_paragraph(part: Any) -> str:
    """Of a docstring."""
    return " ".join((inspect.getdoc(part) or "").split("\n\n")[0].split())


def rows_of(path: str, fields: Iterable[tuple[str, Any, Any]]) -> list[Row]:
    """(key, meaning, type, default) of the fields of a choice `group.choice`, of a group, or of a command (no path)."""
    before = f"{path.split('.')[0]}." if path else ""
    return [(before + name, meaning(path, name), kind(hint), shown(default)) for name, hint, default in fields]


def explained() -> tuple[set[str], set[str]]:
    """The keys without a meaning, and the meanings that no key uses."""
    places = {"": [field for command in COMMANDS for field in own_fields(command)]}
    places |= {name: fields_of(node) for name, node in NODES.items()}
    places |= {f"{group}.{name}": fields_of(part) for group, parts in ours() for name, part in parts.items()}
    places |= dict(groups.EXTRA)
    names = {(path, key) for path, fields in places.items() for key, *_ in fields}
    lacking = {f"{path}.{key}" for path, key in names if not meaning(path, key)}
    used = {f"{place}.{key}".lstrip(".") for path, key in names for place in (path, path.split(".")[0])}
    return lacking, {*help.meanings()} - used


def ours() -> list[tuple[str, Mapping[str, Any]]]:
    """The groups with our own parts, without those of other packages that happen to be installed."""
    return [(group, getattr(parts, "own", parts)) for group, parts in groups.GROUPS.items()]


def fields_of(part: Any) -> list[tuple[str, Any, Any]]:
    """(name, type, default) of a part, with the defaults that it makes itself."""
    filled = (
        {f.name: f.default_factory() for f in fields(part) if f.default_factory is not MISSING}
        if is_dataclass(part)
        else {}
    )
    return [(name, hint, filled.get(name, default)) for name, hint, default in groups.component_fields(part)]


def table(rows: Iterable[Row], heads: Row = ("key", "meaning", "type", "default")) -> str:
    """A Markdown table whose first column is code."""
    lines = [f"| {' | '.join(heads)} |", f"|{'---|' * len(heads)}"]
    for name, *rest in rows:
        lines.append(f"| `{name}` | " + " | ".join(cell.replace("|", "\\|") for cell in rest) + " |")
    return "\n".join(lines)
