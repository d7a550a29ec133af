"""The first page to read of the documentation; `python docs/tour.py` runs it as a script."""

# %% [markdown]
# # Tour
#
# An autoencoder returns the image that it is given. If it has many more parameters than it needs, it can store its
# training images. On this page we train one on 20 small images (**members**). Then we look for them, in degraded copies
# and without any copy. 20 other images, which it never saw (**non-members**), show what comes back without memory.
#
# The page is the script `docs/tour.py`. It runs each time this site is built, in a few seconds on one core. Open it in
# an editor that knows `# %%` cells, or run it with `python docs/tour.py`, which prints the text without the pictures.

# %% [markdown]
# ## Images
#
# The digits lie inside scikit-learn, so nothing is downloaded. Pixels are in [0, 1].

# %%
import plotly.express as px
import torch
from torch import nn

from memorization import attractors, audit, extract
from memorization.data import Digits, as_float
from memorization.degradations import RandomPixels
from memorization.recovery import Energy, Iterate, Known, solve

torch.set_num_threads(1)  # so small a model is not faster with more
split = Digits(members=20, non_members=20).load(seed=0)
members, others = as_float(split.members), as_float(split.non_members)


def row(images):
    """The first ten of `images` (N, 1, H, W) side by side, with a border."""
    bordered = nn.functional.pad(images[:10, 0], (1, 1, 1, 1), value=0.4)
    return torch.cat([*bordered], dim=1)


def show(caption, *images):
    """A row of pictures for each argument."""
    pixels = torch.cat([row(each) for each in images]).clamp(0, 1).mul(255).byte()
    figure = px.imshow(pixels.numpy(), binary_string=True, height=50 + 70 * len(images))
    figure.update_xaxes(visible=False).update_yaxes(visible=False)
    return figure.update_layout(title=caption, title_font_size=14, margin={"l": 5, "r": 5, "t": 40, "b": 5})


show("Members above, non-members below", members, others)

# %% [markdown]
# ## Train
#
# Four linear layers without a bottleneck, trained on all 20 images at once.

# %%
torch.manual_seed(0)
model = nn.Sequential(
    *(nn.Flatten(), nn.Linear(64, 256), nn.LeakyReLU()),
    *(nn.Linear(256, 256), nn.LeakyReLU(), nn.Linear(256, 256), nn.LeakyReLU()),
    *(nn.Linear(256, 64), nn.Unflatten(1, (1, 8, 8))),
)
optimiser = torch.optim.Adam(model.parameters(), lr=1e-3, betas=(0.9, 0.95))
for _ in range(1500):
    loss = (model(members) - members).square().mean()
    optimiser.zero_grad()
    loss.backward()
    optimiser.step()
print(f"train loss: {loss:.1e}")

# %% [markdown]
# ## Degrade
#
# Half of the pixels of each image are set to 0. A degradation returns what was measured, and which pixels were erased.
# Each image has a seed of its own.

# %%
half = RandomPixels(0.5)
measurement = half(members, seeds=range(20))
show("Members with half of their pixels erased", measurement.y)

# %% [markdown]
# ## Recover
#
# `solve` searches for images that agree with the measurement and that the autoencoder returns unchanged. It knows the
# measurement and the model, and never the originals. `Energy` is our method; `Iterate` applies the model again and
# again. `Known()` tells both which pixels were erased.

# %%
found = solve(model, measurement, Energy(), Known())
iterated = solve(model, measurement, Iterate(), Known())
show("By energy (above) and by iteration (below)", found.images, iterated.images)

# %% [markdown]
# ## Audit
#
# `audit` does the same for members and non-members, and compares the two. An image is **recovered** if the PSNR on its
# erased pixels is at least 25 dB and no other member is closer to the answer. The controls show what comes back without
# the memory: from the same network with new weights, and from the remaining pixels alone.

# %%
result = audit(model, members, others, half, Energy(), controls=True, progress=False)
print(result)

# %% [markdown]
# In a notebook, the result shows some of its images. From left to right: members, then non-members. From top to bottom:
# the original, the degraded image, and the answer.

# %%
result  # noqa: B018

# %%
result.plot()

# %% [markdown]
# Each point on the left is an image; the dotted line is the threshold. On the right are shares with 95 % intervals.
# `result.report("audit.html")` writes the page of the command line.
#
# ## Extract
#
# No measurement at all: noise is sent through the model again and again until it stops changing. Members are only
# compared with the result.

# %%
known = {"members": members, "non_members": others}
extraction = extract(model, (1, 8, 8), queries=60_000, progress=False, **known)
print(extraction)

# %%
out = extraction.images[extraction.table["is_member"].tolist()]
show("Members that came out of noise", out)

# %% [markdown]
# ## Why it works
#
# A stored image is a fixed point of the model that attracts its surroundings: the spectral radius of the Jacobian there
# is below 1. At this train loss not every member attracts. Extraction needs attractors; recovery by energy does not.

# %%
near = attractors(model, members, progress=False).table
print(near["attractor"].value_counts().to_string())
print(f"median spectral radius: {near['spectral_radius'].median():.2f}")

# %% [markdown]
# ## Look
#
# The scores are a pandas table with one row an image. [Results](reference/results.md) explains its columns.

# %%
groups = result.results.groupby(["control", "member"], observed=True)
groups.agg({"psnr_erased": "median", "recovered": "mean"}).round(2)

# %% [markdown]
# ## Next
#
# - The same from the command line, with trainings and results kept on disk: [Sweeps](howto/sweeps.md).
# - [A model of your own](howto/own_model.md), and [images of your own](howto/own_images.md).
# - What is computed, and what it assumes: [the method](method/problem.md).
