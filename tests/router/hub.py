"""A hub of one repository on this machine, speaking as much of the Hugging Face hub's protocol as reading needs."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote, urlsplit

COMMIT = "c" * 40


@contextmanager
def serve_hub(repo: str, files: Mapping[str, bytes]) -> Iterator[str]:
    """Serve `files` (path -> content) as the repository's branches `main` and `v2`, and yield the endpoint."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            path = unquote(urlsplit(self.path).path)
            api = f"/api/models/{repo}"
            if path in (api, f"{api}/revision/main", f"{api}/revision/v2", f"{api}/revision/{COMMIT}"):
                self.answer_json({"id": repo, "sha": COMMIT, "siblings": []})
            elif path.startswith(f"{api}/tree/{COMMIT}"):
                self.answer_tree(path.removeprefix(f"{api}/tree/{COMMIT}").strip("/"))
            elif path.startswith(f"/{repo}/resolve/{COMMIT}/"):
                self.answer_file(path.removeprefix(f"/{repo}/resolve/{COMMIT}/"))
            else:
                self.answer_missing()

        def do_HEAD(self) -> None:
            self.do_GET()

        def do_POST(self) -> None:
            asked = self.rfile.read(int(self.headers["Content-Length"])).decode()
            paths = json.loads(asked)["paths"]
            self.answer_json([entry(path) for path in paths if path in files])

        def answer_tree(self, folder: str) -> None:
            prefix = f"{folder}/" if folder else ""
            inside = [path for path in files if path.startswith(prefix)]
            self.answer_json([entry(path) for path in inside if "/" not in path.removeprefix(prefix)])

        def answer_file(self, path: str) -> None:
            content = files[path]
            start, end = 0, len(content) - 1
            if asked := self.headers.get("Range"):
                first, last = asked.removeprefix("bytes=").split("-")
                start, end = int(first), min(int(last or end), end)
            self.answer(206 if asked else 200, content[start : end + 1], {"X-Repo-Commit": COMMIT})

        def answer_json(self, value: object) -> None:
            self.answer(200, json.dumps(value).encode(), {"Content-Type": "application/json"})

        def answer_missing(self) -> None:
            self.answer(404, b"{}", {"X-Error-Code": "RepoNotFound"})

        def answer(self, status: int, body: bytes, headers: Mapping[str, str]) -> None:
            self.send_response(status)
            for name, value in {**headers, "Content-Length": str(len(body))}.items():
                self.send_header(name, value)
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body)

        def log_message(self, *args: object) -> None:
            pass

    def entry(path: str) -> dict[str, object]:
        digest = hashlib.sha1(files[path]).hexdigest()
        return {"type": "file", "path": path, "size": len(files[path]), "oid": digest}

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
