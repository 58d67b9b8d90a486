"""`depthkd demo`: a page on this machine that shows the depth of any photograph, and its points."""

import errno
import ipaddress
import socket
import threading
from importlib import import_module
from typing import Any

import numpy as np
import torch
from jaxtyping import UInt8

from depthkd.batch import METRIC_DEPTH, DepthSpace, Quantity
from depthkd.cluster.processors import use_processors
from depthkd.datasets.photographs import Photographs
from depthkd.errors import UserError, mistake_or_fault
from depthkd.formats.images import decode_image, image_exif
from depthkd.models.dpt.packaged_weights import EMBEDDED
from depthkd.models.inference import (
    Inference,
    WrongPredictionError,
    device_of,
    says_nothing,
)
from depthkd.models.model import DepthModel
from depthkd.report.demo_page import demo_page
from depthkd.report.html import jpeg_source
from depthkd.report.interactive import cloud_data
from depthkd.report.pictures import colors, limits, nearness, within
from depthkd.runs.named_models import named_model
from depthkd.shapes import ArrayMap
from depthkd.verbs.configs import Command
from depthkd.verbs.options import parsed
from depthkd.verbs.predict.cameras import FIELD_OF_VIEW, WORDS, Cameras
from depthkd.verbs.predict.network import Predictor
from depthkd.verbs.predict.pictures import Picture

USAGE = "depthkd demo [RUN|FILE.onnx|FOLDER|HUB_ID] [--port 7860] [options]"
PORT, HOST = 7860, "127.0.0.1"
LARGEST_FILE = 50_000_000  # bytes of a photograph
LARGEST = 1280  # px: the longer side at which a photograph is taken; larger ones are made smaller
SHOWN = 900  # px of the pictures on the page
RATIO = 3.0  # farthest over nearest, where a model leaves that open
EVERYWHERE = "depthkd demo is open to every machine that can reach {host}, without a password"
# nothing but this page's own parts: a browser refuses whatever else it might be made to load
POLICY = (
    "default-src 'none'; img-src 'self' data:; style-src 'unsafe-inline'; script-src 'unsafe-inline'; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)

Photo = UInt8[np.ndarray, "height width 3"]


class Answers:
    """Depth of photographs, one at a time.

    Args:
        model: in eval mode, on the device.
        device: where it runs.
        fov: the photographs' horizontal field of view in degrees; None: as EXIF or the model says.
    """

    def __init__(self, model: DepthModel, device: torch.device, fov: float | None = None) -> None:
        self.space, self.cameras = model.space, Cameras.parse(None, fov)
        self.predictor = Predictor(model, Inference(), device)
        self._one_at_a_time = threading.Lock()

    def answer(self, data: bytes) -> dict[str, Any]:
        """What the page shows of a photograph; {"error": a sentence} where it cannot be used.

        Args:
            data: a file's bytes, of any kind.
        """
        try:
            image = within(decode_image(data, "this file"), LARGEST)
            return self._shown(image, image_exif(data, "this file"))
        except WrongPredictionError as error:
            return {"error": f"The model has no depth for it: {error}."}
        except Exception as error:
            if not isinstance(mistake := mistake_or_fault(error), UserError):
                raise
            return {"error": f"It cannot be used: {mistake}."}

    def _shown(self, image: Photo, exif: bytes | None) -> dict[str, Any]:
        height, width = (int(n) for n in image.shape[:2])
        picture = Picture("", "photograph", "", image, self.cameras.of(height, width, exif=exif))
        with self._one_at_a_time:
            (found,) = self.predictor([picture])
            camera = self.predictor.camera_of(picture)
        if isinstance(found, WrongPredictionError):
            raise found
        space = self.space
        if nothing := says_nothing(found.depth, space):
            return {"error": f"The model says nothing about it: its prediction is {nothing}."}
        depth = found.depth[0].float().cpu().numpy()
        points, meaning = distances(depth, space)
        assumed = f"a field of view of {FIELD_OF_VIEW:g} degrees is assumed"
        view = assumed if camera.source == "assumed" else f"the camera is {WORDS[camera.source]}"
        return {
            "image": jpeg_source(image, SHOWN),
            "depth": jpeg_source(colors(nearness(depth, space)), SHOWN),
            "cloud": cloud_data(image, {"depth": points}, camera.matrix),
            "meaning": f"{meaning}, and {view}.",
            "said": f"{width} x {height} pixels, {space}.",
        }


def distances(prediction: ArrayMap, space: DepthSpace) -> tuple[ArrayMap, str]:
    """How far each pixel's point is drawn, and what is assumed for it, in words.

    Args:
        prediction: in the space.
        space: what it means. Where it leaves the offset open, a point's distance is not known: the farthest
            is then drawn three times as far away as the nearest.
    """
    if space.invertible:
        near = nearness(prediction, space)
        depth = np.where(near > 0, 1.0 / np.where(near > 0, near, 1.0), np.nan)
        return depth, "Distances are meters" if space == METRIC_DEPTH else f"The model gives {space}"
    near = nearness(prediction, space)
    low, high = limits(near)
    share = np.clip((near - low) / max(high - low, 1e-12), 0.0, 1.0)
    depth = 1.0 / (1 / RATIO + (1 - 1 / RATIO) * share)
    if space.quantity is Quantity.DEPTH:
        depth = RATIO - (RATIO - 1) * share
    return depth, (
        f"The model gives {space}, which leaves open how much farther the farthest is than the nearest: here "
        f"{RATIO:g} times as far"
    )


def application(answers: Answers, about: str, hosts: list[str] | None = None) -> Any:
    """The page, its examples, and the depth of what is sent to it, as a Starlette application.

    Args:
        answers: who predicts.
        about: the model, in a sentence.
        hosts: by which names the page may be asked for; None: by any.
    """
    from starlette.applications import Starlette
    from starlette.concurrency import run_in_threadpool
    from starlette.middleware import Middleware
    from starlette.middleware.trustedhost import TrustedHostMiddleware
    from starlette.requests import Request
    from starlette.responses import HTMLResponse, JSONResponse, Response
    from starlette.routing import Route

    examples = Photographs()
    text = demo_page(about, [examples.key(i) for i in range(len(examples))])

    async def home(request: Request) -> Response:
        return HTMLResponse(text, headers={"Content-Security-Policy": POLICY})

    async def example(request: Request) -> Response:
        number = request.path_params["number"]
        if number >= len(examples):
            return Response(status_code=404)
        name, data = examples.image_file(number)
        return Response(data, media_type="image/png" if name.endswith("png") else "image/jpeg")

    async def depth(request: Request) -> Response:
        data = bytearray()
        async for part in request.stream():
            data += part
            if len(data) > LARGEST_FILE:
                limit = LARGEST_FILE // 1_000_000
                return JSONResponse({"error": f"A photograph would have {limit} MB or less."})
        found = await run_in_threadpool(answers.answer, bytes(data))
        return JSONResponse(found)

    routes = [
        Route("/", home),
        Route("/examples/{number:int}", example),
        Route("/depth", depth, methods=["POST"]),
    ]
    guard = [] if hosts is None else [Middleware(TrustedHostMiddleware, allowed_hosts=hosts)]
    return Starlette(routes=routes, middleware=guard)


def listening(host: str, port: int) -> socket.socket:
    """A socket that listens there.

    Raises:
        UserError: it cannot.
    """
    if not 0 <= port < 65536:
        raise UserError(f"port would be a number from 0 to 65535, not {port}; 0 takes any that is free")
    try:
        return socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET)
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise UserError(
                f"port {port} of {host} is in use: give another, --port {port + 1}, or 0 for any that is free"
            ) from error
        raise UserError(f"nothing can listen at port {port} of {host}: {error.strerror or error}") from error


def is_local(host: str) -> bool:
    """Whether only this machine reaches it."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def server_of(app: Any) -> Any:
    """A uvicorn server that says nothing but what is wrong."""
    import uvicorn

    return uvicorn.Server(uvicorn.Config(app, log_level="warning", access_log=False, lifespan="off"))


def demo(
    model: str | DepthModel = EMBEDDED,
    port: int = PORT,
    host: str = HOST,
    fov: float | None = None,
    device: str = "auto",
) -> None:
    """Serve a page that takes a photograph and shows its depth in color and a point cloud that can be turned.

    Nothing is sent anywhere: the page asks this machine alone, and keeps no photograph.

    Args:
        model: a run folder, one of its checkpoints, an .onnx file, a folder or hub id of transformers, or any
            DepthModel; "embedded" is the teacher that depthkd carries.
        port: where the page is; 0: any that is free.
        host: the address at which to listen. 127.0.0.1 is this machine alone; 0.0.0.0 is open to every
            machine that can reach this one, without a password.
        fov: the photographs' horizontal field of view in degrees. None: as in `depthkd predict`, that of
            their EXIF block, or for the point cloud the model's own estimate, or 60.
        device: "auto" (a GPU where there is one), "cpu", "cuda" or "cuda:1".

    Raises:
        UserError, MissingFileError: there is no such model, the port is in use, or packages are missing.
    """
    Cameras.parse(None, fov)
    for package in ("starlette", "uvicorn"):
        try:
            import_module(package)
        except ImportError as error:
            raise UserError(
                f"the page is served by {package}, which is not installed: pip install 'depthkd[demo]'"
            ) from error
    place = device_of(device)
    with listening(host, port) as heard:
        network = (named_model(model).load() if isinstance(model, str) else model).to(place).eval()
        if network.needs_sparse_depth:
            raise UserError(
                f"{network.source} completes sparse depth, which a photograph alone does not bring: "
                "`depthkd predict` takes both (--sparse FILES)"
            )
        use_processors(network, place)
        about = f"Model: {network.source}; it predicts {network.space}; license: {network.license}."
        hosts = [host, "127.0.0.1", "localhost"] if is_local(host) and ":" not in host else None
        server = server_of(application(Answers(network, place, fov), about, hosts))
        print(about)
        if not is_local(host):
            print(EVERYWHERE.format(host=host))
        shown = f"[{host}]" if ":" in host else host
        print(f"http://{shown}:{heard.getsockname()[1]}   (Ctrl-C ends it)", flush=True)
        try:
            server.run(sockets=[heard])
        except KeyboardInterrupt:
            print("\nended")


def main(command: Command) -> int:
    """Run `depthkd demo`; returns the exit status.

    Raises:
        UserError, MissingFileError: a user's mistake, as a sentence.
    """
    options = parsed("demo", USAGE, demo, command.arguments, "model")
    demo(**options.as_dict())
    return 0
