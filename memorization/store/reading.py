"""Finished runs, read back from the run store: configurations, autoencoders, results, one run's or all of a store's.

Torch, pandas and Arrow are imported by what needs them: to find runs takes none of them.
"""

from __future__ import annotations

import hashlib
import math
import os
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache, cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING

import yaml

from memorization.components import Record, expanded
from memorization.store.files import StoreError, check_weights, files_of, read_done, verified
from memorization.store.signature import rung_name

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa
    from torch import Tensor, nn

SAFE = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # the same, ten times as fast, where libyaml is installed
PART = 256  # runs whose results are read in one go


@dataclass(frozen=True)
class Run:
    """A finished run, read from its folder; of an autoencoder, a recovery or an extraction.

    packages: those from which an autoencoder's class may be imported, beside our own and `torch.nn`. What the folder's
    own configuration allows does not count: it may be anybody's.
    """

    folder: Path
    packages: tuple[str, ...] = ()

    @cached_property
    def config(self) -> Record:
        """The configuration it was made with, plain dictionaries and values."""
        config: Record = yaml.load(verified(self.folder, "config.yaml").read_text(), Loader=SAFE)
        return config

    @cached_property
    def done(self) -> Record:
        return read_done(self.folder)

    @property
    def rungs(self) -> dict[float, float]:
        """Of an autoencoder: the train loss measured at each rung that its training reached, highest rung first."""
        if "rungs" not in self.done:
            raise StoreError(f"{self.folder} is a recovery; its autoencoder is {self.done.get('autoencoder')}")
        return {float(rung): loss for rung, loss in self.done["rungs"].items()}

    def weights(self, rungs: Iterable[float]) -> dict[str, str]:
        """Of an autoencoder: the files of weights of some rungs, with their checksums."""
        names = {f"weights/{rung_name(rung)}" for rung in rungs}
        return {name: digest for name, digest in self.done["checksums"].items() if name.rpartition(".")[0] in names}

    def autoencoder(self, rung: float | None = None) -> nn.Module:
        """The trained autoencoder at `rung` (default: the lowest reached), in eval mode, its parameters frozen.

        Of a recovery's run, the autoencoder it was made with.
        """
        from safetensors.torch import load_file

        from memorization.architectures import Architecture

        if self.done.get("autoencoder") == "":
            raise StoreError(f"{self.folder} is a control without a trained autoencoder")
        if "autoencoder" in self.done:
            check_weights(self.folder, self.done)
            folder = self.folder.absolute().parents[1] / "autoencoders" / self.done["autoencoder"]
            return load_run(folder, self.packages).autoencoder(rung)
        if not (reached := list(self.rungs)):
            raise StoreError(f"{self.folder}: the training reached no rung of its ladder")
        rung = reached[-1] if rung is None or math.isnan(rung) else rung  # NaN: without members there is no loss
        if rung not in reached:
            raise StoreError(f"{self.folder}: no rung {rung:g}; it has {', '.join(f'{r:g}' for r in reached)}")
        name = f"weights/{rung_name(rung)}"
        trained = Architecture.of(**self.config["architecture"])
        program = verified(self.folder, f"{name}.pt2", self.done) if trained.exported else None
        stored, shape = trained.stored(program, self.packages), tuple(self.done["shape"])
        if program:
            model = stored.build(shape, seed=0)
        else:
            model = stored.loaded(shape, load_file(verified(self.folder, f"{name}.safetensors", self.done)))
        return model.eval().requires_grad_(False)

    @cached_property
    def results(self) -> pd.DataFrame:
        """Of a recovery: one row an image and rung. Of an extraction: one row a distinct end."""
        table: pd.DataFrame = _read_table(self).to_pandas(use_threads=False)
        return table

    @cached_property
    def gallery(self) -> dict[str, Tensor]:
        """Of a recovery: `original`, `degraded` (K, C, H, W) uint8, their `row` (index into a rung's results), and
        for each rung `answer/<rung>` and, in newer runs, `path/<rung>` (K, P, C, h, w): the answers after the numbers
        of iterations in `steps` (P,), reduced to small pictures, of an image that was still being solved."""
        from safetensors.torch import load_file

        return load_file(verified(self.folder, "gallery.safetensors"))

    @cached_property
    def ends(self) -> dict[str, Tensor]:
        """Of an extraction: `ends` (K, C, H, W) float32, a row of its results each, and the nearest `member` of each,
        uint8."""
        from safetensors.torch import load_file

        return load_file(verified(self.folder, "ends.safetensors"))


def load_run(path: str | Path, packages: Iterable[str] = ()) -> Run:
    """The finished run in the folder `path`; raises `StoreError` if there is none, or its autoencoder was made anew.

    An autoencoder of a class of your own is loaded only from the `packages` that you name here.
    """
    folder = expanded(path)
    check_weights(folder, read_done(folder))
    return Run(folder, tuple(packages))


def finished(store: str | Path, kind: str = "recoveries") -> list[Run]:
    """All finished runs of a kind (`autoencoders`, `recoveries`, `extractions`) in a store, by signature."""
    return [Run(path.parent) for path in sorted((expanded(store) / kind).glob("[!.]*/done.json"))]


def load_results(store: str | Path) -> pd.DataFrame:
    """The results of all finished recoveries in a store, in one table; its columns of text are categorical."""
    runs = finished(store)
    if not runs:
        raise StoreError(f"{store} holds no finished recovery; make one with memorization-recover store={store}")
    return results_of(runs)


def load_extractions(store: str | Path) -> pd.DataFrame:
    """The ends of all finished extractions in a store, in one table; its columns of text are categorical.

    One row a distinct end: see `evaluation.extraction.ends_table`, with `image`, the number of the nearest member in
    its data set, and what each row says of its run. An extraction in which nothing settled has no row.
    """
    runs = finished(store, "extractions")
    if not runs:
        raise StoreError(f"{store} holds no finished extraction; make one with memorization-extract store={store}")
    return results_of(runs)


def load_attractors(store: str | Path) -> pd.DataFrame:
    """The fixed points near the images of all autoencoders for which a store has them; one row an image and rung.

    Columns: `autoencoder` (its signature), `rung`, `train_loss`, `image`, `member`; `attractor` (the verdict),
    `attractor_distance`, `attractor_residual`, `image_residual`, `spectral_radius`, `singular_value` and
    `spectrum_converged`, which are explained in `extraction.spectrum.Attractors`.
    """
    runs = finished(store, "attractors")
    if not runs:
        raise StoreError(f"{store} holds no attractors; make them with memorization-recover attractors=true")
    return results_of(runs)


def load_lira(store: str | Path) -> pd.DataFrame:
    """The scores of all membership inferences of a store, in one table; one row an image, recovery and rung.

    Columns: `image`, `member`, `rung`, `train_loss`; `own_psnr` (dB; minus the logarithm of the image's loss) and
    `psnr_erased` (dB, within 0 and 120), whose thresholds are the plain attacks; `lira` and `lira_loss`, the
    log-likelihood ratios of both, and the same with `_kernel`, `_offline` and `_rank`; see
    `evaluation.lira.likelihood_ratio`. `references` is how many there were, `setup` that of the recovery's results.
    """
    runs = finished(store, "lira")
    if not runs:
        raise StoreError(f"{store} holds no membership inference; make one with memorization-recover references=16")
    return results_of(runs)


def with_attractors(results: pd.DataFrame, store: str | Path) -> pd.DataFrame:
    """Rows of recoveries, as of `load_results`, with the columns of `load_attractors` for their image and rung.

    Rows are in the same order. The new columns are NaN of a control and where a store has no attractors at a rung.
    """
    folder = expanded(store) / "recoveries"
    made_with = {name: read_done(folder / name)["autoencoder"] for name in results["signature"].unique()}
    found = load_attractors(store).drop(columns=["train_loss", "member", "signature"])
    rows = results.assign(autoencoder=results["signature"].astype(str).map(made_with))
    found["autoencoder"] = found["autoencoder"].astype(str)
    joined: pd.DataFrame = rows.merge(found, on=["autoencoder", "rung", "image"], how="left", validate="m:1")
    return joined.drop(columns="autoencoder")


def results_of(runs: list[Run]) -> pd.DataFrame:
    """The results of recoveries, or of extractions, in one table, as of `load_results`."""
    import pandas as pd
    import pyarrow as pa

    parts = [runs[i : i + PART] for i in range(0, len(runs), PART)]
    with ThreadPoolExecutor(os.cpu_count()) as pool:  # reading, hashing and decoding do not hold the interpreter's lock
        tables = [*pool.map(partial(_read_part, files=cache(files_of)), parts)]
    table = pa.concat_tables(tables, promote_options="permissive").unify_dictionaries()
    del tables
    columns = {}
    for name in table.column_names:  # one at a time, freed before the next
        columns[name] = table.column(name).to_pandas()
        table = table.drop_columns([name])
        pa.default_memory_pool().release_unused()
    return pd.DataFrame(columns, copy=False)


def _read_part(runs: list[Run], files: Callable[[Path, str], dict[str, str]]) -> pa.Table:
    """The results of some runs in one piece, in which each text is stored once."""
    import pyarrow as pa

    tables = [_read_table(run, files) for run in runs]
    tables = [table for table in tables if table.num_rows] or tables[:1]  # an empty column may have another type
    table = pa.concat_tables(tables, promote_options="permissive").combine_chunks()
    for i, field in enumerate(table.schema):
        if pa.types.is_string(field.type) or pa.types.is_large_string(field.type):
            table = table.set_column(i, field.name, table.column(i).dictionary_encode())
    return table


def _read_table(run: Run, files: Callable[[Path, str], dict[str, str]] = files_of) -> pa.Table:
    """A recovery's results as they are stored, verified (see `check_weights`) and read in one pass over the file."""
    import pyarrow as pa
    from pyarrow import parquet

    path, done = run.folder / "results.parquet", read_done(run.folder)  # not kept: there may be thousands of runs
    check_weights(run.folder, done, files=files)
    content = path.read_bytes() if path.is_file() else b""
    if hashlib.sha256(content).hexdigest() != done["checksums"].get(path.name):
        verified(run.folder, path.name)  # says what is wrong
    return parquet.ParquetFile(pa.BufferReader(content), pre_buffer=False).read(use_threads=False)
