"""W&B's server: its address, a check that it answers and knows the user, and sweeps that are made on it."""

from __future__ import annotations

import base64
import contextlib
import json
import netrc
import os
import sys
import urllib.error
import urllib.parse
import urllib.request
import warnings

from glrnn_hpc.errors import TrackingError, one_line
from glrnn_hpc.records.json_types import JsonObject
from glrnn_hpc.tracking.bounded_calls import BoundedCalls

#: Seconds to wait for the server's answer, and for a new sweep.
ANSWER_SECONDS, SWEEP_SECONDS = 5.0, 60.0

_ADVICE = "run this on a node with internet, such as a login node"


def require_server(seconds: float = ANSWER_SECONDS) -> str:
    """Check that W&B's server answers and knows the user; return the server's address.

    The client itself tries again silently for minutes.

    Raises
    ------
    TrackingError
        If there is no API key, or the server does not answer within `seconds`, or does not know the key.
    """
    url = server_url()
    key = _api_key(url)
    if key is None:
        raise TrackingError(
            f"there is no API key for W&B's server {url}: run `wandb login`, or set WANDB_API_KEY "
            "(and WANDB_BASE_URL for a server of your own)."
        )
    query = json.dumps({"query": "query { viewer { id } }"}).encode()
    request = urllib.request.Request(f"{url}/graphql", query, {"Content-Type": "application/json"})
    request.add_header("Authorization", "Basic " + base64.b64encode(f"api:{key}".encode()).decode())
    try:
        with urllib.request.urlopen(request, timeout=seconds) as answer:
            content = json.loads(answer.read())
    except urllib.error.HTTPError as error:
        if error.code in (401, 403):
            raise _unknown_key(url) from error
        raise TrackingError(f"W&B's server {url} answers with status {error.code}; try again later.") from error
    except (OSError, ValueError) as error:
        raise TrackingError(f"W&B's server {url} cannot be reached: {one_line(error)}; {_ADVICE}.") from error
    if not (content.get("data") or {}).get("viewer"):
        raise _unknown_key(url)
    return url


def server_url() -> str:
    """Return the address of W&B's server, as its client knows it."""
    import wandb

    url = os.environ.get("WANDB_BASE_URL") or wandb.sdk.wandb_setup.singleton().settings.base_url
    return str(url).rstrip("/")


def create_sweep(content: JsonObject, project: str, entity: str | None) -> str:
    """Make a sweep on W&B's server and return its id.

    Parameters
    ----------
    content : mapping
        The sweep file.
    project, entity : str
        Where it is made; entity None for the user's own.

    Raises
    ------
    TrackingError
        If the server does not answer in time, or refuses the sweep.
    """
    require_server()

    def create() -> str:
        import wandb

        # The client's prints are no output of a command of this package, and it warns of calls of its own.
        with contextlib.redirect_stdout(sys.stderr), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return str(wandb.sweep(content, entity=entity, project=project))

    try:
        return BoundedCalls().call(create, SWEEP_SECONDS)
    except Exception as error:
        raise TrackingError(f"W&B does not make the sweep: {one_line(error)}") from error


def _unknown_key(url: str) -> TrackingError:
    return TrackingError(f"W&B's server {url} does not know the API key: run `wandb login --relogin`.")


def _api_key(url: str) -> str | None:
    if key := os.environ.get("WANDB_API_KEY"):
        return key
    address = urllib.parse.urlsplit(url)
    with contextlib.suppress(OSError, netrc.NetrcParseError):
        entries = netrc.netrc(os.environ.get("NETRC"))
        # The client writes a server of one's own with its port.
        for host in (address.netloc, address.hostname or ""):
            if host in entries.hosts:
                return entries.hosts[host][2]
    import wandb

    return wandb.sdk.wandb_setup.singleton().settings.api_key or None
