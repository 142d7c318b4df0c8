"""A W&B server on this machine, as far as a run that is followed needs one: what it got, it keeps by run."""

from __future__ import annotations

import base64
import gzip
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

API_KEY = "0123456789" * 4


@dataclass
class ServerRun:
    """A run as the server has it."""

    name: str
    config: dict[str, Any] = field(default_factory=dict)
    lines: dict[int, str] = field(default_factory=dict)
    """Of the history, by number: JSON."""
    summary: dict[str, Any] = field(default_factory=dict)
    sweep: str | None = None
    is_finished: bool = False
    alerts: list[tuple[str, str]] = field(default_factory=list)

    @property
    def rows(self) -> list[dict[str, Any]]:
        """What was logged, in order."""
        return [json.loads(line) for _, line in sorted(self.lines.items())]


@dataclass
class ServerArtifact:
    """A version of an artifact."""

    id: str
    type: str
    collection: str
    aliases: list[str]
    metadata: str
    is_used: bool = False
    is_deleted: bool = False


class WandbServer(ThreadingHTTPServer):
    """Answers on 127.0.0.1."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.runs: dict[str, ServerRun] = {}
        self.artifacts: list[ServerArtifact] = []
        """What was logged as artifacts, of tables too."""
        self.sweep = ""
        """The sweep's configuration, YAML."""
        self.commands: list[dict[str, Any]] = []
        """What an agent is to be told next."""
        self.asked: list[str] = []
        """Operations that came."""
        self.lock = threading.Lock()

    @property
    def url(self) -> str:
        """Its address."""
        return f"http://127.0.0.1:{self.server_address[1]}"

    @property
    def environment(self) -> dict[str, str]:
        """What a process needs to log in to it."""
        return {"WANDB_BASE_URL": self.url, "WANDB_API_KEY": API_KEY, "WANDB_MODE": "online"}

    def answer(self, name: str, given: dict[str, Any]) -> dict[str, Any]:
        """The data of a GraphQL operation."""
        self.asked.append(name)
        operation = getattr(self, f"_{_snake(name)}", None)
        return operation(given) if operation else {}

    def _viewer(self, given: dict[str, Any]) -> dict[str, Any]:
        teams = {"edges": [{"node": {"name": "team"}}]}
        flags = "{}"
        return {"viewer": {"id": "me", "entity": "me", "username": "me", "flags": flags, "teams": teams}}

    def _server_features_query(self, given: dict[str, Any]) -> dict[str, Any]:
        return {"serverInfo": {"features": []}}

    def _run_resume_status(self, given: dict[str, Any]) -> dict[str, Any]:
        run = self.runs.get(given["name"])
        if run is None:
            return {
                "model": {"id": "project", "name": "p", "entity": {"id": "e", "name": "me"}, "bucket": None}
            }
        tail = [line for _, line in sorted(run.lines.items())][-1:]
        bucket = {
            "id": run.name,
            "name": run.name,
            "summaryMetrics": json.dumps(run.summary),
            "displayName": run.name,
            "logLineCount": 0,
            "historyLineCount": len(run.lines),
            "eventsLineCount": 0,
            "historyTail": json.dumps(tail),
            "eventsTail": "[]",
            "config": json.dumps({key: {"value": value} for key, value in run.config.items()}),
            "tags": [],
            "wandbConfig": json.dumps({"t": {}}),
        }
        return {
            "model": {"id": "project", "name": "p", "entity": {"id": "e", "name": "me"}, "bucket": bucket}
        }

    def _upsert_bucket(self, given: dict[str, Any]) -> dict[str, Any]:
        name, is_new = given["name"], given["name"] not in self.runs
        run = self.runs.setdefault(name, ServerRun(name))
        run.config |= {key: v.get("value") for key, v in json.loads(given.get("config") or "{}").items()}
        run.sweep = given.get("sweep") or run.sweep
        project = {"id": "project", "name": given.get("project") or "p", "entity": {"id": "e", "name": "me"}}
        bucket = {
            "id": name,
            "name": name,
            "displayName": given.get("displayName") or name,
            "description": None,
            "config": "{}",
            "sweepName": run.sweep,
            "historyLineCount": len(run.lines),
            "project": project,
        }
        return {"upsertBucket": {"bucket": bucket, "inserted": is_new}}

    def _notify_scriptable_run_alert(self, given: dict[str, Any]) -> dict[str, Any]:
        self.runs[given["runName"]].alerts.append((given["title"], given["text"]))
        return {"notifyScriptableRunAlert": {"success": True}}

    def _sweep_with_runs(self, given: dict[str, Any]) -> dict[str, Any]:
        sweep = {"id": given["sweep"], "name": given["sweep"], "config": self.sweep, "runs": {"edges": []}}
        return {"project": {"sweep": sweep}}

    def _create_agent(self, given: dict[str, Any]) -> dict[str, Any]:
        return {"createAgent": {"agent": {"id": "agent"}}}

    def _heartbeat(self, given: dict[str, Any]) -> dict[str, Any]:
        commands, self.commands = self.commands, []
        return {"agentHeartbeat": {"agent": {"id": "agent"}, "commands": json.dumps(commands)}}

    def _artifact_type(self, given: dict[str, Any]) -> dict[str, Any]:
        return {"project": {"artifact": None}}

    def _create_artifact(self, given: dict[str, Any]) -> dict[str, Any]:
        about = given["input"]
        number, kind = len(self.artifacts), about["artifactTypeName"]
        collection = about["artifactCollectionName"]
        aliases = [alias["alias"] for alias in about["aliases"]]
        one = ServerArtifact(_global(f"Artifact:{number}"), kind, collection, aliases, about["metadata"])
        self.artifacts.append(one)
        sequence = {"latestArtifact": {"id": one.id}}
        artifact = {"id": one.id, "state": "COMMITTED", "artifactSequence": sequence}
        return {"createArtifact": {"artifact": artifact}}

    def _get_default_entity(self, given: dict[str, Any]) -> dict[str, Any]:
        return {"viewer": {"id": _global("User:me"), "entity": "me"}}

    def _project_artifacts(self, given: dict[str, Any]) -> dict[str, Any]:
        newest_first = [one for one in self.artifacts[::-1] if one.collection == given["collection"]]
        there = [one for one in newest_first if not one.is_deleted]
        edges = [{"version": "v0", "node": _artifact(one)} for one in there]
        page = {"__typename": "PageInfo", "endCursor": None, "hasNextPage": False}
        versions = {"totalCount": len(edges), "pageInfo": page, "edges": edges}
        collection = {"__typename": "ArtifactSequence", "artifacts": versions}
        return {"project": {"artifactType": {"artifactCollection": collection}}}

    def _artifact_membership_by_name(self, given: dict[str, Any]) -> dict[str, Any]:
        name, _, alias = given["name"].partition(":")
        fitting = [one for one in self.artifacts if one.collection == name and alias in one.aliases]
        member = {
            "__typename": "ArtifactCollectionMembership",
            "id": _global("Membership:1"),
            "versionIndex": 0,
            "createdAt": "2026-01-01T00:00:00",
            "aliases": [],
            "artifactCollection": _collection(name),
            "artifact": _artifact(fitting[-1]) if fitting else None,
        }
        return {"project": {"artifactCollectionMembership": member if fitting else None}}

    def _use_artifact(self, given: dict[str, Any]) -> dict[str, Any]:
        number = given["input"]["artifactID"] if "input" in given else given["artifactID"]
        next(one for one in self.artifacts if one.id == number).is_used = True
        return {"useArtifact": {"artifact": {"id": number}}}

    def _delete_artifact(self, given: dict[str, Any]) -> dict[str, Any]:
        number = given["input"]["artifactID"]
        next(one for one in self.artifacts if one.id == number).is_deleted = True
        return {"result": {"artifact": {"id": number}}}

    def _create_run_files(self, given: dict[str, Any]) -> dict[str, Any]:
        files = [{"name": name, "uploadUrl": f"{self.url}/put/{name}"} for name in given["files"]]
        return {"createRunFiles": {"runID": given["run"], "uploadHeaders": [], "files": files}}

    def stream(self, name: str, body: dict[str, Any]) -> None:
        """Take a piece of a run's stream."""
        run = self.runs[name]
        files = body.get("files") or {}
        history = files.get("wandb-history.jsonl")
        if history:
            run.lines.update(enumerate(history["content"], history["offset"]))
        summary = files.get("wandb-summary.json")
        if summary:
            run.summary = json.loads(summary["content"][-1])
        run.is_finished = run.is_finished or bool(body.get("complete"))


class _Handler(BaseHTTPRequestHandler):
    server: WandbServer

    def do_POST(self) -> None:
        data = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if self.headers.get("Content-Encoding") == "gzip":
            data = gzip.decompress(data)
        is_json = "json" in self.headers.get("Content-Type", "")
        body = json.loads(data) if is_json and data else {}
        with self.server.lock:
            if self.path.endswith("/graphql"):
                name = re.match(r"\s*(?:query|mutation)\s+(\w+)", body["query"])
                answer = {"data": self.server.answer(name[1] if name else "", body.get("variables") or {})}
            elif self.path.endswith("/file_stream"):
                self.server.stream(self.path.split("/")[-2], body)
                answer = {"exitcode": None, "limits": {}}
            else:
                self.server.asked.append(self.path)
                answer = {}
        self._reply(answer)

    def do_PUT(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self._reply({})

    def do_GET(self) -> None:
        self.server.asked.append(self.path)
        self._reply({})

    def _reply(self, answer: dict[str, Any]) -> None:
        data = json.dumps(answer).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *words: Any) -> None:
        """Print nothing."""


@contextmanager
def wandb_server() -> Iterator[WandbServer]:
    """One that answers while the block runs."""
    server = WandbServer()
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()


def _global(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


def _collection(name: str) -> dict[str, Any]:
    project = {"id": _global("Project:p"), "internalId": _global("P:1"), "name": "flywheel"}
    return {"__typename": "ArtifactSequence", "name": name, "project": {**project, "entity": {"name": "me"}}}


def _artifact(one: ServerArtifact) -> dict[str, Any]:
    return {
        "__typename": "Artifact",
        "id": one.id,
        "artifactSequence": _collection(one.collection),
        "versionIndex": 0,
        "artifactType": {"name": one.type},
        "description": None,
        "metadata": one.metadata,
        "ttlDurationSeconds": -1,
        "ttlIsInherited": False,
        "tags": [],
        "historyStep": None,
        "state": "COMMITTED",
        "size": 1,
        "digest": "d",
        "commitHash": None,
        "fileCount": 1,
        "createdAt": "2026-01-01T00:00:00",
        "updatedAt": None,
        "aliases": [],
    }


def _snake(name: str) -> str:
    return re.sub(r"(?<!^)(?=[A-Z])", "_", name).lower()
