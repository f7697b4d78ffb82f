"""Answers of W&B's server to the client about runs and sweeps, as the proxy has recorded them."""

from __future__ import annotations

import itertools
import json
import re
import secrets
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import yaml

if TYPE_CHECKING:
    from tests.tracking.proxy import Recorder, SentRun

Json = dict[str, Any]
Key = tuple[str, str, str]

_WHEN = "2026-01-01T00:00:00Z"


class Sweep:
    """A sweep that the proxy leads: it gives out its points one after the other."""

    def __init__(self, key: Key, config: str) -> None:
        self.entity, self.project, self.name = key
        self.config = config
        self.content: Json = yaml.safe_load(config)
        self._points = self._all_points()
        self.given: list[str] = []

    def next_run(self) -> Json | None:
        """Return the command that starts the next run; None if there is none left."""
        point = next(self._points, None)
        if point is None or len(self.given) >= self.content.get("run_cap", 1000):
            return None
        self.given.append(f"{self.name}-{len(self.given)}")
        arguments = {name: {"value": value} for name, value in point.items()}
        return {"type": "run", "run_id": self.given[-1], "program": self.content.get("program"), "args": arguments}

    def node(self) -> Json:
        return {
            "__typename": "Sweep",
            "id": self.name,
            "name": self.name,
            "displayName": self.content.get("name"),
            "method": self.content["method"],
            "state": "RUNNING",
            "description": None,
            "bestLoss": None,
            "config": self.config,
            "createdAt": _WHEN,
            "updatedAt": _WHEN,
            "heartbeatAt": _WHEN,
            "runCount": len(self.given),
            "runCountExpected": self.content.get("run_cap"),
            "earlyStopJobRunning": False,
            "controller": None,
            "scheduler": None,
            "runs": {"edges": []},
        }

    def _all_points(self) -> Any:
        """Yield the combinations of all values, the first parameters changing first; of a range its middle."""
        choices = []
        for name, entry in self.content["parameters"].items():
            if "value" in entry:
                values = [entry["value"]]
            else:
                values = entry.get("values") or [(entry["min"] + entry["max"]) / 2]
            choices.append([(name, value) for value in values])
        for reverse in itertools.product(*reversed(choices)):
            yield dict(reversed(reverse))


class Answers:
    """Answers to the operations that the server behind the proxy does not know.

    Each method is named after the client's operation, takes its variables and returns the data.
    """

    def __init__(self, recorder: Recorder, url: str, entity: str) -> None:
        self._recorder, self._url, self._entity = recorder, url, entity

    def to(self, content: Json) -> Json | None:
        """Return the whole answer; None if the server shall give it."""
        found = re.search(r"\b(?:query|mutation)\s+(\w+)", content["query"])
        operation = found[1] if found else ""
        answer = getattr(self, f"_{operation}", None)
        with self._recorder.lock:
            self._recorder.operations.append(operation)
            return None if answer is None else {"data": answer(content.get("variables") or {})}

    def _UpsertSweep(self, variables: Json) -> Json:
        name = variables.get("id") or secrets.token_hex(4)
        entity, project = variables.get("entityName") or self._entity, variables.get("projectName") or "uncategorized"
        self._recorder.sweeps[name] = Sweep((entity, project, name), variables["config"])
        place = {"id": "1", "name": project, "entity": {"id": "1", "name": entity}}
        return {"upsertSweep": {"sweep": {"name": name, "project": place}, "configValidationWarnings": []}}

    def _CreateAgent(self, variables: Json) -> Json:
        return {"createAgent": {"agent": {"id": f"agent-{variables['sweep']}"}}}

    def _Heartbeat(self, variables: Json) -> Json:
        sweep = self._recorder.sweeps[variables["id"].removeprefix("agent-")]
        states = json.loads(variables.get("runState") or "{}")
        commands = []
        if not states:  # the agent trains nothing now
            commands = [sweep.next_run() or {"type": "exit"}]
        return {"agentHeartbeat": {"agent": {"id": variables["id"]}, "commands": json.dumps(commands)}}

    def _GetSweep(self, variables: Json) -> Json:
        sweep = self._recorder.sweeps.get(variables.get("name") or variables.get("sweep") or "")
        is_there = sweep and (sweep.entity, sweep.project) == (variables.get("entity"), variables.get("project"))
        return {"project": {"sweep": sweep.node() if sweep and is_there else None}}

    _SweepWithRuns = _GetSweepLegacy = _GetSweepState = _GetSweep

    def _Run(self, variables: Json) -> Json:
        key = (variables["entity"], variables["project"], variables["name"])
        run = self._recorder.runs.get(key)
        return {"project": {"run": None if run is None else _node(key, run)}}

    _RunState = _Run

    def _Runs(self, variables: Json) -> Json:
        place = (variables["entity"], variables["project"])
        wanted = {name: value for part in _parts(variables) for name, value in part.items()}
        found = [_node(key, run) for key, run in self._recorder.runs.items() if key[:2] == place]
        found = [node for node in found if wanted.get("sweep", node["sweepName"]) == node["sweepName"]]
        order = variables.get("order") or ""
        if (metric := order[1:].removeprefix("summary_metrics.")) and "summary_metrics" in order:
            sign = -1 if order.startswith("-") else 1
            values = {node["name"]: json.loads(node["summaryMetrics"]).get(metric) for node in found}
            found = [node for node in found if values[node["name"]] is not None]
            found.sort(key=lambda node: sign * values[node["name"]])
        start = int(variables.get("cursor") or 0)
        page = found[start : start + (variables.get("perPage") or 50)]
        edges = [{"node": node, "cursor": str(start + k + 1)} for k, node in enumerate(page)]
        info = {"endCursor": str(start + len(page)), "hasNextPage": start + len(page) < len(found)}
        runs = {"edges": edges, "pageInfo": info}
        return {"project": {"internalId": "1", "runCount": len(found), "readOnly": False, "runs": runs}}

    def _RunFiles(self, variables: Json) -> Json:
        key = (variables["entity"], variables["project"], variables["name"])
        run = self._recorder.runs.get(key)
        if run is None:
            return {"project": {"internalId": "1", "run": None}}
        names = [name for name in sorted(run.files) if name in (variables.get("fileNames") or run.files)]
        edges = []
        for name in names:
            url = f"{self._url}/files/{'/'.join(key)}/{quote(name)}"
            node = {"id": name, "name": name, "url": url, "directUrl": url, "sizeBytes": len(run.files[name])}
            edges.append({"node": {**node, "mimetype": None, "updatedAt": _WHEN, "md5": None}, "cursor": name})
        files = {"edges": edges, "pageInfo": {"endCursor": None, "hasNextPage": False}}
        return {"project": {"internalId": "1", "run": {"fileCount": len(names), "files": files}}}


def _parts(variables: Json) -> list[Json]:
    filters: Json = json.loads(variables.get("filters") or "{}")
    parts: list[Json] = filters.get("$and", [filters])
    return parts


def _node(key: Key, run: SentRun) -> Json:
    return {
        "projectId": "1",
        "id": key[2],
        "name": key[2],
        "displayName": run.said("displayName"),
        "tags": run.said("tags") or [],
        "sweepName": run.said("sweep"),
        "state": run.state,
        "config": run.said("config") or "{}",
        "group": run.said("groupName"),
        "jobType": run.said("jobType"),
        "commit": None,
        "readOnly": False,
        "createdAt": _WHEN,
        "heartbeatAt": _WHEN,
        "description": None,
        "notes": None,
        "systemMetrics": "{}",
        "summaryMetrics": json.dumps(run.summary),
        "historyLineCount": len(run.history),
        "historyKeys": {"lastStep": len(run.history), "keys": {}, "sets": []},
        "user": {"name": "Admin", "username": "admin"},
    }
