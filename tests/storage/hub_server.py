"""A server that answers what huggingface_hub asks of the hub, for repositories that are folders."""

import hashlib
import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest

from depthkd.storage import remote
from tests.storage.server import Answer, FaultyServer, Handler, serving

PAGE = 3  # entries of a list in one answer
TOKEN = "hf_secret"
SIGNED = "disposition=filename*%3DUTF-8%27%27a.tar&signature=a%2Fb"  # not to be written otherwise


class Hub(Handler):
    """Serves `datasets/OWNER/NAME@REVISION` of its folder, `main` where there is no revision. Tars are large
    files: they come from another host, which has ETags of its own and no use for the hub's token."""

    def found(self) -> Answer:
        path, _, query = self.path.partition("?")
        if path.startswith("/elsewhere/"):
            self.path = path.removeprefix("/elsewhere")
            known = query == SIGNED and "Authorization" not in self.headers
            return super().found() if known else Answer(400, {}, b"")
        asked = re.fullmatch(
            r"(/api)?/datasets/([^/]+/[^/]+?)(?:/(revision|tree|resolve)/([^/]+))?(?:/(.*))?", path
        )
        if asked is None:
            return Answer(404, {}, b"")
        api, name, what, revision, rest = asked.groups()
        revision = unquote(revision or "main").replace("/", "_")
        root = self.server.folder / "datasets" / (name if revision == "main" else f"{name}@{revision}")
        if "gated" in name and self.headers.get("Authorization") != f"Bearer {TOKEN}":
            return Answer(401, {"X-Error-Code": "GatedRepo"}, b"")
        if not root.is_dir():
            known = (self.server.folder / "datasets" / name).is_dir()
            return Answer(404, {"X-Error-Code": "RevisionNotFound" if known else "RepoNotFound"}, b"")
        if api and what != "tree":
            return Answer(200, {}, json.dumps({"id": name, "sha": "0" * 40}).encode())
        file = root / unquote(rest or "")
        if not file.exists():
            return Answer(404, {"X-Error-Code": "EntryNotFound"}, b"")
        if what == "tree":
            return self.listed(root, file, query)
        told = entry(root, file)
        if "lfs" in told:
            place = f"http://localhost:{self.server.server_address[1]}/elsewhere"
            headers = {"Location": f"{place}/{file.relative_to(self.server.folder)}?{SIGNED}"}
            return Answer(302, {**headers, "X-Linked-Etag": f'"{told["lfs"]["oid"]}"'}, b"")
        self.path = f"/{file.relative_to(self.server.folder)}"
        answer = super().found()
        return answer._replace(headers={**answer.headers, "ETag": f'"{told["oid"]}"'})

    def listed(self, root: Path, folder: Path, query: str) -> Answer:
        entries = sorted(folder.rglob("*") if "recursive=true" in query.lower() else folder.iterdir())
        start = int((re.search(r"cursor=(\d+)", query) or [0, 0])[1])
        page, more = entries[start : start + PAGE], start + PAGE < len(entries)
        again = re.sub(r"&cursor=\d+", "", self.path)
        link = {"Link": f'<{self.server.url}{again}&cursor={start + PAGE}>; rel="next"'} if more else {}
        return Answer(200, link, json.dumps([entry(root, path) for path in page]).encode())


def entry(root: Path, path: Path) -> dict[str, Any]:
    """What the hub says of a file or folder."""
    name = str(path.relative_to(root))
    if path.is_dir():
        return {"type": "directory", "oid": hashlib.sha1(name.encode()).hexdigest(), "size": 0, "path": name}
    data = path.read_bytes()
    told = {"type": "file", "oid": hashlib.sha1(data).hexdigest(), "size": len(data), "path": name}
    large = {"oid": hashlib.sha256(data).hexdigest(), "size": len(data), "pointerSize": 134}
    return {**told, "lfs": large} if path.suffix == ".tar" else told


@contextmanager
def hub(folder: Path, patch: pytest.MonkeyPatch) -> Iterator[FaultyServer]:
    """A hub of the repositories in `folder`, which this process takes for the only one."""
    from huggingface_hub import constants

    with serving(folder, handler=Hub) as server:
        patch.setattr(constants, "HF_HUB_OFFLINE", False)
        patch.setattr(constants, "ENDPOINT", server.url)
        template = f"{server.url}/{{repo_id}}/resolve/{{revision}}/{{filename}}"
        patch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        (folder / "harnesses.json").write_text('{"standardEnvVars": [], "harnesses": {}}')
        patch.setattr(constants, "AGENT_HARNESSES_PATH", str(folder / "harnesses.json"))  # is asked for, too
        patch.setenv("HF_TOKEN", TOKEN)
        patch.setenv("DEPTHKD_CACHE", str(folder / "cache"))
        patch.setattr(remote, "FIRST_PAUSE", 0.01)
        patch.setattr(remote, "_systems", {})
        yield server
