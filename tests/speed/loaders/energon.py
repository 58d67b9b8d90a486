"""Megatron-Energon: https://nvidia.github.io/Megatron-Energon, "Save and Restore" and "Reproducible Scaling".

State is per rank: `SavableDataLoader.save_state_rank()`. For another number of ranks, `energon checkpoint
redist` deals the states of the workers out anew; ranks x workers must stay what it was.
"""

import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

import torch
import yaml
from megatron.energon import (
    Cooker,
    DefaultTaskEncoder,
    Sample,
    WorkerConfig,
    basic_sample_keys,
    edataclass,
    get_savable_loader,
    get_train_dataset,
    stateless,
)
from megatron.energon.flavors import BaseWebdatasetFactory
from megatron.energon.tools.checkpoint import command_redist

from tests.speed.loaders.loader import BATCH, Decode, Loader, Open, Place, Samples, Stream, ranks_part
from tests.speed.loaders.tars import write_tars

MICRO = 2  # samples of a micro-batch: a global batch has to be a multiple of micro-batch x ranks x workers
CRUDE = {"__module__": "megatron.energon", "__class__": "CrudeWebdataset"}
BLEND = {"__module__": "megatron.energon", "__class__": "MetadatasetV2"}


class Energon(Loader):
    name = "Energon"

    def write(self, folder: Path, samples: Samples) -> str:
        write_tars(folder, samples)
        tars = sorted(path.name for path in folder.glob("*.tar"))
        whole = [("train", 1.0), ("val", 0.0), ("test", 0.0)]
        with redirect_stdout(sys.stderr):
            BaseWebdatasetFactory.prepare_dataset(
                folder, tars, split_parts_ratio=whole, shuffle_seed=None, workers=1
            )
        (folder / ".nv-meta" / "dataset.yaml").write_text(yaml.safe_dump(CRUDE))
        return str(folder)

    def images(self, source: str, decode: Decode, workers: int) -> Iterator[Any]:
        return iter(loader(source, WorkerConfig(rank=0, world_size=1, num_workers=workers), BATCH, decode))

    def streams(self, folder: Path, sources: Mapping[str, Samples]) -> dict[str, Open]:
        blend = [
            {"path": self.write(folder / name, samples), "weight": 1} for name, samples in sources.items()
        ]
        path = folder / "blend.yaml"
        path.write_text(yaml.safe_dump(BLEND | {"splits": {"train": {"blend": blend}}}))

        def open_stream(place: Place, states: Sequence[Any] | None) -> Stream:
            return Run(str(path), place, states)

        return {self.name: open_stream}


def loader(path: str, config: WorkerConfig, batch: int, decode: Decode | None) -> Any:
    return get_savable_loader(
        get_train_dataset(
            path,
            worker_config=config,
            batch_size=batch,
            shuffle_buffer_size=16,
            max_samples_per_sequence=16,
            task_encoder=Encoder(decode),
        )
    )


class Run(Stream):
    def __init__(self, path: str, place: Place, states: Sequence[Any] | None) -> None:
        self._parts = ranks_part(place) // MICRO
        config = WorkerConfig(rank=place.rank, world_size=place.ranks, num_workers=place.workers)
        self._loader = loader(path, config, MICRO, None)
        if states:
            dealt = states if len(states) == place.ranks else redistributed(states, place.ranks)
            self._loader.restore_state_rank(dealt[place.rank])
        self._batches = iter(self._loader)

    def step(self) -> list[str]:
        return [key for _ in range(self._parts) for key in next(self._batches).__key__]

    def state(self) -> Any:
        return self._loader.save_state_rank()


def redistributed(states: Sequence[Any], ranks: int) -> list[Any]:
    """What `energon checkpoint redist --new-world-size` makes of the states of all ranks."""
    with tempfile.TemporaryDirectory() as folder:
        saved, dealt = Path(folder) / "saved", Path(folder) / "dealt"
        saved.mkdir()
        dealt.mkdir()  # redist does not make it
        files = []
        for rank, state in enumerate(states):
            files.append(str(saved / f"rank{rank}.pt"))
            torch.save(state, files[-1])
        with redirect_stdout(sys.stderr):
            command_redist.main([*files, str(dealt), "--new-world-size", str(ranks)], standalone_mode=False)
        # Energon's own classes, just written here
        return [torch.load(dealt / f"rank{rank}.pt", weights_only=False) for rank in range(ranks)]


@edataclass
class Photo(Sample):
    image: torch.Tensor


class Encoder(DefaultTaskEncoder):
    decoder = None  # bytes come as they are

    def __init__(self, decode: Decode | None) -> None:
        super().__init__()

        @stateless
        def cook(sample: dict[str, Any]) -> Photo:
            image = torch.zeros(1) if decode is None else decode(sample["jpg"])
            return Photo(**basic_sample_keys(sample), image=image)

        self.cookers = [Cooker(cook)]
