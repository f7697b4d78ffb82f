"""A proxy in front of the test server: it keeps what passes, and answers what that server does not know:
sweeps, and the whole of the questions about runs and their files.

What is sent through it arrives at the server unchanged; answers of its own are those of W&B's server to the client's
queries, so that the real client works with them.
"""

from __future__ import annotations

import http.client
import json
import re
import socket
import threading
import urllib.request
from base64 import b64decode
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote

from tests.tracking.answers import Answers, Sweep

Json = dict[str, Any]

_STREAM = re.compile(r"/files/(?P<entity>[^/]+)/(?P<project>[^/]+)/(?P<run>[^/]+)/file_stream$")
_FILE = re.compile(r"/files/(?P<entity>[^/]+)/(?P<project>[^/]+)/(?P<run>[^/]+)/(?P<name>.+)$")


@dataclass
class SentRun:
    """What the client sent of one run, as W&B's server would keep it.

    Attributes
    ----------
    upserts : list of dict
        Variables of each `upsertBucket`, None left out.
    history : list of dict
        Lines of the history; a line that is sent again to the same place replaces the earlier one.
    n_lines : int
        Lines that were sent, those that replaced others too.
    exit_codes : list of int
        One for each time the run was completed.
    files : dict
        Content of the uploaded files by name.
    """

    upserts: list[Json] = field(default_factory=list)
    history: list[Json] = field(default_factory=list)
    n_lines: int = 0
    exit_codes: list[int] = field(default_factory=list)
    files: dict[str, bytes] = field(default_factory=dict)
    summary: Json = field(default_factory=dict)

    def said(self, name: str) -> Any:
        """Return the last value of a variable of `upsertBucket`; None if it was never sent."""
        return next((sent[name] for sent in reversed(self.upserts) if name in sent), None)

    @property
    def config(self) -> Json:
        """Return the configuration without W&B's own part."""
        sent = json.loads(self.said("config") or "{}")
        return {key: item["value"] for key, item in sent.items() if key != "_wandb"}

    @property
    def state(self) -> str:
        if not self.exit_codes:
            return "running"
        return "failed" if self.exit_codes[-1] else "finished"


class Recorder:
    """What has passed the proxy, and the sweeps that it leads; shared by all connections.

    Attributes
    ----------
    runs : dict
        Of what was sent, by (entity, project, run id).
    sweeps : dict
        By id.
    operations : list of str
        Names of all GraphQL operations, in their order.
    faults : list of callable
        Each may answer a request by a status, or a status and the server's words, instead of passing it on; called with
        method, path and body.
    """

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self.runs: dict[tuple[str, str, str], SentRun] = {}
        self.sweeps: dict[str, Sweep] = {}
        self.operations: list[str] = []
        self.faults: list[Callable[[str, str, bytes], int | tuple[int, str] | None]] = []

    def run(self, entity: str, project: str, name: str) -> SentRun:
        with self.lock:
            return self.runs.setdefault((entity, project, name), SentRun())

    def runs_of(self, project: str) -> dict[str, SentRun]:
        """Return what was sent of the runs of a project, by run id."""
        with self.lock:
            return {name: run for (_, of, name), run in self.runs.items() if of == project}

    def forget(self, name: str) -> None:
        """Forget what was sent of the runs with an id, as if it were deleted."""
        with self.lock:
            self.runs = {key: run for key, run in self.runs.items() if key[2] != name}

    def forget_project(self, project: str) -> None:
        """Forget what was sent of all runs of a project."""
        with self.lock:
            self.runs = {key: run for key, run in self.runs.items() if key[1] != project}

    def note_upsert(self, variables: Json, entity: str) -> None:
        sent = {key: value for key, value in variables.items() if value is not None}
        with self.lock:
            run = self.run(sent.get("entity") or entity, sent.get("project") or "uncategorized", sent["name"])
            run.upserts.append(sent)

    def note_stream(self, entity: str, project: str, name: str, content: Json) -> None:
        run = self.run(unquote(entity), unquote(project), unquote(name))
        files = content.get("files") or {}
        with self.lock:
            if lines := files.get("wandb-history.jsonl"):
                rows = [json.loads(line) for line in lines["content"]]
                run.history[lines["offset"] : lines["offset"] + len(rows)] = rows
                run.n_lines += len(rows)
            for line in (files.get("wandb-summary.json") or {}).get("content", []):
                run.summary = json.loads(line)
            if content.get("complete"):
                run.exit_codes.append(int(content.get("exitcode") or 0))

    def note_file(self, entity: str, project: str, name: str, file: str, content: bytes) -> None:
        with self.lock:
            self.run(unquote(entity), unquote(project), unquote(name)).files[unquote(file)] = content


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Proxy

    def do_GET(self) -> None:
        self._pass_on()

    def do_POST(self) -> None:
        self._pass_on()

    def do_PUT(self) -> None:
        self._pass_on()

    def log_message(self, format: str, *args: Any) -> None:
        """Be silent."""

    def _pass_on(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        recorder = self.server.recorder
        with recorder.lock:
            faults = list(recorder.faults)
        for fault in faults:
            if (answer := fault(self.command, self.path, body)) is not None:
                status, words = answer if isinstance(answer, tuple) else (answer, "as the test wants it")
                self._answer(status, {"errors": [{"message": words}]})
                return
        if not self._is_authorized():
            self._answer(401, {"errors": [{"message": "user is not logged in"}]})
            return
        if self.path.endswith("/graphql") and (answer := self.server.answers.to(json.loads(body))) is not None:
            self._answer(200, answer)
            return
        try:
            status, headers, content = self._ask_server(body)
        except OSError:
            # A server that has died gives no answer at all.
            self.close_connection = True
            self.connection.shutdown(socket.SHUT_RDWR)
            return
        if status < 300:
            self._note(body)
        self._send(status, headers.get("Content-Type", "application/json"), content)

    def _is_authorized(self) -> bool:
        if self.command == "PUT" or "graphql" not in self.path:  # signed addresses elsewhere
            return True
        kind, _, value = self.headers.get("Authorization", "").partition(" ")
        return kind == "Basic" and b64decode(value).decode().partition(":")[2] == self.server.api_key

    def _ask_server(self, body: bytes) -> tuple[int, http.client.HTTPMessage, bytes]:
        connection = http.client.HTTPConnection("127.0.0.1", self.server.upstream, timeout=30)
        try:
            hop_by_hop = ("connection", "accept-encoding", "content-length")
            headers = {name: value for name, value in self.headers.items() if name.lower() not in hop_by_hop}
            connection.request(self.command, self.path, self._for_server(body), headers)
            response = connection.getresponse()
            return response.status, response.headers, response.read()
        finally:
            connection.close()

    def _for_server(self, body: bytes) -> bytes:
        """Leave out an empty operationName, with which the client means the only one."""
        if not self.path.endswith("/graphql"):
            return body
        content = json.loads(body)
        if content.get("operationName") == "":
            del content["operationName"]
        return json.dumps(content).encode()

    def _note(self, body: bytes) -> None:
        recorder = self.server.recorder
        if self.path.endswith("/graphql"):
            content = json.loads(body)
            if "upsertBucket" in content["query"]:
                recorder.note_upsert(content["variables"], self.server.entity)
        elif match := _STREAM.match(self.path):
            recorder.note_stream(match["entity"], match["project"], match["run"], json.loads(body))
        elif self.command == "PUT" and (match := _FILE.match(self.path)):
            recorder.note_file(match["entity"], match["project"], match["run"], match["name"], body)

    def _answer(self, status: int, content: Json) -> None:
        self._send(status, "application/json", json.dumps(content).encode())

    def _send(self, status: int, kind: str, content: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)


class Proxy(ThreadingHTTPServer):
    """Listens on a free port of the loopback device."""

    daemon_threads = True

    def __init__(self, upstream: int, api_key: str, entity: str) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.upstream, self.api_key, self.entity = upstream, api_key, entity
        self.recorder = Recorder()
        self.answers = Answers(self.recorder, self.url, entity)
        threading.Thread(target=self.serve_forever, daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def close(self) -> None:
        """Stop to listen."""
        self.shutdown()
        self.server_close()

    def ask(self, path: str) -> Any:
        """Return what the server behind the proxy says of itself, as JSON."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.upstream}{path}", timeout=30) as answer:
            return json.loads(answer.read())

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Be silent when a client breaks its connection."""
