"""Feature networks by name or file: the embedded descriptor, released networks, Inception with a user's weights.

    stain-texture              `features.StainTexture`, no weights
    simclr-her2st              released here: self-supervised on H&E, with its card in `book/released/simclr-her2st`
    a run's folder or name     a trained `simclr` system
    a file .safetensors        weights of the Frechet distance's Inception, converted by `save_inception`

Inception's weights are not part of this project; `book/decisions.md` says where a user finds them and how to convert them,
once, in an environment that is thrown away.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from rnasynth import files
from rnasynth.engine import load_tensors, save_tensors
from rnasynth.errors import InputError
from rnasynth.features.tiles import FeatureNetwork, StainTexture, TorchFeatures
from rnasynth.nets.inception import FEATURES, InceptionV3, convert, prepare
from rnasynth.runs import load_run

EMBEDDED = "stain-texture"
RELEASED = "simclr-her2st"
READER_NAMES = {  # how the name of a network begins -> what a legend calls it
    EMBEDDED: "stain and texture",
    "simclr-": "self-supervised (SimCLR)",
    "inception-": "Inception",
}


class InceptionFeatures(TorchFeatures):
    """Inception V3 of the Frechet distance, from converted weights.

    Parameters
    ----------
    weights : a safetensors file made by `save_inception`.
    device : where the network runs.
    antialias : blur tiles above 299 px before making them smaller; the published distances do not.

    Raises
    ------
    InputError : the weights are of another network. RunError : the file is no safetensors file.
    """

    def __init__(self, weights: str | Path, *, device: str | torch.device = "cpu", antialias: bool = False) -> None:
        network = InceptionV3()
        try:
            network.load_state_dict(convert(load_tensors(Path(weights))))
        except ValueError as error:
            raise InputError(str(weights), expected="converted Inception weights", found=str(error)) from None
        self.inception = network.requires_grad_(False)
        self.preprocessing = f"bilinear to 299 px, {'' if antialias else 'not '}antialiased, scaled to [-1, 1]"
        super().__init__(
            network,
            lambda tiles, _: prepare(torch.from_numpy(np.ascontiguousarray(tiles)), antialias=antialias),
            name=f"inception-fid-{files.sha256(weights)[:8]}",
            dim=FEATURES,
            device=device,
        )

    def probabilities(self, features: NDArray[np.float32]) -> NDArray[np.float64]:
        """Return the 1,008 probabilities, shape (N, 1008), of features (N, 2048), for `manifold.inception_score`."""
        with torch.inference_mode():
            logits = self.inception.logits(torch.from_numpy(np.ascontiguousarray(features)).to(self.device))
            return np.asarray(logits.double().softmax(dim=1).cpu().numpy())


def save_inception(published: Mapping[str, Tensor], path: str | Path) -> None:
    """Convert the published weights, by name, and write them as safetensors.

    Parameters
    ----------
    published : the state dict of `pt_inception-2015-12-05`, nothing but tensors; `book/decisions.md` tells how to get it.

    Raises
    ------
    InputError : a weight is missing, unknown, of another shape or not finite.
    """
    try:
        converted = convert(published)
    except ValueError as error:
        fix = "use pt_inception-2015-12-05"
        raise InputError("Inception weights", expected="those of the FID network", found=str(error), fix=fix) from None
    save_tensors(Path(path), converted)


def feature_network(name: str | Path) -> FeatureNetwork:
    """Return a feature network by its name or file, see the module.

    Raises
    ------
    InputError : a run of a system that is no feature network. RunError : no such run, or damaged files.
    """
    if str(name) == EMBEDDED:
        return StainTexture()
    if Path(name).suffix == ".safetensors":
        return InceptionFeatures(name)
    loaded = load_run(name).load()
    if not isinstance(loaded, FeatureNetwork):
        raise InputError(f"run {name}", expected="a feature network (system simclr)", found=type(loaded).__name__)
    return loaded


def reader_names(names: Sequence[str]) -> dict[str, str]:
    """Return what a legend calls networks: name (`FeatureNetwork.name`) -> words; two of a kind keep their names, too.

    Examples
    --------
    >>> reader_names(["stain-texture-1", "simclr-bc6e66e544b5"])
    {'stain-texture-1': 'stain and texture', 'simclr-bc6e66e544b5': 'self-supervised (SimCLR)'}
    >>> reader_names(["simclr-1", "simclr-2"])["simclr-2"]
    'self-supervised (SimCLR, simclr-2)'
    """
    kinds = {name: next((kind for kind in READER_NAMES if name.startswith(kind)), "") for name in names}
    found = {}
    for name, kind in kinds.items():
        words = READER_NAMES.get(kind, name)
        several = kind and list(kinds.values()).count(kind) > 1
        found[name] = (f"{words[:-1]}, {name})" if words.endswith(")") else f"{words} ({name})") if several else words
    return found


def preprocessing_of(network: FeatureNetwork) -> str:
    """Return in words what a network does to tiles before it looks; part of what makes two distances comparable."""
    return str(getattr(network, "preprocessing", "tiles as given"))
