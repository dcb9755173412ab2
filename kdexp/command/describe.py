"""describe=true: the networks of a pair, tap by tap, and what each method would do with them. Nothing is trained."""

import torch
from omegaconf import DictConfig
from rich.console import Console
from rich.table import Table
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from kdexp.config import plugins, resolve
from kdexp.config.targets import ShapesOnly
from kdexp.errors import UsageError
from kdexp.experiment.networks import build_network
from kdexp.experiment.objects import build_method
from kdexp.models import Tap, count_parameters


def describe(configs: list[DictConfig]) -> None:
    """Print this for each pair in the configurations. Raises UsageError for a network that cannot be built."""
    console, seen = Console(highlight=False, soft_wrap=True), []
    for config in map(resolve.plain, configs):
        if config["model"] not in seen:
            seen.append(config["model"])
            with torch.device("meta"), ShapesOnly():
                for part in _pair(config):
                    console.print(part)
            console.print()


def _pair(config: dict) -> list[Table | str]:
    nodes = {role: node for role in ("teacher", "student") if (node := config["model"][role])}
    networks = {role: build_network(node, config["plugins"]) for role, node in nodes.items()}
    titles = [f"{role} {nodes[role]['name']}" for role in networks]
    data = config["dataset"]
    tables = [_networks(titles, list(networks.values()), data["image_size"], data["channels"])]
    return [*tables, *(["", *_methods(config, **networks)] if "teacher" in networks else [])]


def _networks(titles: list[str], networks: list[nn.Module], size: int, channels: int) -> Table:
    table = Table(box=None, header_style="bold")
    table.add_column("tap")
    for title in titles:
        table.add_column(title, justify="right")
    taps = [network.taps for network in networks]
    for tap in dict.fromkeys(name for one in taps for name in one):
        table.add_row(tap, *(_shape(one.get(tap)) for one in taps))
    table.add_row("logits", *(str(network.num_classes) for network in networks))
    table.add_row("parameters", *(f"{count_parameters(network):,}" for network in networks))
    table.add_row(
        f"multiply-adds, {size}x{size}", *(f"{multiply_adds(network, size, channels):,}" for network in networks)
    )
    return table


def _read(pair: tuple[str, str]) -> str:
    """stage2, or stage4/stage3: the student's tap and the teacher's."""
    return "/".join(dict.fromkeys(pair))


def _shape(tap: Tap | None) -> str:
    if tap is None:
        return "-"
    return str(tap.channels) if tap.size == 1 else f"{tap.channels} x {tap.size} x {tap.size}"


def multiply_adds(network: nn.Module, size: int, channels: int = 3) -> int:
    """Of the convolutions and linear layers, for one image of `size` x `size`, on the network's device."""
    images = torch.empty(1, channels, size, size, device=next(network.parameters()).device)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        network.eval()(images)
    return counter.get_total_flops() // 2


def _methods(config: dict, teacher: nn.Module, student: nn.Module) -> list[Table | str]:
    """A table of what every method in conf/distill would do, the chosen one with its values as typed; then the
    methods' remarks, or why one cannot be used."""
    table, remarks = Table(box=None, header_style="bold"), []
    for name in ("method", "weight", "reads", "connectors"):
        table.add_column(name, justify="right" if name in ("weight", "connectors") else "left")
    chosen = config["distill"]
    for file in plugins.options("distill"):
        node = chosen if file.stem == chosen["name"] else resolve.method(config, file.stem)
        if node["_target_"] is None:
            continue
        try:
            method = build_method(config | {"distill": node}, student, teacher)
        except UsageError as error:
            table.add_row(node["label"], "", "not possible, see below", "")
            remarks.append(str(error))
            continue
        trained, reads = count_parameters(method), ", ".join(map(_read, method.pairs)) or "logits"
        table.add_row(node["label"], f"{node['weight']:g}", reads, f"{trained:,} parameters" if trained else "-")
        remarks += [f"{node['label']}   {remark}" for remark in method.remarks]
    return [table, *([""] if remarks else []), *remarks]
