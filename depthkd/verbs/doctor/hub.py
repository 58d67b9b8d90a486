"""Whether models can be fetched from the Hugging Face hub: network, token, offline switches."""

import os
from collections.abc import Iterator
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.request import Request, urlopen

from depthkd.storage.hub import within
from depthkd.verbs.doctor.findings import Finding, ok, warning

LIMIT = 5.0  # seconds for the hub to answer
SWITCHES = ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", "HF_DATASETS_OFFLINE")
OFF = ("", "0", "false", "no", "off")


def look(config: dict[str, Any]) -> Iterator[Finding]:
    """Findings about the hub; takes a few seconds at most."""
    from huggingface_hub import constants, get_token

    switches = [name for name in SWITCHES if os.environ.get(name, "").lower() not in OFF]
    if switches:
        yield warning(
            "hub",
            f"{' and '.join(switches)} is set: models come from {constants.HF_HUB_CACHE} alone",
            "nothing, if they are there; or unset it",
        )
        return
    token = get_token()
    yield reached(str(constants.ENDPOINT), token)
    if token is None:
        yield warning(
            "hub token",
            "none: gated models cannot be fetched, and fewer requests a minute are allowed",
            "nothing, for public models; or `hf auth login`, or HF_TOKEN",
        )


def reached(endpoint: str, token: str | None = None) -> Finding:
    """Whether the hub answers, and takes the token, if there is one."""
    path = "/api/whoami-v2" if token else "/api/models?limit=1"
    request = Request(endpoint + path, headers={"Authorization": f"Bearer {token}"} if token else {})

    def ask() -> int:
        with urlopen(request, timeout=LIMIT) as answer:
            return int(answer.status)

    offline = "copy its cache from elsewhere and set HF_HUB_OFFLINE=1, or give HTTPS_PROXY or HF_ENDPOINT"
    try:
        within(LIMIT, ask)
    except HTTPError as error:
        error.close()
        if error.code in (401, 403) and token:
            return warning(
                "hub", f"{endpoint} refuses the token ({error.code})", "`hf auth login` with a new one"
            )
        return warning("hub", f"{endpoint} answers with status {error.code}", "try again later")
    except (URLError, OSError, TimeoutError, ValueError) as error:
        reason = getattr(error, "reason", None) or str(error) or f"no answer in {LIMIT:.0f} s"
        return warning("hub", f"{endpoint} cannot be reached: {reason}", offline)
    return ok("hub", f"{endpoint} answers" + (", and takes the token" if token else ""))
