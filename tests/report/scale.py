"""A store of 1,000 recoveries of 100 images, with controls and near-member probes, and what its report costs.

`python -m tests.report.scale FOLDER`.

The store is made if FOLDER holds none. Printed: the seconds that the statistics of its results take, repeated to a
million rows, and those that the report takes, its size, and in headless Chromium the seconds to open it and those that
a filter takes until the page has been painted anew.
"""

from __future__ import annotations

import itertools
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from skimage.data import astronaut, chelsea, coffee

from memorization.engine.recovery import ITERATES
from memorization.engine.shards import reduced, to_uint8
from memorization.evaluation.probes import KINDS
from memorization.evaluation.summary import summarise
from memorization.report import main
from memorization.report.browser import chromium
from memorization.store.reading import load_results
from memorization.store.signature import rung_name
from tests.report.store import configured, write, write_probes

RUNGS = (1e-2, 1e-4)
METHODS = ["iterate none", "pnp_admm alternating", "pnp_admm known", "null_space known", "energy known"]
METHODS += ["energy robust", "energy alternating", "null_space alternating", "null_space robust", "inpaint known"]
FILTER = """() => new Promise(done => {
  const start = performance.now();
  document.querySelector("[data-filter=method] input").click();
  requestAnimationFrame(() => setTimeout(() => done((performance.now() - start) / 1000)));
})"""


def crops(count: int, rng: np.random.Generator) -> torch.Tensor:
    """(count, 3, 64, 64) uint8 pieces of photographs."""
    photographs = [astronaut(), chelsea(), coffee()]
    pieces = []
    for i in range(count):
        photograph = photographs[i % 3]
        top, left = (int(rng.integers(side - 64)) for side in photograph.shape[:2])
        pieces.append(torch.from_numpy(photograph[top : top + 64, left : left + 64].copy()).permute(2, 0, 1))
    return torch.stack(pieces)


def make(store: Path) -> None:
    """5 datasets x 2 architectures x 10 degradations x 10 methods, each at two train losses; 50 + 50 images."""
    rng = np.random.default_rng(0)
    grid = itertools.product(["faces", "digits", "patches", "svhn", "cifar10"], ["fc", "conv"], range(10), METHODS)
    rows = torch.tensor([*range(6), *range(50, 56)])
    for dataset, architecture, place, method in grid:
        if (place, method) == (0, METHODS[0]):
            originals = crops(len(rows), rng)
        if method == METHODS[0]:
            task = f"{dataset} {architecture} {place}"
            fraction, noise = [0.5, 0.6, 0.7, 0.8, 0.9][place % 5], 0.1 * (place // 5)
            erased = torch.from_numpy(rng.random((len(rows), 1, 64, 64)) < fraction)
            degraded = torch.where(erased, 0, originals)
        recovery, operator = method.split()
        degradation = {"name": "random_pixels", "fraction": fraction, "fill": "zero", "noise": noise}
        settings = {"dataset.name": dataset, "architecture.name": architecture, "degradation": degradation}
        config = configured({**settings, "recovery.name": recovery, "operator.name": operator})
        scores, gallery = (
            {},
            {"original": originals, "degraded": degraded, "row": rows, "steps": torch.tensor(ITERATES[:5])},
        )
        for rung in RUNGS:
            member = np.arange(100) < 50
            psnr = rng.normal(np.where(member, 45 - 20 * fraction - 100 * noise + (rung < 1e-3) * 10, 14), 8)
            facts = {"image": np.arange(100), "row": np.arange(100), "member": member, "psnr_erased": psnr}
            status = np.where(rng.random(100) < 0.01, "diverged", "converged")
            scores[rung] = pd.DataFrame(facts).assign(status=status, recovered=(psnr > 25) & (status != "diverged"))
            spread = (255 * 10 ** (-psnr[rows] / 20)).clip(0, 90).astype(int)[:, None, None, None]
            noisy = originals.numpy() + rng.integers(-spread, spread + 1, originals.shape)
            answers = torch.from_numpy(noisy.clip(0, 255).astype(np.uint8))
            way = torch.stack(
                [torch.lerp(degraded.float(), answers.float(), share) for share in (0, 0.2, 0.4, 0.6, 0.8)], 1
            )
            gallery |= {f"answer/{rung_name(rung)}": answers, f"path/{rung_name(rung)}": to_uint8(reduced(way / 255))}
        signature = write(store, config, scores, gallery, task=task)
        captured = {kind: sorted(rng.integers(21, size=4), reverse=True) for kind in KINDS}
        write_probes(store, signature, {"none": [20], **captured}, RUNGS[-1], members=20)
        if method == METHODS[0]:  # controls without an autoencoder serve all methods
            for control in ("inpaint", "nearest"):
                write(store, {**config, "control": control}, scores, gallery, task=task)


def measure(store: Path) -> None:
    """Print what the statistics and the report cost."""
    results = load_results(store)
    copies = [results.assign(signature=results["signature"].astype(str) + f" {i}") for i in range(5)]
    million = pd.concat(copies, ignore_index=True)
    start, work = time.perf_counter(), time.process_time()
    summarise(million)
    print(f"statistics: {time.perf_counter() - start:.1f} s for {len(million):,} rows ", end="")
    print(f"({time.process_time() - work:.1f} s of work)")
    start, work = time.perf_counter(), time.process_time()
    main(["--store", str(store)])
    print(f"report: {time.perf_counter() - start:.1f} s ({time.process_time() - work:.1f} s of work)")
    path = store / "report.html"
    print(f"size: {path.stat().st_size / 1e6:.1f} MB")
    with chromium() as browser:
        page = browser.new_page(viewport={"width": 1400, "height": 900})
        page.on("pageerror", lambda error: print(error))
        start = time.perf_counter()
        page.goto(path.resolve().as_uri())
        page.wait_for_selector("#rows tr")
        print(f"opens: {time.perf_counter() - start:.1f} s")
        print(f"filters: {page.evaluate(FILTER):.2f} s, {page.evaluate(FILTER):.2f} s back")


if __name__ == "__main__":
    folder = Path(sys.argv[1])
    if not (folder / "recoveries").is_dir():
        make(folder)
    measure(folder)
