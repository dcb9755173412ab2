"""The winners of a sweep over settings, judged on held-out images. Test images have no say."""

import os
from statistics import fmean

from kdexp.config import naming
from kdexp.config.network_names import network_words
from kdexp.config.schema import Config
from kdexp.jobs.job import Job
from kdexp.spelling import as_typed


def winners(jobs: list[Job]) -> list[str]:
    """For every method of a pair that was tried with several settings: the best setting by mean validation accuracy
    over seeds, and the command that trains it on all images with new seeds. Empty if the sweep was not a search."""
    lines = []
    for method in dict.fromkeys(map(_method, jobs)):
        tried: dict[str, list[Job]] = {}
        for job in jobs:
            if _method(job) == method and job.done and job.config["dataset"]["validation"]:
                tried.setdefault(job.record.folder.parent.name, []).append(job)
        if len(tried) > 1:
            lines += _winner(list(tried.values()))
    return lines


def _method(job: Job) -> tuple:
    """Students without some classes are another question, not another setting."""
    return job.config["dataset"]["name"], tuple(job.config["omit"]), job.pair, job.method


def _winner(tried: list[list[Job]]) -> list[str]:
    scores = [fmean(job.record.result["val_acc"] for job in same) for same in tried]
    best = tried[scores.index(max(scores))]
    config, last = best[0].config, max(job.config["seed"] for same in tried for job in same)
    found = [naming.differing(same[0].config) for same in tried]
    differing = {key: value for key, value in found[tried.index(best)].items() if key != "dataset.validation"}
    varied = {key for one in found for key in one if len({str(other.get(key)) for other in found}) > 1}
    own = " ".join(naming.words({key: value for key, value in differing.items() if key in varied}))
    weights = [same[0].config["distill"]["weight" if config["model"]["teacher"] else "ce_weight"] for same in tried]
    edge = weights[tried.index(best)] in (min(weights), max(weights)) and len(set(weights)) > 1
    networks = [network_words(role, node["name"]) for role, node in config["model"].items() if node]
    words = [f"plugins=[{','.join(config['plugins'])}]"] if config["plugins"] else []
    words += [f"distill={config['distill']['name']}", f"dataset={config['dataset']['name']}", *networks]
    words += naming.words(differing) + _circumstances(config)
    return [
        f"{best[0].method}   {own or 'default settings'}   validation {max(scores):.2f} %, best of {len(tried)} "
        f"({min(scores):.2f} to {max(scores):.2f})" + ", at the edge of what was tried" * edge,
        as_typed("    python run.py -m ")
        + f"{' '.join(words)} seed={','.join(str(last + step) for step in (1, 2, 3))}",
    ]


def _circumstances(config: dict) -> list[str]:
    """How the runs were computed and where they are, as it was typed."""
    usual = vars(Config())
    words = [f"{key}={config[key]}" for key in ("device", "compile", "threads", "share") if config[key] != usual[key]]
    words += [f"engine={config['engine']['name']}"] * (config["engine"]["name"] != "process")
    places = {"data": "KDEXP_DATA", "outputs": "KDEXP_OUTPUTS"}
    return words + [
        f"paths.{key}={config['paths'][key]}"
        for key, variable in places.items()
        if config["paths"][key] != os.environ.get(variable, key)
    ]
