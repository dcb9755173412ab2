"""The training loop of public toolkits, as the benchmark's reference: PIL transforms in worker processes, one method at a
time, each with its own teacher pass, eager float32, NST in its broadcast form."""

from itertools import islice

import torch
import torch.nn.functional as F
from PIL import Image
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms

from kdexp.compute.machine import Machine
from kdexp.datasets import Images
from kdexp.distill.nst import NST
from kdexp.teachers import teacher_view
from kdexp.training.start import build_learner


class BroadcastNST(NST):
    """The usual form: a (batch, C_t, C_s, H*W) tensor of products per stage and pair of maps."""

    def forward(self, student, teacher):
        def kernel(x, y):
            return (x.unsqueeze(2) * y.unsqueeze(1)).sum(-1).pow(2).mean()

        total = 0.0
        for ours, theirs in self.pairs:
            s, t = (F.normalize(m.flatten(2), dim=2) for m in (student.features[ours], teacher.features[theirs]))
            total = total + kernel(t, t).detach() + kernel(s, s) - 2 * kernel(t, s)
        return total


class PilImages(Dataset):
    """One image at a time, decoded and transformed in Python, as torchvision's own data set does."""

    def __init__(self, data: Images, mean, std):
        self.images, self.labels = data.images.permute(0, 2, 3, 1).cpu().numpy(), data.labels.cpu().tolist()
        self.transform = transforms.Compose(
            [transforms.RandomCrop(32, padding=4), transforms.RandomHorizontalFlip(), transforms.ToTensor(),
             transforms.Normalize(mean, std)]
        )  # fmt: skip

    def __len__(self):
        return len(self.labels)

    def __getitem__(self, index):
        return self.transform(Image.fromarray(self.images[index])), self.labels[index]


class Textbook:
    """One method at a time; `steps(count)` trains count batches."""

    def __init__(self, config: dict, data, teacher, device, workers: int):
        fp32 = Machine(device, None, False, False, torch.get_num_threads())
        learner = build_learner(config, fp32, teacher, data.train.labels)
        self.student = learner.student.to(memory_format=torch.contiguous_format)
        self.method, self.weights, self.device = learner.method, learner.weights, device
        if isinstance(self.method, NST):
            self.method = BroadcastNST(self.student.taps, teacher.taps)
        parameters = [p for group in learner.optimizer.param_groups for p in group["params"]]
        self.optimizer = torch.optim.SGD(parameters, lr=0.05, momentum=0.9, weight_decay=5e-4)
        self.teacher = self.method and teacher_view(teacher, self.method.teacher_mode)
        node = config["dataset"]
        loader = DataLoader(
            PilImages(data.train, node["mean"], node["std"]),
            config["batch_size"],
            shuffle=True,
            num_workers=workers,
            persistent_workers=True,
        )
        self.batches = (batch for _ in iter(int, 1) for batch in loader)

    def steps(self, count: int) -> None:
        for images, labels in islice(self.batches, count):
            images, labels = images.to(self.device), labels.to(self.device)
            output = self.student(images)
            loss = self.weights.ce * F.cross_entropy(output.logits, labels)
            if self.method:
                with torch.no_grad():
                    target = self.teacher(images)
                loss = loss + self.weights.method * self.method(output, target)
            self.optimizer.zero_grad()
            loss.backward()
            self.optimizer.step()
            loss.item()  # such loops keep a running average of the loss
