"""Turn a published .pth, .pt, .bin or .tar file of weights into safetensors: python convert_weights.py IN OUT.safetensors.

The file is opened with `weights_only=True`: one that would run code when it is opened is refused. Do it once, where nothing
else lies that a broken file could harm, and carry only the safetensors file on.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping
from pathlib import Path
from pickle import UnpicklingError

import torch
from safetensors.torch import save_file

INSIDE = ("state_dict", "model_state_dict", "model", "desc")  # where projects put the weights; HoVer-Net: desc


def main() -> int:
    """Read, check, write; return 2 where the file is not a table of weights."""
    parser = argparse.ArgumentParser(description="Turn a published file of weights into safetensors.")
    parser.add_argument("published", type=Path)
    parser.add_argument("out", type=Path, help="a name that ends in .safetensors")
    parser.add_argument(
        "--kind", choices=("inception", "other"), default="other", help="inception is checked by name and shape"
    )
    given = parser.parse_args()
    if given.out.suffix != ".safetensors" or not given.published.is_file():
        print(f"{given.published} -> {given.out}: expected a file, and a name that ends in .safetensors", file=sys.stderr)
        return 2
    try:
        weights = torch.load(given.published, map_location="cpu", weights_only=True)
    except (UnpicklingError, RuntimeError, EOFError) as error:
        print(f"{given.published}: refused, it is no plain file of weights ({type(error).__name__})", file=sys.stderr)
        return 2
    for name in INSIDE:
        if isinstance(weights, Mapping) and isinstance(weights.get(name), Mapping):
            weights = weights[name]
    if (
        not isinstance(weights, Mapping)
        or not weights
        or not all(isinstance(value, torch.Tensor) for value in weights.values())
    ):
        print(f"{given.published}: expected a table of tensors by name", file=sys.stderr)
        return 2
    if given.kind == "inception":
        from rnasynth.errors import RnasynthError
        from rnasynth.features.networks import save_inception

        try:
            save_inception(weights, given.out)
        except RnasynthError as error:
            print(error, file=sys.stderr)
            return 2
    else:
        partial = given.out.with_name(f".{given.out.name}.partial")
        save_file({str(name): value.contiguous().clone() for name, value in weights.items()}, partial)
        partial.replace(given.out)
    print(f"{given.out}: {len(weights)} tensors, {sum(value.numel() for value in weights.values()):,} numbers")
    return 0


if __name__ == "__main__":
    sys.exit(main())
