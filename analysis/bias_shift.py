"""Students that never saw some classes (omit=[3]) and put too few images in them: what raising these classes' biases would
mend. `python analysis/bias_shift.py [OUTPUTS ...]` prints a row of CSV for each such run.

Hinton, Vinyals & Dean 2015, arXiv:1503.02531, section 3, raise the bias of the class that the student did not see, by the
amount that is best on the test set. Here it is chosen on the images that the run held out (dataset.validation); the choice on
the test set stands beside it. Lowering the biases of the classes that the student saw is the same.
"""

import argparse
import sys
from pathlib import Path

if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).resolve().parent.parent)  # so that it runs from any folder

import pandas as pd  # noqa: E402
import torch  # noqa: E402
from torch import Tensor  # noqa: E402

import kdexp  # noqa: E402
from kdexp.command.evaluate import Data  # noqa: E402
from kdexp.datasets.batches import Pixels  # noqa: E402
from kdexp.errors import UsageError  # noqa: E402
from kdexp.evaluate import evaluate  # noqa: E402
from kdexp.record import runs  # noqa: E402


def shifted(logits: Tensor, classes: list[int], amount: float) -> Tensor:
    """The predicted classes (N,) with the biases of `classes` raised by `amount`. logits: (N, all classes)."""
    raised = torch.zeros(logits.shape[1], dtype=torch.float64)
    raised[classes] = amount
    return (logits.double() + raised).argmax(1)


def best_amount(logits: Tensor, labels: Tensor, classes: list[int]) -> float:
    """The amount with the fewest errors; of the intervals of equally good amounts, the middle of the widest.

    An image goes to one of `classes` as soon as the amount exceeds its margin, so the errors change only at the images'
    margins, and the sorted margins give the errors of every possible amount. logits: (N, all classes), labels: (N,).
    """
    inside = torch.zeros(logits.shape[1], dtype=torch.bool)
    inside[classes] = True
    best = [logits.double().masked_fill(out, -torch.inf).max(1) for out in (~inside, inside)]
    margins, order = (best[1].values - best[0].values).sort()
    wrong_in, wrong_out = ((side.indices != labels)[order].long() for side in best)
    none = torch.zeros(1, dtype=torch.int64)
    # with k images inside: the errors of the first k there, and of the others elsewhere
    errors = torch.cat([none, wrong_in.cumsum(0)]) + torch.cat([wrong_out.flip(0).cumsum(0).flip(0), none])
    edges = torch.cat([margins[:1] - 1, margins, margins[-1:] + 1])
    widths = edges.diff().where(errors == errors.min(), -1.0)
    chosen = int(widths.argmax())
    return float(edges[chosen] + edges[chosen + 1]) / 2


def errors_of(predicted: Tensor, labels: Tensor, classes: list[int]) -> dict[str, int]:
    """How many images are wrong, and how many of those belong to `classes`."""
    wrong = predicted != labels
    there = wrong & torch.isin(labels, torch.tensor(classes))
    return {"errors": int(wrong.sum()), "errors_on_omitted": int(there.sum())}


def row_of(folder: Path, data: Data) -> dict:
    """One run's errors on the test images: as trained, with the amount chosen on the held-out images, and with that chosen
    on the test images. Raises UsageError if the run held nothing out."""
    network = kdexp.load(folder)
    config, omit = network.config, network.config["omit"]
    pixels = Pixels(config["dataset"]["mean"], config["dataset"]["std"])
    logits, labels = {}, {}
    for name in ("held-out", "test"):
        (images,) = data.of(config, name).values()
        logits[name], labels[name] = evaluate(network, images, pixels).logits, images.labels
    row = {
        "student": config["model"]["student"]["name"],
        "distill": config["distill"]["name"],
        "temperature": config["distill"].get("temperature"),
        "omit": " ".join(map(str, omit)),
        "seed": config["seed"],
        "test_images": len(labels["test"]),
        "of_omitted": int(torch.isin(labels["test"], torch.tensor(omit)).sum()),
    }
    row |= errors_of(logits["test"].argmax(1), labels["test"], omit)
    for name in ("held-out", "test"):
        amount = best_amount(logits[name], labels[name], omit)
        errors = errors_of(shifted(logits["test"], omit, amount), labels["test"], omit)
        row |= {f"{name}: {key}": value for key, value in ({"amount": round(amount, 3)} | errors).items()}
    return row


def table(outputs: list[str], data: str | None) -> pd.DataFrame:
    """A row for each finished run with omitted classes. Raises UsageError if there is none."""
    finished = [run for run in runs.find(outputs) if run.state == "done" and run.config.get("omit")]
    whole = [run.folder for run in finished if (run.folder / "student.pt").exists()]
    if not whole:
        raise UsageError(f"{', '.join(outputs)}: no finished run with omitted classes and weights here")
    images = Data(Path(data) if data else None)
    return pd.DataFrame([row_of(folder, images) for folder in whole])


def main() -> None:
    line = argparse.ArgumentParser(description="What raising the biases of omitted classes would mend, as CSV.")
    line.add_argument("outputs", nargs="*", default=["outputs"], metavar="OUTPUTS", help="folders of records")
    line.add_argument("--data", help="folder of the images (default: the runs')")
    arguments = line.parse_args()
    try:
        print(table(arguments.outputs, arguments.data).to_csv(index=False), end="")
    except UsageError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
