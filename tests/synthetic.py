"""Synthetic records: folders as kdexp writes them, with numbers that the test chooses."""

import json
from pathlib import Path

import numpy as np

CONFIG = """\
dataset:
  name: {dataset}
  _target_: kdexp.datasets.cifar.{dataset}
  num_classes: 10
  image_size: 32
  mean:
  - 0.5
  - 0.5
  - 0.5
  limit: {limit}
  limit_test: null
model:
  teacher: {teacher_node}
  student:
    name: {student}
    _target_: kdexp.models.resnet.ResNet
    depth: 20
distill:
  name: {distill}
  _target_: {target}
  label: {label}
  note: {note}
  weight: {weight}
  ce_weight: 1.0
  kd_weight: 0.0
  kd_temperature: 4.0
{more}recipe:
  name: {recipe}
  epochs: 240
  batch_size: 64
  lr: {lr}
  drops:
  - 0.6
augment:
  name: {augment}
optimizer:
  name: sgd
  _target_: torch.optim.SGD
  lr: {lr}
seed: {seed}
teacher_seed: {teacher_seed}
teacher_checkpoint: null
epochs: 240
batch_size: 64
device: {device}
precision: {precision}
deterministic: auto
compile: auto
tag: ''
rerun: none
share: 0
plugins: []
paths:
  data: data
  outputs: {outputs}
"""


def record(
    outputs, distill="kd", seed=1, acc=70.0, status="done", teacher="wrn16_4", student="resnet20", epochs=3, **changes
):
    """Write a record and return its folder. changes: settings (lr, weight, limit, teacher_seed, label, note, dataset ...),
    numbers of result.json by `result=`, what differs in status.json by `state=`."""
    result, state = changes.pop("result", {}), changes.pop("state", {})
    taught = distill != "none"
    node = f"\n    name: {teacher}\n    _target_: kdexp.models.wrn.WideResNet\n    depth: 16" if taught else "null"
    values = {
        **{
            "dataset": "cifar100",
            "limit": "null",
            "label": distill.upper() if taught else "none",
            "note": "''",
            "weight": 1.0,
        },
        **{"lr": 0.05, "teacher_seed": 1, "device": "auto", "precision": "auto", "more": "", "outputs": "outputs"},
        **{"recipe": "crd240", "augment": "crop_flip"},
        **{"target": f"kdexp.distill.{distill}.Method" if taught else "null", "teacher_node": node},
        **{"student": student, "distill": distill, "seed": seed, **changes},
    }
    text = CONFIG.format(**values)
    variant = (
        changes.get("variant")
        or ",".join(
            f"{key}={value}"
            for key, value in changes.items()
            if key in ("lr", "weight", "limit", "teacher_seed", "recipe", "augment")
        )
        or "base"
    )
    pair = f"{teacher}-{student}" if taught else student
    folder = Path(outputs, values["dataset"], pair, distill, variant.replace("/", "-"), f"seed{seed}")
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.yaml").write_text(text)
    (folder / "status.json").write_text(
        json.dumps(
            {
                "status": status,
                "pid": 1,
                "host": "here",
                "heartbeat": 0,
                "started": "2026-01-01 00:00:00",
                "error": None,
                **state,
            }
        )
    )
    (folder / "run.log").write_text(f"2026-01-01 00:00:00  {status}\n")
    shape = 1 - 0.5 ** np.arange(1, epochs + 1)
    rows = [
        f"{epoch},0.1,1.0,0.5,0.5,60.0,1.2,{(acc if acc is not None else 50) * part:.4f},90.0,,2.0"
        for epoch, part in enumerate(shape, 1)
    ]
    header = "epoch,lr,train_loss,ce_loss,distill_loss,train_acc,test_loss,test_acc,test_top5,val_acc,seconds"
    (folder / "epochs.csv").write_text("\n".join([header, *rows]) + "\n")
    if status == "done":
        numbers = {
            **{
                "dataset": values["dataset"],
                "teacher": teacher if taught else None,
                "student": student,
                "distill": distill,
            },
            **{
                "seed": seed,
                "teacher_seed": values["teacher_seed"],
                "variant": variant,
                "test_acc": acc,
                "best_test_acc": acc,
            },
            **{"teacher_test_acc": 77.0 if taught else None, "test_loss": 1.2, "seconds": 100.0, "device": "cpu"},
            **{"precision": "fp32", "deterministic": True, "params": 278324, "epochs": 240, **result},
        }
        (folder / "result.json").write_text(json.dumps(numbers))
    return folder


def predicted(folder, right, kept=True):
    """Add predictions to a record: class 1 where `right`, (N,) booleans, else class 0; and, if `kept`, right.npy."""
    np.save(folder / "predictions.npy", np.asarray(right).astype(np.uint8))
    if kept:
        np.save(folder / "right.npy", np.packbits(right))
