"""The headline table on a terminal, and the same figures as records for programs."""

import math
import textwrap
from collections.abc import Callable, Sequence
from typing import Any

import pandas as pd

from memorization.evaluation import lira
from memorization.evaluation.statistics import Estimate
from memorization.evaluation.summary import DELTA
from memorization.report.cells import Cell, Group, estimate_of, partition, strength
from memorization.report.findings import Findings, Inference, Repeated, rows_of
from memorization.report.labels import Labels, percent
from memorization.store.signature import rung_name

WIDTH = 120  # columns of a terminal
PROBED, SEEDED = 2, 10  # cells whose probes a terminal shows, and runs with other seeds that it shows


def records(summary: pd.DataFrame) -> list[dict[str, Any]]:
    """The rows of `summary.summarise` as JSON can hold them: what is not a finite number is None."""
    return [
        {key: None if isinstance(value, float) and not math.isfinite(value) else value for key, value in row.items()}
        for row in rows_of(summary)
    ]


def share(group: Group) -> str:
    """`0 of 50 members (0 %, 95 % interval 0 to 7 %)`: how many of a group came back."""
    if not group.count:
        return f"no {group.name} were tried"
    value, interval = percent(group.recovered.value), span(group.recovered, "%")
    return f"{group.successes} of {group.count} {group.name} ({value}, 95 % interval {interval} %)"


def decibels(value: float) -> str:
    """A PSNR in dB, or `–` for what is not finite."""
    return f"{value:.1f}" if math.isfinite(value) else "–"


# How the value of a share, a PSNR or an area under the ROC curve is written, without its unit; `–` for NaN.
TEXTS: dict[str, Callable[[float], str]] = {
    "%": lambda value: percent(value).removesuffix(" %"),
    "dB": decibels,
    "AUC": lambda value: "–" if math.isnan(value) else f"{value:.3f}",
}


def span(estimate: Estimate, unit: str) -> str:
    """`93 to 100`: the interval of an estimate, its `unit` one of `TEXTS`; `–` where there is none."""
    known = math.isfinite(estimate.low) and math.isfinite(estimate.high)
    return f"{TEXTS[unit](estimate.low)} to {TEXTS[unit](estimate.high)}" if known else "–"


def answer(cell: Cell) -> str:
    """One run in one sentence, with its intervals."""
    variant = f"operator {cell.labels.variant}" if cell.operator != "none" else cell.labels.variant
    method = f"{cell.recovery} ({variant})" if variant else cell.recovery
    degraded = f"degraded by {cell.labels.degradation}"
    if not math.isnan(cell.fraction) and cell.degradation != "chain":  # in a chain, erasing is not all
        degraded = f"with {100 * cell.fraction:.3g} % of the pixels erased"
    recovered = f"{share(cell.members)} from images {degraded}, and {share(cell.non_members)}"
    return f"At a train loss of {cell.train_loss:.0e}, {method} recovered {recovered}."


def headline(findings: Findings) -> str:
    """Members recovered and their median erased PSNR, a block of lines an autoencoder, at most `WIDTH` wide."""
    blocks = [_block(name, cells, findings) for (name,), cells in partition(findings.cells, "autoencoder").items()]
    probed = sorted(findings.probed, key=lambda found: strength(found[0]), reverse=True)
    below = [strongest(findings.strongest, len(findings.last_cells)), *(attracted(*found) for found in probed[:PROBED])]
    if len(probed) > PROBED:
        below.append([f"Probes of the strongest {PROBED} of {len(probed)} cells; the page plots those of all."])
    if findings.over_seeds:
        below.append(_over_seeds(most_varied(findings, SEEDED)))
        if len(findings.over_seeds) > SEEDED:
            count = len(findings.over_seeds)
            below[-1].append(f"  These are the {SEEDED} of {count} runs that vary most; --seeds lists all.")
    notes = [_footnotes(findings.cells), *_wrapped([findings.mixed] if findings.mixed else [])]
    return "\n\n".join([*blocks, *notes, *("\n".join(_wrapped(lines)) for lines in below)])


def strongest(cell: Cell, runs: int) -> list[str]:
    """How well the strongest of `runs`, each at its lowest train loss, tells members from non-members, in lines."""
    chosen = f"It was chosen among {runs} runs, each at its lowest train loss"
    first = f"The strongest cell: {cell.title}. {chosen}; neither intervals nor the verdict account for that."
    if runs == 1:
        first = f"The only run, at its lowest train loss: {cell.title}."
    lines, excess, area = [first], cell.excess, cell.auc
    if math.isnan(excess.value):
        return [*lines, "  It has no members or no non-members: nothing says how much of this is memory."]
    lines.append(f"  Excess of members over non-members {percent(excess.value)} (95 % interval {span(excess, '%')} %).")
    lines.append(f"  AUC of the erased PSNR {TEXTS['AUC'](area.value)} ({span(area, 'AUC')}).")
    lines.append(f"  Epsilon {epsilon(cell)}; indicative only, since it is of one training.")
    for name, text, *limits in operating_points(cell):
        lines.append(f"  {name}: {text}{''.join(f' ({bounds})' for bounds in limits)}")
    return lines


def over_seeds(findings: Findings) -> str:
    """What every run that was repeated found over its seeds, in lines: `Findings.over_seeds`."""
    if not findings.over_seeds:
        return "No two runs differ in their seed alone."
    return "\n".join(_wrapped(_over_seeds(findings.over_seeds)))


def _over_seeds(runs: list[Repeated]) -> list[str]:
    drawn = "Over seeds (of the draw of images, the first weights and the degradations)"
    lines = [f"{drawn}, members recovered and their excess over non-members:"]
    for cell, found, excess in runs:
        mean = f"{found.seeds} seeds, mean {percent(found.mean.value)} ({span(found.mean, '%')} %)"
        parts = f"{100 * found.within:.1f} are due to the images, {100 * found.training:.1f} remain"
        above = f"excess {percent(excess.value)} ({span(excess, '%')} %)"
        name = f"{without_seed(cell.labels)}; train loss {rung_name(cell.rung)}"
        lines.append(f"  {name}: {mean}, standard deviation {100 * found.between:.1f} points; {parts}; {above}")
    return lines


def most_varied(findings: Findings, count: int) -> list[Repeated]:
    """Of `Findings.over_seeds` the `count` that vary most over seeds, in their order."""
    least = sorted((run.members.between for run in findings.over_seeds), reverse=True)[:count]
    return [run for run in findings.over_seeds if run.members.between >= least[-1]][:count]


def without_seed(labels: Labels) -> str:
    """What a run is called, but for its seed."""
    return f"{labels.seedless}; {labels.degradation}; {labels.method}"


def comparisons(findings: Findings) -> str:
    """Every pair of methods on the same members, in lines: `Findings.comparisons`."""
    table = findings.comparisons
    if not len(table):
        return "No two methods were tried on the same autoencoder and degradation."
    lines = [
        "Paired comparisons of methods on the same members, each at its lowest train loss: McNemar's exact test, and "
        "Student's paired test of PSNRs within 0 and 120 dB, widened by a bootstrap-t where they are skewed. p-values "
        f"are adjusted for {len(table)} comparison{'s' if len(table) > 1 else ''} (Holm)."
    ]
    for (autoencoder, degradation), part in table.groupby(["autoencoder", "degradation"], sort=False):
        lines += ["", f"{autoencoder}; {degradation}"]
        for row in rows_of(part):
            mean = estimate_of(row, "psnr_difference")
            interval = span(mean, "dB") if row["members"] > 1 else "one member, no interval"
            points = f"{100 * row['recovered_difference']:+.0f} points (McNemar p = {row['recovered_p_holm']:.1g})"
            psnr = f"{mean.value:+.1f} dB ({interval}; p = {row['psnr_p_holm']:.1g})"
            lines.append(f"  {row['first']} - {row['second']}: recovered {points}; PSNR {psnr}")
    return "\n".join(_wrapped(lines))


def attracted(cell: Cell, table: pd.DataFrame) -> list[str]:
    """The near-member probes of a cell in lines, one a kind: what is answered with the member, how far off."""
    lines = [
        f"Near-member probes: {cell.title}.",
        "  Probes answered with their member (in brackets: answers closer to the member than to the probe), at their "
        "median distance (root mean square) from it:",
    ]
    for kind, part in table[table["kind"] != "none"].groupby("kind", sort=False):
        counted = part.assign(**{name: part[name] * part["probes"] for name in ("captured", "attracted")})
        text = "{captured:.0f} of {probes} ({attracted:.0f}) at {distance:.3f}"
        lines.append(f"    {kind}: {', '.join(map(text.format_map, rows_of(counted)))}")
    return lines


def inferred(inferences: Sequence[Inference]) -> str:
    """The membership inferences in lines: each attack, with what false positive rate the non-members resolve."""
    if not inferences:
        return ""
    lines = [
        "Membership inference: AUC, and true positive rate (TPR) at the lowest false positive rate (FPR) resolved."
    ]
    for each in inferences:
        lines += ["", *_wrapped([f"{each.cell.title}; {each.references} references"])]
        *attacks, resolved = lira.told(each.summary)
        lines += [f"  {attack}" for attack in attacks]
        lines.append(textwrap.fill(resolved, WIDTH, initial_indent="  ", subsequent_indent="  "))
    return "\n".join(lines)


def epsilon(cell: Cell) -> str:
    """`at least 3.28 (delta 1e-05)`: what a differentially private training would need; `–` where nothing tells."""
    return "–" if math.isnan(cell.epsilon_low) else f"at least {cell.epsilon_low:.2f} (delta {DELTA:g})"


def operating_points(cell: Cell) -> list[tuple[str, ...]]:
    """`TPR at FPR 10 %`, `96 %`, `87 to 99 %; FPR achieved 10 %`; or the name and that nothing resolves it."""
    known = f"not resolvable with {cell.non_members.count} non-members"
    return [
        (name, percent(point.tpr.value), f"{span(point.tpr, '%')} %; FPR achieved {percent(point.fpr)}")
        if point
        else (name, f"{known} ({math.ceil(1 / rate):,} would do)")
        for rate, point in cell.operating.items()
        for name in [f"TPR at FPR {100 * rate:g} %"]
    ]


def p_values(cell: Cell) -> list[str]:
    """`p = 0.02`, and `Holm: 0.1` where the adjusted p-value of the verdict is larger; empty without one."""
    if math.isnan(cell.verdict_p):
        return []
    holm = [f"Holm: {cell.verdict_holm:.1g}"] if cell.verdict_holm > cell.verdict_p else []
    return [f"p = {cell.verdict_p:.1g}", *holm]


def _wrapped(lines: list[str]) -> list[str]:
    return [textwrap.fill(line, WIDTH, subsequent_indent="  ") for line in lines]


def _block(name: str, cells: list[Cell], findings: Findings) -> str:
    methods = max(len(cell.labels.method) for cell in cells) + 4
    table = {(cell.labels.degradation, cell.labels.method, cell.rung): _text(cell) for cell in cells}
    column = max(len(text) for text in [*table.values(), "1e-08"]) + 2
    counts = sorted({(cell.members.count, cell.non_members.count) for cell in cells})
    lines = [f"{name}: {', '.join(f'{members} members and {others} non-members' for members, others in counts)}"]
    every_rung = sorted({cell.rung for cell in cells}, reverse=True)
    fitting = max(1, (WIDTH - methods) // column)
    for start in range(0, len(every_rung), fitting):
        rungs = every_rung[start : start + fitting]
        lines += ["", "  train loss".ljust(methods) + "".join(rung_name(rung).rjust(column) for rung in rungs)]
        for (degradation,), part in partition(cells, "degradation").items():
            lines.append(f"  {degradation}")
            for (method,), own in partition(part, "method").items():
                texts = [table.get((degradation, method, rung), "-") for rung in rungs]
                lines.append(f"    {method}".ljust(methods) + "".join(text.rjust(column) for text in texts))
                if rungs[-1] == every_rung[-1] and own[-1].controls_text:
                    lines += _controls(own[-1])
    return "\n".join(line.rstrip() for line in lines)


def _controls(cell: Cell) -> list[str]:
    """The verdict on a method's cell of the lowest rung, and what its controls brought back."""
    verdict = f"{cell.verdict} ({'; '.join(p_values(cell))})" if cell.verdict else "no verdict"
    text = f"{verdict} at {rung_name(cell.rung)}; members by controls: {cell.controls_text}"
    return textwrap.wrap(text, WIDTH, initial_indent="      ", subsequent_indent="        ")


def _text(cell: Cell) -> str:
    others = f" (nn {percent(cell.non_members.recovered.value)})" if cell.non_members.successes else ""
    return f"{percent(cell.members.recovered.value)} / {decibels(cell.members.psnr.value)}{others}"


def _footnotes(cells: list[Cell]) -> str:
    thresholds = " or ".join(f"{threshold:g}" for threshold in sorted({cell.threshold_db for cell in cells}))
    members = [cell.members for cell in cells if cell.members.count]
    others = [cell.non_members for cell in cells if cell.non_members.count]
    widest = max(members, key=lambda group: group.recovered.high - group.recovered.low, default=None)
    worst = max(others, key=lambda group: (group.recovered.value, group.recovered.high), default=None)
    lines = [
        "In a cell: members recovered / their median PSNR on erased pixels in dB; (nn: non-members recovered, if any).",
        f"Recovered: PSNR on erased pixels of at least {thresholds} dB, and no member closer to the answer than the "
        "original.",
        f"The most non-members that came back in a cell: {share(worst) if worst else 'none were tried'}.",
    ]
    if widest:
        lines.append(f"The widest interval of a cell: {share(widest)}.")
    if repeated := len({signature for cell in cells for signature in cell.repeated}):
        lines.append(f"Shown once: {repeated} run{'s' * (repeated > 1)} with the autoencoder and settings of another.")
    if any(cell.verdict for cell in cells):
        lines.append(
            "Unremarkable: not more members came back than non-members (Fisher's exact test) or than by each control "
            "(McNemar's), at 5 %. Holm: the p-value adjusted for all verdicts of the store. The nearest member is the "
            "ceiling, what a holder of the training set would answer."
        )
    if diverged := sum(cell.members.diverged + cell.non_members.diverged for cell in cells):
        lines.append(f"Diverged, counted as not recovered: {diverged} answers over all cells.")
    return "\n".join(_wrapped(lines))
