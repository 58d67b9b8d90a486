"""Data sets by the names that commands call them."""

from depthkd.datasets.dataset import Dataset, ListedDataset
from depthkd.errors import UserError


def named_dataset(name: str, root: str | None, split: str | None) -> Dataset:
    """A data set by its name, however that is spelled: "virtual_kitti_2", "VirtualKITTI2".

    Raises:
        UserError: there is none; or it needs a root and has none, or the other way round.
    """
    kind = dataset_class(name)
    if issubclass(kind, ListedDataset):
        if root is None:
            raise UserError(f"--root is missing: the folder, tar or zip that holds {name}")
        return kind(root, split)
    if root is not None or split is not None:
        raise UserError(f"data set '{kind.name}' comes with depthkd: leave out --root and --split")
    return kind()


def dataset_class(name: str) -> type[Dataset]:
    """The class of a data set that can be read from a root, or is bundled, by its name.

    Raises:
        UserError: there is none; the sentence lists those that there are.
    """
    import depthkd.datasets

    known: dict[str, type[Dataset]] = {
        kind: getattr(depthkd.datasets, kind) for kind in dir(depthkd.datasets)
    }
    listed = {
        k: v
        for k, v in known.items()
        if v.bundled or (issubclass(v, ListedDataset) and not v.__abstractmethods__)
    }
    for kind, found in listed.items():
        if _plain(name) in (_plain(kind), _plain(found.name)):
            return found
    names = ", ".join(sorted(found.name for found in listed.values()))
    raise UserError(f"'{name}' is not a data set that depthkd can read; it would be one of {names}")


def _plain(name: str) -> str:
    return name.lower().replace("_", "").replace("-", "")
