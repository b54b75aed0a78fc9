"""Where the networks of a training lie: whole in every process, or divided over the processes (FSDP2).

Divided, each process keeps 1/n of every weight, of its moving average, of its gradient and of its optimiser's state.
The weights of one unit (a stage of a U-Net) are put together while it computes, and given back after it. What is
computed stays the same; so does what is written: checkpoints and finished runs hold whole tensors, and a training
stopped under one layout goes on under the other.

Source: Rajbhandari et al., SC 2020 (ZeRO, stage 3); Zhao et al., VLDB 2023 (FSDP); torch.distributed.fsdp.fully_shard.
"""

from __future__ import annotations

import copy
import warnings
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from rnasynth.engine.checkpoint import with_prefix, without_prefix
from rnasynth.engine.processes import Processes
from rnasynth.engine.system import System, TrainConfig
from rnasynth.engine.watch import gradient_norm
from rnasynth.errors import InputError


@runtime_checkable
class Shardable(Protocol):
    """A network that says which of its parts are put together one after the other when it is divided."""

    def shard_units(self) -> Sequence[nn.Module]:
        """Return modules, none inside another, that forward calls as a whole; what is in none of them is one more unit."""
        ...


class Placement:
    """Puts the networks of a system, and their moving averages, on the device: whole, or divided.

    With `sharding="fsdp2"` and several processes, the networks that name their units are divided; others (a critic
    that is differentiated twice, say) stay whole in every process. In one process nothing is divided.

    Parameters
    ----------
    system : its networks are placed, and `averaged` is filled, both with the weights of process 0 where divided.
    config : `sharding`, `compile`, `channels_last`.
    processes : those that train together.

    Raises
    ------
    InputError : nothing to divide: no network of the system names its units.
    """

    def __init__(self, system: System, config: TrainConfig, processes: Processes) -> None:
        self.system, self.processes = system, processes
        self.mesh: Any = None  # of the processes, where anything is divided
        self._plain: dict[tuple[str, str], nn.Module] = {}  # the networks that are divided, without their weights
        divides = config.sharding == "fsdp2" and processes.size > 1
        if divides and not any(isinstance(network, Shardable) for network in system.networks.values()):
            raise InputError(
                f"train.sharding 'fsdp2' of {system.name}",
                expected="a network that names its units (shard_units)",
                found="none",
                fix="train it with sharding none",
            )
        system.averaged = {}
        for key, network in list(system.networks.items()):
            divided = divides and isinstance(network, Shardable)
            if processes.size > 1 and processes.device.type == "cuda":
                network = nn.SyncBatchNorm.convert_sync_batchnorm(network)
            if not divided:
                network.to(processes.device)
                if config.channels_last:
                    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
            system.networks[key] = network
            if key in system.ema:
                system.averaged[key] = copy.deepcopy(network).requires_grad_(False).eval()
            if divided:  # in the layout that it has: only contiguous weights can be divided
                for kind, one in self._kinds(key):
                    self._plain[kind, key] = _without_weights(one)
                    if config.compile and kind == "networks":
                        compile_units(one)
                    self._divide(one)
            elif config.compile:
                network.compile()

    def _kinds(self, key: str) -> list[tuple[str, nn.Module]]:
        networks = [("networks", self.system.networks[key])]
        return networks + ([("averaged", self.system.averaged[key])] if key in self.system.averaged else [])

    def _all(self) -> list[tuple[str, str, nn.Module]]:
        kinds = [("networks", dict(self.system.networks.items())), ("averaged", self.system.averaged)]
        return [(kind, key, network) for kind, networks in kinds for key, network in networks.items()]

    def _divide(self, network: nn.Module) -> None:
        """Divide a network unit by unit, so that no more than one unit is whole on the device."""
        from torch.distributed.device_mesh import init_device_mesh
        from torch.distributed.fsdp import fully_shard

        assert isinstance(network, Shardable)
        if self.mesh is None:
            self.mesh = init_device_mesh(self.processes.device.type, (self.processes.size,))
            # a unit may return a view as long as nobody writes into it, which the tests would show
            warnings.filterwarnings("ignore", message="FSDP2-wrapped module .* returned a view", category=UserWarning)
        for unit in [*network.shard_units(), network]:
            left = [t for t in [*unit.parameters(), *unit.buffers()] if not self._is_shard(t)]
            for tensor in left:
                tensor.data = tensor.data.to(self.processes.device).contiguous()
            self.processes.broadcast(left)
            fully_shard(unit, mesh=self.mesh, reshard_after_forward=True)  # the whole network too, after a validation

    def _is_shard(self, tensor: Tensor) -> bool:
        if self.mesh is None:
            return False
        from torch.distributed.tensor import DTensor  # takes a second to import

        return isinstance(tensor, DTensor)

    @property
    def divided(self) -> bool:
        """Whether any network is divided."""
        return self.mesh is not None

    # ------------------------------------------------------------------ what a step needs
    @torch.no_grad()
    def local(self, tensors: Iterable[Tensor]) -> list[Tensor]:
        """Return what this process holds of each tensor, sharing its memory; of one that is whole, all of it."""
        return [tensor.to_local() if self._is_shard(tensor) else tensor for tensor in tensors]  # type: ignore[attr-defined]

    def average_gradients(self, parameters: Sequence[nn.Parameter]) -> None:
        """Replace each gradient by its mean over the processes; on the way back FSDP has done so for divided ones."""
        self.processes.average_gradients(p for p in parameters if not self._is_shard(p))

    def norm(self, tensors: Sequence[Tensor]) -> Tensor:
        """Return the 2-norm over all numbers of all tensors, those in other processes too; as `watch.gradient_norm`."""
        if self.mesh is None:
            return gradient_norm(tensors)
        shards = gradient_norm(self.local(t for t in tensors if self._is_shard(t)))
        whole = gradient_norm([t for t in tensors if not self._is_shard(t)])
        return (self.processes.sum(shards.to(self.processes.device).square()) + whole.square().to(shards)).sqrt()

    # ------------------------------------------------------------------ whole tensors in and out
    def gather(self, tensors: Mapping[str, Tensor], *, keep: bool = True) -> dict[str, Tensor]:
        """Return whole tensors; divided ones are put together one by one and held by the CPU. All processes call this.

        Parameters
        ----------
        tensors : weights, or an optimiser's state.
        keep : whether this process wants the result; else it only takes part, and an empty dict is returned.
        """
        whole: dict[str, Tensor] = {}
        for name, tensor in tensors.items():
            if self._is_shard(tensor):
                tensor = tensor.detach().full_tensor()  # type: ignore[attr-defined]
                tensor = tensor.cpu() if keep else tensor
            if keep:
                whole[name] = tensor
        return whole

    def part(self, whole: Tensor, like: Tensor) -> Tensor:
        """Return this process's part of a whole tensor, divided as `like` is; what has another shape stays whole."""
        if not self._is_shard(like) or whole.shape != like.shape:
            return whole
        from torch.distributed.tensor import distribute_tensor

        return distribute_tensor(whole, self.mesh, like.placements, src_data_rank=None)  # type: ignore[attr-defined]

    def weights(self, *, keep: bool = True) -> dict[str, Tensor]:
        """Return all networks and moving averages, "<kind>/<key>/<name>"; see `gather`."""
        tensors: dict[str, Tensor] = {}
        for kind, key, network in self._all():
            tensors |= self.gather(with_prefix(f"{kind}/{key}", network.state_dict()), keep=keep)
        return tensors

    def sampled(self, *, keep: bool = True) -> dict[str, Tensor]:
        """Return the networks of `System.sampled`, their moving average where there is one, "<key>/<name>"; see `gather`."""
        tensors: dict[str, Tensor] = {}
        for key in self.system.sampled():
            network = self.system.averaged.get(key, self.system.networks[key])
            tensors |= self.gather(with_prefix(key, network.state_dict()), keep=keep)
        return tensors

    def load_weights(self, tensors: Mapping[str, Tensor]) -> None:
        """Take networks and moving averages from `weights`."""
        for kind, key, network in self._all():
            given, own = without_prefix(f"{kind}/{key}", tensors), network.state_dict()
            network.load_state_dict({name: self.part(t, own.get(name, t)) for name, t in given.items()})

    def optimizer_parts(self, optimizer: torch.optim.Optimizer, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return this process's parts of an optimiser's state, named "<parameter number>/<name>"."""
        parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
        return {name: self.part(t, parameters[int(name.split("/", 1)[0])]) for name, t in tensors.items()}

    def broadcast(self) -> None:
        """Give all processes the weights of process 0, where they are whole; divided ones came from it."""
        for _, _, network in self._all():
            self.processes.broadcast(t for t in network.state_dict().values() if not self._is_shard(t))

    def join(self) -> None:
        """Make divided networks whole again, on the CPU, in every process; all processes call this."""
        for (kind, key), plain in self._plain.items():
            networks: Any = self.system.networks if kind == "networks" else self.system.averaged
            plain.load_state_dict(self.gather(networks[key].state_dict()), assign=True)
            networks[key] = plain.to("cpu")
        self._plain.clear()
        self.mesh = None


def _without_weights(network: nn.Module) -> nn.Module:
    """Return a copy whose parameters take no memory, for `load_state_dict(..., assign=True)`."""
    empty = {id(p): nn.Parameter(p.detach().to("meta"), requires_grad=p.requires_grad) for p in network.parameters()}
    return copy.deepcopy(network, memo=dict(empty))


def compile_units(network: Any) -> None:
    """Compile what each unit computes, and leave out how it is put together before and given back after."""
    units = network.shard_units()
    settings = torch._dynamo.config
    settings.recompile_limit = max(settings.recompile_limit, len(units))  # units of one class share a limit of shapes
    for unit in units:
        unit.forward = torch.compile(unit.forward, dynamic=False)
