"""A schema registry over HTTP, as a process of its own: what its clients ask for when they read and register.

``python registry_server.py`` prints its port. Schemas are numbered from 1 in the order in which they come.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

schemas: list[dict[str, Any]] = []
subjects: dict[str, list[int]] = {}
asked: list[str] = []


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        match path.strip("/").split("/"):
            case ["asked"]:
                return self.answer(200, asked)
            case ["schemas", "ids", number]:
                asked.append(path)
                if number == "500":
                    return self.answer(500, {"error_code": 50001, "message": "the store is down"})
                if 1 <= int(number) <= len(schemas):
                    return self.answer(200, schemas[int(number) - 1])
                return self.answer(404, {"error_code": 40403, "message": "Schema not found"})
            case ["subjects", subject, "versions", version] if subject in subjects:
                id_ = subjects[subject][int(version) - 1]
                place = {"subject": subject, "version": int(version), "id": id_}
                return self.answer(200, {**place, **schemas[id_ - 1]})
        return self.answer(404, {"error_code": 404, "message": path})

    def do_POST(self) -> None:
        schema = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        match self.path.partition("?")[0].strip("/").split("/"):
            case ["subjects", subject, "versions"]:
                if subject.startswith("incompatible"):
                    return self.answer(409, {"error_code": 409, "message": "Schema is incompatible"})
                kept = {key: schema[key] for key in ("schema", "schemaType", "references") if schema.get(key)}
                if kept not in schemas:
                    schemas.append(kept)
                id_ = schemas.index(kept) + 1
                if id_ not in subjects.setdefault(subject, []):
                    subjects[subject].append(id_)
                return self.answer(200, {"id": id_})
        return self.answer(404, {"error_code": 404, "message": self.path})

    def answer(self, status: int, document: Any) -> None:
        body = json.dumps(document).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/vnd.schemaregistry.v1+json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        pass


@contextmanager
def running_registry() -> Iterator[str]:
    """Start a registry; gives its URL."""
    with subprocess.Popen([sys.executable, __file__], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield f"http://127.0.0.1:{process.stdout.readline().strip()}"
        finally:
            process.terminate()


if __name__ == "__main__":
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    print(server.server_port, flush=True)
    server.serve_forever()
