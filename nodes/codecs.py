"""How tensors, networks and training states are kept on disk, bit for bit. Knows no store.

Strides are kept too: a sum over the same numbers in another layout may differ in its last bit.
"""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from kineograph.graph_runtime.codecs import Buffer, CannotKeep, codec
from kineograph.nodes.train.sockets import TrainState

if TYPE_CHECKING:
    from torch import Tensor, nn

DTYPES = {
    "F64": "float64", "F32": "float32", "F16": "float16", "BF16": "bfloat16",
    "F8_E4M3": "float8_e4m3fn", "F8_E5M2": "float8_e5m2",
    "I64": "int64", "I32": "int32", "I16": "int16", "I8": "int8", "U8": "uint8", "BOOL": "bool",
}  # fmt: skip


@codec("torch.Tensor")
class TensorCodec:
    """A tensor on the CPU, with its strides where they are not the usual ones."""

    def take_apart(self, value: Tensor) -> dict[str, Any]:
        """Its bytes in row-major order; a repeated side (stride 0) is written once. Of a sharded one, its own rows."""
        import torch

        from kineograph.nodes.networks import ranks

        whole = tuple(value.shape) if ranks.is_sharded(value) else None
        grad = value.requires_grad and value.is_leaf
        value = ranks.rows(value) if ranks.is_sharded(value) else value
        dtype = next((name for name, known in DTYPES.items() if getattr(torch, known) is value.dtype), None)
        if dtype is None or type(value) not in (torch.Tensor, torch.nn.Parameter) or value.device.type != "cpu":
            raise CannotKeep(f"a {type(value).__name__} of {value.dtype} on {value.device} has no codec")
        plain = value.detach().resolve_neg()
        parts: dict[str, Any] = {"grad": grad}
        if whole is None and plain.stride() != torch.empty(plain.shape, device="meta").stride():
            parts |= {"shape": tuple(plain.shape), "stride": plain.stride()}
            plain = _without_repeats(plain).contiguous()
        raw: Any = plain.as_strided((plain.numel(),), (1,)).view(torch.uint8).numpy() if plain.numel() else b""
        return parts | {"data": Buffer(dtype, tuple(plain.shape), memoryview(raw), whole)}

    def put_together(self, parts: dict[str, Any]) -> Tensor:
        """The tensor in memory of its own, sharded again where its own rows were read."""
        import torch

        from kineograph.nodes.networks.ranks import from_rows

        data: Buffer = parts["data"]
        dtype = getattr(torch, DTYPES[data.dtype])
        plain = torch.empty(data.shape, dtype=dtype)
        if plain.numel():
            plain.copy_(torch.frombuffer(data.data, dtype=dtype).view(data.shape))
        if "stride" in parts:
            strided = torch.empty_strided(data.shape, parts["stride"], dtype=dtype)
            plain = strided.copy_(plain).expand(parts["shape"])
        tensor = plain if data.whole is None else from_rows(plain, data.whole)
        return tensor.requires_grad_(parts["grad"])


def _without_repeats(tensor: Tensor) -> Tensor:
    for side, stride in enumerate(tensor.stride()):
        if stride == 0 and tensor.shape[side] > 1:
            tensor = tensor.narrow(side, 0, 1)
    return tensor


@codec("torch.nn.modules.module.Module")
class NetworkCodec:
    """A network of ours: its kind, its sizes and its weights."""

    def take_apart(self, value: nn.Module) -> dict[str, Any]:
        """Weights by name, and which of them are trained."""
        weights = value.state_dict(keep_vars=True)
        if len({id(each) for each in weights.values()}) < len(weights):
            raise CannotKeep(f"a {type(value).__name__} whose weights are tied has no codec")
        return {
            "network": _description(value),
            "weights": {name: each.detach() for name, each in weights.items()},
            "trained": [name for name, each in value.named_parameters() if each.requires_grad],
            "training": [name for name, module in value.named_modules() if module.training],
        }

    def put_together(self, parts: dict[str, Any]) -> nn.Module:
        """A network of that kind that holds these very tensors."""
        network = _network(parts["network"], parts["weights"])
        network.load_state_dict(parts["weights"], assign=True)
        for name, parameter in network.named_parameters():
            parameter.requires_grad_(name in parts["trained"])
        for name, module in network.named_modules():
            module.training = name in parts["training"]
        return network


def _description(network: nn.Module) -> dict[str, Any]:
    from kineograph.nodes.networks.caption_reader import CaptionReader
    from kineograph.nodes.networks.components import KINDS
    from kineograph.nodes.networks.ranks import plain_class

    if isinstance(network, CaptionReader):
        heads: Any = network.summary
        attributes = {name: head.out_features - 1 for name, head in heads.items()}
        return {"kind": "caption_reader", "encoder": asdict(network.encoder.config), "attributes": attributes}
    kind = next((name for name, (_, cls) in KINDS.items() if plain_class(network) is cls), None)
    if kind is None:
        raise CannotKeep(f"a network of the class {type(network).__name__} has no codec")
    return {"kind": kind, "config": asdict(network.config)}  # type: ignore[arg-type]


def _network(about: dict[str, Any], weights: dict[str, Tensor]) -> nn.Module:
    """A network to hold weights: without numbers of its own, where they are sharded."""
    import torch

    from kineograph.nodes.networks import ranks
    from kineograph.nodes.networks.caption_reader import CaptionReader
    from kineograph.nodes.networks.components import build

    if any(ranks.is_sharded(each) for each in weights.values()):
        with torch.device("meta"):
            network = build(about["kind"], about["config"])
        ranks.shard(network)
        return network

    if about["kind"] != "caption_reader":
        return build(about["kind"], about["config"])
    encoder: Any = build("text_encoder", about["encoder"])
    with torch.random.fork_rng(devices=[]):
        return CaptionReader(encoder, about["attributes"])


@codec("kineograph.nodes.train.sockets.TrainState")
class TrainStateCodec:
    """A model in training and its optimizer: model, recipe and the optimizer's state_dict say all of it."""

    def take_apart(self, value: TrainState) -> dict[str, Any]:
        """The model, and the optimizer as plain values and tensors."""
        return {"model": value.model, "recipe": value.recipe, "optimizer": value.optimizer.state_dict()}

    def put_together(self, parts: dict[str, Any]) -> TrainState:
        """The same model with an optimizer over its parameters in the same state."""
        from kineograph.nodes.train.optimizer import train_state

        state = train_state(parts["model"], parts["recipe"])
        state.optimizer.load_state_dict(parts["optimizer"])
        return state
