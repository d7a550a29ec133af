"""What a run store found: its runs, their names, and one `Cell` of statistics a run and rung."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from itertools import combinations
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from memorization.evaluation import lira
from memorization.evaluation.comparison import MemberScores, compare
from memorization.evaluation.seeds import SeedVariation, seed_excess, seed_variation
from memorization.evaluation.statistics import Estimate, columns, holm
from memorization.evaluation.summary import attraction, summarise
from memorization.report.cells import Cell, cell_of, order, partition, strength
from memorization.report.extractions import Extraction, extractions_of
from memorization.report.labels import Labels, label_runs
from memorization.store import versions
from memorization.store.files import StoreError, damage
from memorization.store.reading import Run, finished, results_of

# Keys of a configuration in which repetitions over seeds may differ.
NOT_COMPARED = (
    "seed", "store", "study", "progress", "tracking", "trainer", "gallery", "controls", "control", "probes",
    "attractors", "references",
)  # fmt: skip


class Repeated(NamedTuple):
    """A run over its seeds, at its lowest rung: the cell of the first of them, and what they found together."""

    cell: Cell
    members: SeedVariation  # of the share recovered
    excess: Estimate  # of members over non-members; NaN where there are none


class Inference(NamedTuple):
    """A membership inference by references beside a recovery, at one rung."""

    cell: Cell
    references: int
    summary: pd.DataFrame  # `lira.summarised` of the attacks `lira.MAIN`


@dataclass(frozen=True)
class Findings:
    """A store that was read: `results` has one row an image (and rung), `summary` is `summarise` of it.

    `summary` has one more column, `verdict_holm`: each `verdict_p` adjusted for all of them (Holm), those of
    repetitions counted once, as they are shown. `runs` are those that are audited; controls are in `results` and
    `summary`, and each cell knows its own. `damaged` says of each run that was left out what is wrong with it.
    `extractions` are in none of these, nor `inferred`, the membership inferences. A store of extractions alone has no
    runs and no cells.
    """

    store: Path | None  # None: of an audit from Python, which is in no store
    runs: dict[str, Run]
    results: pd.DataFrame
    summary: pd.DataFrame
    probes: pd.DataFrame  # `summary.attraction` of each run's probes, by setup and rung; empty if there are none
    labels: dict[str, Labels]  # of the audited runs, by signature
    damaged: tuple[str, ...] = ()
    mixed: str = ""  # `versions.differing` of all runs, with the controls
    extractions: tuple[Extraction, ...] = ()  # with the controls
    inferred: tuple[Run, ...] = ()

    @classmethod
    def load(cls, store: Path) -> Findings:
        """Read all finished recoveries and extractions but the damaged ones; raises `StoreError` if none is left."""
        whole, damaged = _whole(store, "recoveries")
        searched, wrong = _whole(store, "extractions")
        extractions, damaged = tuple(extractions_of(searched)), [*damaged, *wrong]
        if not whole and not extractions:
            lacks = "holds no finished recovery" if store.is_dir() else "is no folder"
            make = f"{store} {lacks}; make one with memorization-recover store={store}"
            raise StoreError(damaged[0] if damaged else make)
        audited = {run.folder.name: run for run in whole if run.config.get("control", "none") == "none"}
        if not audited and not extractions:
            make = f"run memorization-recover store={store} without control="
            raise StoreError(f"{store} holds nothing but controls; {make}")
        mixed = versions.differing(run.done for run in [*whole, *searched])
        if not audited:
            empty = pd.DataFrame()
            return cls(store, {}, empty, empty, empty, {}, tuple(damaged), mixed, extractions)
        found, broken = _whole(store, "probes")
        inferred, torn = _whole(store, "lira")
        notes = (*damaged, *broken, *torn)
        about: dict[str, Any] = {"damaged": notes, "mixed": mixed, "extractions": extractions}
        about["inferred"] = tuple(inferred)
        return cls.of(audited, results_of(whole), store=store, probes=attraction_of(found), **about)

    @classmethod
    def of(
        cls,
        audited: dict[str, Run],
        results: pd.DataFrame,
        missing: Mapping[str, str] | None = None,
        *,
        store: Path | None = None,
        probes: pd.DataFrame | None = None,
        **about: Any,
    ) -> Findings:
        """The findings of runs and their `results`; `missing` as of `summarise`, the rest as of the fields."""
        summary = summarise(results, missing)
        labels = label_runs(audited, {row["signature"]: row for row in rows_of(summary) if row["control"] == "none"})
        probes = pd.DataFrame() if probes is None else probes
        return cls(store, audited, results, _adjusted(summary, labels), probes, labels, **about)

    @cached_property
    def cells(self) -> list[Cell]:
        """Sorted by autoencoder, degradation, method and falling rung; of repetitions of a run, one."""
        rows = [row for row in rows_of(self.summary) if row["control"] == "none"]
        rows.sort(key=lambda row: order(row, self.labels[row["signature"]]))
        same: dict[tuple[Labels, float], list[dict[str, Any]]] = {}
        for row in rows:
            same.setdefault((self.labels[row["signature"]], row["rung"]), []).append(row)
        return [cell_of(row, labels, others) for (labels, _), (*others, row) in same.items()]

    @cached_property
    def places(self) -> dict[tuple[str, float], int]:
        """Where in `cells` the cell of a run (signature) and rung stands."""
        return {(cell.signature, cell.rung): place for place, cell in enumerate(self.cells)}

    @cached_property
    def last_cells(self) -> list[Cell]:
        """The cells of the lowest rung of each run."""
        return [cells[-1] for cells in partition(self.cells, "autoencoder", "degradation", "method").values()]

    @cached_property
    def probed(self) -> list[tuple[Cell, pd.DataFrame]]:
        """The cells of the lowest rung whose near-member probes were recovered, with their attraction."""
        if self.probes.empty:
            return []
        tables = dict(iter(self.probes.groupby(["setup", "rung"])))
        return [(cell, tables[cell.setup, cell.rung]) for cell in self.last_cells if (cell.setup, cell.rung) in tables]

    @cached_property
    def inferences(self) -> list[Inference]:
        """The membership inferences beside the runs of `cells`, in order; of several, that with most references."""
        tables: dict[tuple[str, float], pd.DataFrame] = {}
        for run in self.inferred:
            for rung, part in run.results.groupby("rung"):
                key = (str(run.done["recovery"]), float(str(rung)))
                if key not in tables or tables[key]["references"].iloc[0] < part["references"].iloc[0]:
                    tables[key] = part
        found = [
            (cell, tables[cell.signature, cell.rung]) for cell in self.cells if (cell.signature, cell.rung) in tables
        ]
        return [
            Inference(cell, int(table["references"].iloc[0]), lira.summarised(table, lira.MAIN))
            for cell, table in found
        ]

    @cached_property
    def scores(self) -> dict[str, MemberScores]:
        """Of each run at its lowest rung, by signature."""
        return {cell.signature: MemberScores.of(self.rows[cell.signature, cell.rung]) for cell in self.last_cells}

    @cached_property
    def pairs(self) -> list[tuple[Cell, Cell]]:
        """Each pair of methods on the same members, autoencoder and degradation, at the lowest rung of both."""
        alike: dict[tuple[Any, ...], list[Cell]] = {}
        for cell in self.last_cells:
            if cell.members.count:
                key = (cell.labels.autoencoder, cell.labels.degradation, cell.rung)
                alike.setdefault((*key, *self.scores[cell.signature].image.tolist()), []).append(cell)
        return [pair for cells in alike.values() for pair in combinations(cells, 2)]

    @cached_property
    def comparisons(self) -> pd.DataFrame:
        """`compare` of all `pairs`; `_holm` are p-values adjusted for all of them (Holm), recovered and PSNR apart."""
        rows: list[dict[str, Any]] = []
        for first, second in self.pairs:
            names = {"autoencoder": first.labels.autoencoder, "degradation": first.labels.degradation}
            names |= {"first": first.labels.method, "second": second.labels.method}
            compared = compare(self.scores[first.signature], self.scores[second.signature])
            rows.append({**names, "rung": first.rung, **compared})
        table = pd.DataFrame(rows)
        return table.assign(**{f"{name}_holm": holm(table[name]) for name in ("recovered_p", "psnr_p") if rows})

    @cached_property
    def over_seeds(self) -> list[Repeated]:
        """What came back over seeds, where runs differ in nothing else; lowest rungs.

        The seed draws the images, the first weights and the degradations. Where a seed has several autoencoders, of
        other images in the same folder, no two runs are known to differ in the seed alone.
        """
        groups: dict[str, list[tuple[int, Cell]]] = {}
        for cell in self.last_cells:
            run = self.runs[cell.signature]
            rest = {key: value for key, value in run.config.items() if key not in NOT_COMPARED}
            if cell.members.count:
                same = [rest, run.config["trainer"]["precision"], versions.revisions_of(run.done), cell.rung]
                groups.setdefault(json.dumps(same, sort_keys=True), []).append((run.config["seed"], cell))
        varied = []
        for group in groups.values():
            if 1 < len(group) == len({seed for seed, _ in group}):
                cells = [cell for _, cell in group]
                members, others = (
                    ([kind.successes for kind in kinds], [kind.count for kind in kinds])
                    for kinds in ([cell.members for cell in cells], [cell.non_members for cell in cells])
                )
                varied.append(Repeated(cells[0], seed_variation(*members), seed_excess(members, others)))
        return varied

    @property
    def seeds(self) -> pd.DataFrame:
        """`over_seeds` as a table, one row a run; shares and standard deviations lie in [0, 1]."""
        rows = []
        for cell, members, excess in self.over_seeds:
            row: dict[str, Any] = {"autoencoder": cell.labels.seedless, "degradation": cell.labels.degradation}
            row |= {"method": cell.labels.method, "rung": cell.rung, "seeds": members.seeds}
            row |= columns("members_recovered", *members.mean) | columns("excess", *excess)
            rows.append(row | {name: getattr(members, name) for name in ("between", "within", "training")})
        return pd.DataFrame(rows)

    @property
    def strongest(self) -> Cell:
        """Of `last_cells`, the largest excess; among equals most pixels erased, then the highest median PSNR."""
        return max(self.last_cells, key=strength)

    @cached_property
    def rows(self) -> dict[tuple[str, float], pd.DataFrame]:
        """The results of a run (signature) at a rung, in the order that `Run.gallery`'s `row` counts in."""
        return {
            (str(signature), float(str(rung))): part
            for (signature, rung), part in self.results.groupby(["signature", "rung"], observed=True)
        }


def _adjusted(summary: pd.DataFrame, labels: dict[str, Labels]) -> pd.DataFrame:
    """`summary` with its column `verdict_holm`, see `Findings`."""
    judged = summary[summary["verdict_p"].notna()]
    keys = [(labels[signature], rung) for signature, rung in zip(judged["signature"], judged["rung"], strict=True)]
    p = dict(zip(keys, judged["verdict_p"].tolist(), strict=True))
    adjusted = dict(zip(p, holm(list(p.values())).tolist(), strict=True)) if p else {}
    return summary.assign(verdict_holm=pd.Series([adjusted[key] for key in keys], judged.index, float))


def _whole(store: Path, kind: str) -> tuple[list[Run], list[str]]:
    """The finished runs of a kind that are undamaged, and what is wrong with each of the others."""
    found = finished(store, kind)
    with ThreadPoolExecutor(2) as pool:  # files are read and hashed outside the interpreter's lock
        damages = [*pool.map(damage, (run.folder for run in found))]
    whole = [run for run, wrong in zip(found, damages, strict=True) if not wrong]
    return whole, [wrong for wrong in damages if wrong]


def rows_of(table: pd.DataFrame) -> list[dict[str, Any]]:
    """A table as plain dictionaries, a row each."""
    return [{str(name): value for name, value in row.items()} for row in table.to_dict("records")]


def attraction_of(runs: Iterable[Run]) -> pd.DataFrame:
    """`summary.attraction` of runs of probes by setup and rung, a probe that several made once; or empty."""
    tables = [run.results for run in runs]
    return attraction(distinct(pd.concat(tables)), ("setup", "rung")) if tables else pd.DataFrame()


def distinct(probes: pd.DataFrame) -> pd.DataFrame:
    """`probes` without those of one setup, rung, member, kind and strength that several runs made."""
    return probes.drop_duplicates(["setup", "rung", "member", "kind", "strength"], ignore_index=True)
