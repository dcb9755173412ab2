"""`python run.py --help`: what can be chosen, what can be changed, examples. Instant, while Hydra's own listing takes
seconds."""

import textwrap

from kdexp import SWEEPS
from kdexp.config import plugins
from kdexp.spelling import as_typed

HEAD = """kdexp: knowledge-distillation experiments: a teacher, students, methods, seeds -> the table of a paper.

Choose (name=option; with -m, several options separated by commas):"""

TAIL = """
Change any value (python run.py --cfg job shows them all):
  seed=2  teacher_seed=1  epochs=60  batch_size=128  device=auto|cpu|cuda|cuda:N|mps  precision=auto|fp32|bf16
  stop_epoch=30  teacher_epoch=30                                    stop after epoch 30; 0: untrained
  deterministic=auto|true|false  compile=auto|true|false|graph  threads=N  tag=NAME  rerun=none|failed|changed|all  share=N
  dry_run=true  prepare=true  describe=true  on_error=continue|stop  weight_factor=0.1  engine.workers=2
  dataset.limit=2000  dataset.limit_test=1000  dataset.validation=5000  omit=[3]
  teacher_checkpoint=FILE|RUN_FOLDER  teacher_normalize=[[m,m,m],[s,s,s]]
  recipe.schedule=step|cosine|linear  recipe.warmup=0.05  recipe.smoothing=0.1  recipe.clip=5  recipe.ema=0.999
  distill.temperature=2  distill.weight=500  distill.kd_weight=0.9  optimizer.lr=0.1
  distill.until=0.5  distill.fade=1  distill.rise=0.1                the method's weight over the epochs
  student=resnet model.student.depth=26                              any ResNet-(6n+2)
  student=mlp model.student.hidden=[800,800]                         fully connected layers
  student=torchvision model.student.arch=mobilenet_v2                any network of torchvision, of timm (extra)
  teacher=wrn model.teacher.depth=22 model.teacher.widen_factor=3    any WRN-(6n+4)-k
  pair=wrn40_2-wrn16_2,resnet56-resnet20                             teacher and student as one axis
  dataset=folder dataset.root=DIR dataset.size=64                    your own images: DIR/train/CLASS, DIR/test/CLASS
  plugins=mylab                                                      your own package of methods, networks, data sets
  paths.data=DIR  paths.outputs=DIR                                  or $KDEXP_DATA, $KDEXP_OUTPUTS

Examples
  python run.py sweep=quickstart                                     minutes, no download
  python run.py distill=sp teacher=wrn16_4 student=resnet32
  python run.py -m distill=none,KD,FN,NST,AT,RKD,SP,OD seed=1,2,3
  python run.py -m distill=kd,sp seed=1,2,3 dry_run=true             what would run, and for how long
  python run.py distill=sp distill.kd_weight=0.9                     SP+KD
  python analysis/summarize.py                                       the table of all runs so far
  python -m kdexp.record list status=failed                          records: list, rm, pack, export
  python -m kdexp.evaluate dataset=cifar10 --on cifar10.1            trained networks on other images

Versions, devices and folders, for a bug report: python run.py --info
What else Hydra can do: python run.py --hydra-help"""


GROUPS = ("dataset", "model", "distill", "recipe", "augment", "optimizer", "engine", "logger", "experiment")


def text() -> str:
    groups = {
        "teacher, student" if group == "model" else group: [file.stem for file in plugins.options(group)]
        for group in GROUPS
    }
    groups["sweep"] = sorted((file.stem for file in SWEEPS.glob("*.yaml")), key=plugins.natural)
    lines = [
        textwrap.fill(f"  {name + '=':18}{'  '.join(options)}", 100, subsequent_indent=" " * 20)
        for name, options in groups.items()
        if options
    ]
    return as_typed("\n".join([HEAD, *lines, TAIL]))
