"""Which public benchmarks a folder holds, and what is missing of them; only names are looked at."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from depthkd.benchmarks.booster import Booster
from depthkd.benchmarks.da2k import DA2K
from depthkd.benchmarks.diode import DIODE, DIODEIndoor
from depthkd.benchmarks.eth3d import ETH3D
from depthkd.benchmarks.files import ListedBenchmark
from depthkd.benchmarks.hypersim import Hypersim
from depthkd.benchmarks.ibims import IBims1
from depthkd.benchmarks.kitti import KITTI
from depthkd.benchmarks.mattes import AM2k, DIS5k, P3M10k
from depthkd.benchmarks.nuscenes import NuScenes
from depthkd.benchmarks.nyu import NYUv2
from depthkd.benchmarks.scannet import ScanNet
from depthkd.benchmarks.sintel import Sintel
from depthkd.benchmarks.spring import Spring
from depthkd.benchmarks.unrealstereo4k import UnrealStereo4K
from depthkd.benchmarks.vkitti import VirtualKITTI2
from depthkd.errors import MissingFileError, UserError
from depthkd.paths import user_path
from depthkd.report.table import markdown_table

# Marigold's tar, the folder that it unpacks to, then the owners' names.
PLACES: dict[type[ListedBenchmark], tuple[str, ...]] = {
    NYUv2: (
        "nyuv2/nyu_labeled_extracted.tar",
        "nyuv2/nyu_labeled_extracted",
        "nyuv2",
        "nyu_depth_v2_labeled.mat",
    ),
    KITTI: ("kitti/kitti_eigen_split_test.tar", "kitti/kitti_eigen_split_test", "kitti"),
    ETH3D: ("eth3d/eth3d.tar", "eth3d/eth3d", "eth3d"),
    ScanNet: ("scannet/scannet_val_sampled_800_1.tar", "scannet/scannet_val_sampled_800_1", "scannet"),
    DIODE: ("diode/diode_val.tar", "diode/diode_val", "diode"),
    Sintel: ("sintel", "MPI-Sintel-complete", "MPI-Sintel"),
    IBims1: ("ibims1/ibims1_core_mat.zip", "ibims1_core_mat.zip", "ibims1", "ibims1_core_mat"),
    Spring: ("spring", "Spring"),
    UnrealStereo4K: ("unrealstereo4k", "UnrealStereo4K"),
    Booster: ("booster", "Booster", "booster_gt"),
    NuScenes: ("nuscenes", "nuScenes"),
    Hypersim: (
        "hypersim/hypersim_processed_val.tar",
        "hypersim/hypersim_processed_val",
        "hypersim/val",
        "hypersim",
    ),
    VirtualKITTI2: ("vkitti/vkitti.tar", "vkitti/vkitti", "vkitti", "vkitti2"),
    DA2K: ("da2k/DA-2K.zip", "DA-2K.zip", "da2k", "DA-2K"),
    AM2k: ("am2k/AM-2k.zip", "AM-2k.zip", "am2k", "AM-2k"),
    P3M10k: ("p3m10k/P3M-10k.zip", "P3M-10k.zip", "p3m10k", "P3M-10k"),
    DIS5k: ("dis5k/DIS5K.zip", "DIS5K.zip", "dis5k", "DIS5K"),
}
PARTS: dict[type[ListedBenchmark], tuple[str, ...]] = {DIODEIndoor: PLACES[DIODE]}  # only where named


@dataclass(frozen=True)
class Holding:
    """What a root has of one benchmark.

    Attributes:
        name: what tables call the benchmark.
        kind: its class.
        place: where its data was found; None: nowhere.
        samples: how many its list has; None where only the data could say.
        missing: how many of these lack a file; None where there is no list or no place.
        sentence: what is missing, and what would stand where; None if all is there.
    """

    name: str
    kind: type[ListedBenchmark]
    place: Path | None = None
    samples: int | None = None
    missing: int | None = None
    sentence: str | None = None


def holdings(
    root: str | Path, only: Sequence[str] | None = None, splits: Mapping[str, str] | None = None
) -> list[Holding]:
    """What a root holds of every benchmark in `PLACES`, in their order, and of `PARTS` that are named.

    Of several places that exist, that with the fewest missing samples counts.

    Args:
        root: the folder.
        only: names of the benchmarks that are looked for; None: all.
        splits: name -> another list than the one that comes with depthkd.

    Raises:
        MissingFileError: there is no such folder.
        UserError: a name is not one of the benchmarks'.
    """
    folder = user_path(root)
    if not folder.is_dir():
        raise MissingFileError(f"{folder} is no folder; benchmarks are looked for in one")
    everything = PLACES | PARTS
    names = [kind.name for kind in everything]
    for name in [*(only or []), *(splits or {})]:
        if name not in names:
            raise UserError(f"'{name}' is not a benchmark that a root can hold; these are {', '.join(names)}")
    wanted = PLACES if only is None else {k: places for k, places in everything.items() if k.name in only}
    return [_holding(folder, kind, places, (splits or {}).get(kind.name)) for kind, places in wanted.items()]


def listing(
    root: str | Path, only: Sequence[str] | None = None, splits: Mapping[str, str] | None = None
) -> str:
    """`holdings` as a Markdown table, and a sentence for each benchmark that is not whole; arguments and
    errors are theirs."""
    found = holdings(root, only, splits)
    rows = [
        [
            h.name,
            h.kind.__name__,
            "-" if h.place is None else str(h.place.relative_to(user_path(root))),
            *("-" if count is None else str(count) for count in (h.samples, h.missing)),
        ]
        for h in found
    ]
    table = markdown_table(["benchmark", "class", "found at", "samples", "missing"], rows)
    sentences = [f"- {h.sentence}" for h in found if h.sentence]
    return "\n\n".join([table, *(["\n".join(sentences)] if sentences else [])]) + "\n"


def _holding(root: Path, kind: type[ListedBenchmark], places: tuple[str, ...], split: str | None) -> Holding:
    best: Holding | None = None
    for place in places:
        if (root / place).exists():
            found = _inspected(kind, root / place, split)
            if found.sentence is None:
                return found
            if best is None or _completeness(found) > _completeness(best):
                best = found
    return best or _absent(kind, root, places)


def _completeness(holding: Holding) -> int:
    return (holding.samples or 0) - (holding.missing or 0)


def _inspected(kind: type[ListedBenchmark], place: Path, split: str | None) -> Holding:
    benchmark = kind(place, split=split)
    try:
        samples, missing = len(benchmark.lines), benchmark.missing()
    except UserError as error:
        return Holding(benchmark.name, kind, place, sentence=str(error))
    sentence = None
    if missing:
        sentence = (
            f"benchmark '{benchmark.name}': {place} lacks files of {len(missing)} of {samples} samples, such "
            f"as {missing[0]}; it would hold {benchmark.layout}"
        )
    return Holding(benchmark.name, kind, place, samples, len(missing), sentence)


def _absent(kind: type[ListedBenchmark], root: Path, places: tuple[str, ...]) -> Holding:
    benchmark = kind(root / places[0])
    try:
        samples = len(benchmark.lines)
    except MissingFileError:  # its list is its data
        samples = None
    sentence = (
        f"benchmark '{benchmark.name}': none of {', '.join(places)} is in {root}; one would hold "
        f"{benchmark.layout}"
    )
    return Holding(benchmark.name, kind, samples=samples, sentence=sentence)
