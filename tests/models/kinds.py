"""Autoencoders of well-known packages, small, and the words with which each is audited."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from torch import Tensor, nn

Images = tuple[Tensor, Tensor]  # members and non-members


@dataclass(frozen=True)
class Kind:
    """One kind of model.

    make: gives it, of the members and a folder for files. first: a line of its user's before the call, such as one
        that reads the file that `make` gave the path of. words: what its user adds to `audit(model, members, others)`.
        Both as they would be typed, and empty if there is nothing to type.
    trained: `make` trains it, or it cannot be trained here.
    """

    name: str
    make: Callable[[Tensor, Path], Any]
    words: str = ""
    channels: int = 1
    size: int = 32
    trained: bool = False
    first: str = ""

    @property
    def package(self) -> str:
        """The package that it comes from."""
        return self.name.partition(" ")[0]

    def images(self) -> Images:
        """Smooth random images: five members and five non-members."""
        generator = torch.Generator().manual_seed(self.size)
        coarse = torch.rand(10, self.channels, 6, 6, generator=generator)
        images = nn.functional.interpolate(coarse, self.size, mode="bicubic").clamp(0, 1)
        return images[:5], images[5:]


def of(target: str, **kwargs: Any) -> Callable[[Tensor, Path], Any]:
    """The class at `target`, imported when it is asked for, with its arguments."""

    def make(members: Tensor, folder: Path) -> Any:
        module, _, name = target.rpartition(".")
        return getattr(__import__(module, fromlist=[name]), name)(**kwargs)

    return make


def pythae(name: str) -> Kind:
    def make(members: Tensor, folder: Path) -> nn.Module:
        from pythae import models

        config = getattr(models, f"{name}Config")(input_dim=(1, 32, 32), latent_dim=8)
        made: nn.Module = getattr(models, name)(config)
        return made

    words = 'input_key="data", output="recon_x"'
    if name == "VAE":
        words = "call=lambda model, x: model.decoder(model.encoder(x).embedding).reconstruction"
    return Kind(f"pythae {name}", make, words)


def masked(members: Tensor, folder: Path) -> nn.Module:
    """ViTMAE, which hides patches at random and answers in patches."""
    from transformers import ViTMAEConfig, ViTMAEForPreTraining

    small = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
    own = {"decoder_hidden_size": 32, "decoder_num_hidden_layers": 1, "decoder_num_attention_heads": 2}
    sizes = {"image_size": 32, "patch_size": 8, "num_channels": 3, "decoder_intermediate_size": 64}
    return ViTMAEForPreTraining(ViTMAEConfig(**small, **own, **sizes))


class Dense(nn.Module):
    """A small network of ours, by which wrappers are tried."""

    def __init__(self, pixels: int = 1024) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Flatten(), nn.Linear(pixels, 128), nn.LeakyReLU(), nn.Linear(128, pixels))

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x).reshape(x.shape)


class Module(pl.LightningModule):
    def __init__(self) -> None:
        super().__init__()
        self.network = Dense()

    def forward(self, x: Tensor) -> Tensor:
        return self.network(x)  # type: ignore[no-any-return]


class Sampling(nn.Module):
    """A VAE as in many tutorials: a tuple, and another answer each time."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder, self.decoder = nn.Linear(1024, 2 * 16), nn.Linear(16, 1024)

    def encode(self, x: Tensor) -> tuple[Tensor, Tensor]:
        mean, log_var = self.encoder(x.flatten(1)).chunk(2, 1)
        return mean, log_var

    def decode(self, z: Tensor) -> Tensor:
        return torch.sigmoid(self.decoder(z)).view(-1, 1, 32, 32)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        mean, log_var = self.encode(x)
        return self.decode(mean + torch.randn_like(mean) * (log_var / 2).exp()), mean, log_var


class Drawn(Sampling):
    """The same, but for the answer: the images alone."""

    def forward(self, x: Tensor) -> Tensor:  # type: ignore[override]
        return super().forward(x)[0]


class Keras(nn.Module):
    """Images (B, H, W, C) in [-1, 1], as in TensorFlow."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(3072, 128), nn.LeakyReLU(), nn.Linear(128, 3072), nn.Tanh())

    def forward(self, x: Tensor) -> Tensor:
        if x.shape[3] != 3:
            raise ValueError(f"expected (batch, height, width, 3), got {tuple(x.shape)}")
        return self.layers(x.flatten(1)).view(x.shape)  # type: ignore[no-any-return]


class Fixed(nn.Module):
    """Of 28x28 pixels, and nothing else."""

    def __init__(self) -> None:
        super().__init__()
        self.down, self.up = nn.Linear(784, 64), nn.Linear(64, 784)

    def forward(self, x: Tensor) -> Tensor:
        return self.up(torch.relu(self.down(x.view(-1, 784)))).view(-1, 1, 28, 28)  # type: ignore[no-any-return]


def trained(model: nn.Module, members: Tensor, forward: Callable[[Tensor], Tensor], steps: int = 150) -> None:
    """Fit a model to the members for seconds."""
    optimizer = torch.optim.Adam(model.parameters(), 3e-3)
    model.train()
    for _ in range(steps):
        optimizer.zero_grad()
        loss = (forward(members) - members).square().mean()
        loss.backward()
        optimizer.step()
    model.eval()


def dense(members: Tensor) -> nn.Module:
    model = Dense(members[0].numel())
    trained(model, members, model)
    return model


def checkpoint(members: Tensor, folder: Path) -> Path:
    """A Lightning module's own file."""
    module = Module()
    trained(module, members, module)
    trainer = pl.Trainer(logger=False, enable_checkpointing=False, accelerator="cpu", max_steps=0)
    trainer.strategy.connect(module)
    trainer.save_checkpoint(folder / "net.ckpt")
    return folder / "net.ckpt"


def script(members: Tensor, folder: Path) -> Path:
    torch.jit.script(dense(members)).save(folder / "net.pt")
    return folder / "net.pt"


def onnx(members: Tensor, folder: Path) -> Path:
    path, axes = folder / "net.onnx", {"x": {0: "batch"}, "y": {0: "batch"}}
    how = {"input_names": ["x"], "output_names": ["y"], "dynamic_axes": axes, "dynamo": False}
    torch.onnx.export(dense(members), (members[:2],), str(path), **how)
    return path


def regressor(members: Tensor, folder: Path) -> Any:
    from sklearn.neural_network import MLPRegressor

    rows = members.flatten(1).numpy()
    return MLPRegressor(hidden_layer_sizes=(64,), max_iter=300, tol=0, random_state=0, solver="lbfgs").fit(rows, rows)


def components(members: Tensor, folder: Path) -> Any:
    from sklearn.decomposition import PCA

    return PCA(4).fit(members.flatten(1).numpy())


def arrays(members: Tensor, folder: Path) -> Any:
    weights = np.linalg.pinv(members.flatten(1).numpy()) @ members.flatten(1).numpy()
    return lambda x: (x.reshape(len(x), -1) @ weights).astype(np.float32).reshape(x.shape)


MONAI = {"spatial_dims": 2, "in_channels": 1, "out_channels": 1}
BLOCKS = {"block_out_channels": (8, 8), "norm_num_groups": 4}
DIFFUSERS = {"down_block_types": ("DownEncoderBlock2D",) * 2, "up_block_types": ("UpDecoderBlock2D",) * 2, **BLOCKS}
POSTERIOR = "call=lambda model, x: model.decode(model.encode(x)[0])"
MEAN = "call=lambda model, x: model.decode_forward(model.encode_forward(x)[0], model.use_sigmoid)"
PATCHES = "call=lambda model, x: model.unpatchify(model(x).logits)"

KINDS = [
    Kind("monai AutoEncoder", of("monai.networks.nets.AutoEncoder", **MONAI, channels=(4, 8), strides=(2, 2))),
    Kind(
        "monai VarAutoEncoder",
        of(
            "monai.networks.nets.VarAutoEncoder",
            spatial_dims=2,
            in_shape=(1, 32, 32),
            out_channels=1,
            latent_size=8,
            channels=(4, 8),
            strides=(2, 2),
        ),
        MEAN,
    ),
    Kind("monai UNet", of("monai.networks.nets.UNet", **MONAI, channels=(4, 8, 16), strides=(2, 2))),
    Kind(
        "monai AutoencoderKL",
        of(
            "monai.networks.nets.AutoencoderKL",
            **MONAI,
            channels=(8, 8),
            num_res_blocks=1,
            norm_num_groups=4,
            attention_levels=(False, False),
            latent_channels=4,
        ),
        POSTERIOR,
    ),
    Kind("diffusers AutoencoderKL", of("diffusers.AutoencoderKL", **DIFFUSERS), 'output="sample"', 3),
    Kind(
        "diffusers AutoencoderTiny",
        of(
            "diffusers.AutoencoderTiny",
            encoder_block_out_channels=(16, 16),
            decoder_block_out_channels=(16, 16),
            num_encoder_blocks=(1, 1),
            num_decoder_blocks=(1, 1),
        ),
        'output="sample", value_range=(-1, 1)',
        3,
    ),
    Kind("diffusers VQModel", of("diffusers.VQModel", **DIFFUSERS, num_vq_embeddings=16), 'output="sample"', 3),
    Kind(
        "diffusers UNet2DModel",
        of(
            "diffusers.UNet2DModel",
            sample_size=32,
            layers_per_block=1,
            **BLOCKS,
            down_block_types=("DownBlock2D",) * 2,
            up_block_types=("UpBlock2D",) * 2,
        ),
        'call=lambda model, x: model(x, timestep=0), output="sample"',
        3,
    ),
    pythae("AE"),
    pythae("VAE"),
    Kind("transformers ViTMAE", masked, PATCHES, 3, first="model.config.mask_ratio = 0.0"),
    Kind("lightning module", lambda m, f: Module()),
    Kind("lightning file", checkpoint, trained=True, first='model = Module.load_from_checkpoint("net.ckpt")'),
    Kind("torch torch.compile", lambda m, f: torch.compile(dense(m), backend="eager"), trained=True),
    Kind("torch TorchScript module", script, trained=True, first='model = torch.jit.load("net.pt")'),
    Kind("torch TorchScript file", script, trained=True, first='model = Exported("net.pt")'),
    Kind("onnxruntime ONNX file", onnx, trained=True, first='model = Exported("net.onnx")'),
    Kind(
        "onnxruntime InferenceSession",
        onnx,
        "call=lambda model, x: model.run(None, {model.get_inputs()[0].name: x.numpy()})[0]",
        trained=True,
        first='model = onnxruntime.InferenceSession("net.onnx")',
    ),
    Kind(
        "scikit-learn MLPRegressor",
        regressor,
        'call=lambda model, x: model.predict(x), layout="flat"',
        trained=True,
        size=12,
    ),
    Kind(
        "scikit-learn PCA",
        components,
        'call=lambda model, x: model.inverse_transform(model.transform(x)), layout="flat"',
        trained=True,
    ),
    Kind("torch VAE that samples", lambda m, f: Drawn(), POSTERIOR),
    Kind("torch VAE that samples, a tuple", lambda m, f: Sampling(), POSTERIOR),
    Kind("torch [-1, 1], channels last", lambda m, f: Keras(), 'value_range=(-1, 1), layout="channels_last"', 3),
    Kind("torch 28x28 only", lambda m, f: Fixed(), "resize_to=28"),
    Kind("numpy function of arrays", arrays, trained=True),
]

# What a user adds to the command line, of one kind of each package; and a module of their own, where words do not do.
COMMANDS = {
    "monai UNet": [
        "architecture.target=monai.networks.nets.UNet",
        "architecture.allowed=[monai]",
        "architecture.kwargs={spatial_dims:2,in_channels:1,out_channels:1,channels:[4,8],strides:[2]}",
    ],
    "diffusers VQModel": [
        "architecture.target=diffusers.VQModel",
        "architecture.kwargs={block_out_channels:[8],norm_num_groups:4}",
        *["architecture.allowed=[diffusers]", "architecture.output=sample"],
    ],
    "pythae AE": [
        *["architecture.target=mine.dense", "architecture.allowed=[mine]"],
        *["architecture.input_key=data", "architecture.output=recon_x"],
    ],
    "transformers ViTMAE": ["architecture.target=mine.Patches", "architecture.allowed=[mine]"],
}
MINE = """
import torch
from pythae.models import AE, AEConfig
from transformers import ViTMAEConfig, ViTMAEForPreTraining
class Patches(ViTMAEForPreTraining):
    def __init__(self): super().__init__(ViTMAEConfig(image_size=32, patch_size=8, mask_ratio=0.0, hidden_size=32,
        num_hidden_layers=1, num_attention_heads=2, intermediate_size=64, decoder_hidden_size=32,
        decoder_num_hidden_layers=1, decoder_num_attention_heads=2, decoder_intermediate_size=64))
    def forward(self, x): return self.unpatchify(super().forward(x).logits)
def dense() -> torch.nn.Module: return AE(AEConfig(input_dim=(1, 32, 32), latent_dim=8))
"""


def environment(folder: Path) -> dict[str, str]:
    """That of a command which finds the modules in a folder, and this project."""
    return {**os.environ, "PYTHONPATH": os.pathsep.join([str(folder), str(Path(__file__).parents[2])])}
