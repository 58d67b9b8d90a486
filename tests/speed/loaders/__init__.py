"""The loaders that are compared, each in a file of its own; `requirements.txt` names their versions."""

from importlib import import_module
from importlib.metadata import version
from importlib.util import find_spec

from tests.speed.loaders.loader import Loader

PACKAGES = {  # file and class -> the packages that it needs, by the names of their distributions and modules
    "depthkd.Depthkd": {},
    "webdataset.WebDataset": {"webdataset": "webdataset"},
    "litdata.LitData": {"litdata": "litdata"},
    "grain.Grain": {"grain": "grain", "array-record": "array_record"},
    "energon.Energon": {"megatron-energon": "megatron"},
}


def installed() -> list[Loader]:
    """One of each whose packages are there; the others are named, with what would install them."""
    loaders: list[Loader] = []
    missing: list[str] = []
    for path, packages in PACKAGES.items():
        absent = [name for name, module in packages.items() if find_spec(module) is None]
        missing += absent
        if not absent:
            module, name = path.split(".")
            loaders.append(getattr(import_module(f"{__name__}.{module}"), name)())
    if missing:
        print(
            f"Left out, because not installed: {', '.join(missing)}. An environment of its own with "
            "requirements.lock and tests/speed/loaders/requirements.txt has them.\n"
        )
    return loaders


def versions(loaders: list[Loader]) -> str:
    """What was compared: "webdataset 1.0.2, ..." """
    names = [name for loader in loaders for name in PACKAGES[loader.path()]]
    return ", ".join(f"{name} {version(name)}" for name in [*names, "torch", "pillow", "simplejpeg"])
