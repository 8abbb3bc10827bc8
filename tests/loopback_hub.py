"""A Hugging Face Hub on 127.0.0.1, so that the tests run the real client against the real protocol.

It keeps repositories with commits and branches in memory, stores large files the plain way (LFS) or in chunks (Xet), and
rejects what the Hub rejects: a wrong sha256, a stale parent commit, a missing or foreign token, a card that is no valid YAML.
Faults are injected with `LoopbackHub.fail`; every request is in `LoopbackHub.requests`.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import secrets
import socket
import struct
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, unquote, urlsplit

import yaml

LARGE = (".safetensors", ".bin", ".parquet", ".png", ".gguf")
XET_TOKEN = "xet_token"
RID = r"(?P<rid>[^/]+/[^/]+)"
API = rf"/api/(?P<kind>models|datasets)/{RID}"


@dataclass
class Stored:
    """One file of a commit."""

    content: bytes
    large: bool
    xet_hash: str | None = None

    @property
    def sha256(self) -> str:
        return hashlib.sha256(self.content).hexdigest()

    @property
    def git_oid(self) -> str:
        return hashlib.sha1(b"blob %d\0" % len(self.content) + self.content).hexdigest()

    def facts(self, path: str) -> dict:
        """As the tree and the list of siblings tell it."""
        facts: dict = {"type": "file", "path": path, "size": len(self.content), "oid": self.git_oid}
        if self.large:
            facts["lfs"] = {"oid": self.sha256, "size": len(self.content), "pointerSize": 130}
        if self.xet_hash:
            facts["xetHash"] = self.xet_hash
        return facts


@dataclass
class Repository:
    """Commits of one repository, oldest first: (id, files, message)."""

    private: bool = False
    gated: bool = False
    commits: list[tuple[str, dict[str, Stored], str]] = field(default_factory=list)
    branches: dict[str, str] = field(default_factory=dict)

    def commit(self, branch: str, files: dict[str, Stored], message: str) -> str:
        oid = secrets.token_hex(20)
        self.commits.append((oid, files, message))
        self.branches[branch] = oid
        return oid

    def files(self, revision: str = "main") -> tuple[str, dict[str, Stored]] | None:
        oid = self.branches.get(revision, revision)
        return next(((o, f) for o, f, _ in self.commits if o == oid), None)


@dataclass
class Fault:
    """What goes wrong with the requests that match, `times` times.

    Attributes:
        method, path: Regular expressions.
        kind: A status, 'cut' (the connection closes without an answer), or 'slow' (an answer after `seconds`).
    """

    method: str
    path: str
    kind: int | str
    times: int = 10**9
    seconds: float = 3.0
    message: str = "injected fault"
    hits: int = 0


@dataclass
class Request:
    """One request as it came in."""

    method: str
    path: str
    token: str | None
    body: bytes


class Rejected(Exception):
    """An answer that is an error."""

    def __init__(self, status: int, message: str, code: str | None = None, **headers: str):
        super().__init__(message)
        self.status, self.headers = status, headers
        if code:
            self.headers["X-Error-Code"] = code
        self.headers["X-Error-Message"] = message.replace("\n", " ")


class LoopbackHub:
    """The server; `endpoint` is for HF_ENDPOINT. Users are `tokens`: token -> (name, role)."""

    def __init__(self):
        self.repositories: dict[tuple[str, str], Repository] = {}
        self.tokens = {"hf_writer": ("teacher", "write"), "hf_reader": ("reader", "read")}
        self.faults: list[Fault] = []
        self.changed: dict[str, bytes] = {}  # path -> what is kept in place of what is sent
        self.requests: list[Request] = []
        self.large: dict[str, bytes] = {}  # sha256 -> content
        self.xorbs: dict[str, bytes] = {}
        self.xet_files: dict[str, list[tuple[str, int, int, int]]] = {}  # file hash -> (xorb, bytes, first chunk, last + 1)
        self.xet_of: dict[str, str] = {}  # sha256 -> file hash
        self.lock = threading.RLock()
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), type("BoundHandler", (_Handler,), {"hub": self}))
        self.server.daemon_threads = True
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.server.server_port}"

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()

    def fail(self, method: str, path: str, kind: int | str, **more) -> Fault:
        """Let matching requests fail; see `Fault`."""
        self.faults.append(Fault(method, path, kind, **more))
        return self.faults[-1]

    def heal(self) -> None:
        """No more faults."""
        self.faults.clear()
        self.changed.clear()

    def repository(self, name: str, kind: str = "models") -> Repository:
        return self.repositories[kind, name]

    def put(self, folder: str | Path, name: str, kind: str = "models") -> None:
        """What somebody else has published: the files of a folder."""
        paths = [p for p in Path(folder).rglob("*") if p.is_file()]
        files = {p.relative_to(folder).as_posix(): Stored(p.read_bytes(), p.name.endswith(LARGE)) for p in paths}
        self.repositories[kind, name] = Repository()
        self.repositories[kind, name].commit("main", files, "somebody else's")

    def everything_pushed(self) -> bytes:
        """All that was ever sent here, as one string of bytes: bodies, and the content of chunks."""
        sent = [part for r in self.requests for part in (r.path.encode(), r.body)]
        decoded = [f.content for repo in self.repositories.values() for _, files, _ in repo.commits for f in files.values()]
        return b"\n".join([*sent, *decoded, *self.large.values()])

    # ---- Xet ----------------------------------------------------------------------------------------------------------

    def read_shard(self, shard: bytes) -> None:
        """Learn which chunks make up which files."""
        at = 48
        while shard[at : at + 32] != b"\xff" * 32:
            name, flags, n = _hash_text(shard[at : at + 32]), *struct.unpack_from("<II", shard, at + 32)
            at += 48
            terms = []
            for _ in range(n):
                _, size, first, last = struct.unpack_from("<IIII", shard, at + 32)
                terms.append((_hash_text(shard[at : at + 32]), size, first, last))
                at += 48
            at += 48 * n if flags >> 31 & 1 else 0
            self.xet_files[name] = terms
            if flags >> 30 & 1:
                content = self.xet_content(name)
                sha256 = _hash_text(shard[at : at + 32])
                if hashlib.sha256(content).hexdigest() != sha256:
                    raise Rejected(400, "the sha256 in the shard is not that of the content")
                self.large[sha256], self.xet_of[sha256] = content, name
                at += 48

    def xet_content(self, name: str) -> bytes:
        """A file, put together from its chunks (they must be uncompressed)."""
        parts = []
        for xorb, _, first, last in self.xet_files[name]:
            if xorb not in self.xorbs:
                raise Rejected(400, f"xorb {xorb} was not uploaded")
            for start, end in self.chunks(xorb)[first:last]:
                scheme = self.xorbs[xorb][start + 4]
                if scheme:
                    raise Rejected(400, "set HF_XET_XORB_COMPRESSION_POLICY=none: this Hub does not decompress")
                parts.append(self.xorbs[xorb][start + 8 : end])
        return b"".join(parts)

    def chunks(self, xorb: str) -> list[tuple[int, int]]:
        """Where each chunk of a xorb starts and ends, header included."""
        data, at, found = self.xorbs[xorb], 0, []
        while at + 8 <= len(data) and data[at : at + 7] != b"XETBLOB":
            size = int.from_bytes(data[at + 1 : at + 4], "little")
            found.append((at, at + 8 + size))
            at += 8 + size
        return found


def _hash_text(raw: bytes) -> str:
    return "".join(f"{n:016x}" for n in struct.unpack("<4Q", raw))


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    hub: LoopbackHub

    def log_message(self, *args):
        pass

    def _serve(self) -> None:
        body = self._body()
        url = urlsplit(self.path)
        bearer = re.fullmatch(r"Bearer (.+)", self.headers.get("Authorization", ""))
        token = bearer.group(1) if bearer else None
        self.body, self.query, self.token = body, parse_qs(url.query), token
        with self.hub.lock:
            self.hub.requests.append(Request(self.command, self.path, token, body))
            fault = next((f for f in self.hub.faults if f.hits < f.times and re.search(f.method, self.command)
                          and re.search(f.path, self.path)), None)  # fmt: skip
            if fault:
                fault.hits += 1
        if fault and fault.kind == "cut":
            self.close_connection = True
            self.connection.shutdown(socket.SHUT_RDWR)
            return
        if fault and fault.kind == "slow":
            time.sleep(fault.seconds)
        try:
            if fault and isinstance(fault.kind, int):
                raise Rejected(fault.kind, fault.message, **{"Retry-After": "0"})
            self._check_token(url.path)
            for method, pattern, serve in ROUTES:
                match = re.fullmatch(pattern, url.path)
                if match and self.command in method.split():
                    with self.hub.lock:
                        serve(self, **{k: unquote(v) if v else v for k, v in match.groupdict().items()})
                    return
            raise Rejected(404, f"no such address: {url.path}")
        except Rejected as error:
            self.answer({"error": str(error)}, error.status, **error.headers)

    do_GET = do_HEAD = do_POST = do_PUT = do_DELETE = _serve

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding", "") == "chunked":
            parts = []
            while size := int(self.rfile.readline().split(b";")[0], 16):
                parts.append(self.rfile.read(size))
                self.rfile.readline()
            self.rfile.readline()
            return b"".join(parts)
        return self.rfile.read(int(self.headers.get("Content-Length", 0)))

    def _check_token(self, path: str) -> None:
        storage = re.match(r"/v\d/", path)
        if (storage and self.token != XET_TOKEN) or (not storage and self.token and self.token not in self.hub.tokens):
            raise Rejected(401, "Invalid credentials in Authorization header")

    def answer(self, content, status: int = 200, **headers: str) -> None:
        """Send json, or bytes as they are."""
        data = content if isinstance(content, bytes) else json.dumps(content).encode()
        self.send_response(status)
        headers.setdefault("Content-Type", "application/octet-stream" if isinstance(content, bytes) else "application/json")
        headers.setdefault("Content-Length", str(len(data)))
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    # ---- who may do what ----------------------------------------------------------------------------------------------

    def user(self) -> tuple[str, str] | None:
        return self.hub.tokens.get(self.token or "")

    def repo(self, kind: str, rid: str) -> Repository:
        """To read from."""
        repo, user = self.hub.repositories.get((kind, rid)), self.user()
        if repo is None or (repo.private and (user is None or user[0] != rid.split("/")[0])):
            raise Rejected(404 if user else 401, "Repository not found", "RepoNotFound")
        return repo

    def writable(self, kind: str, rid: str) -> Repository:
        self.may_write(rid.split("/")[0])
        return self.repo(kind, rid)

    def may_write(self, namespace: str) -> None:
        user = self.user()
        if user is None:
            raise Rejected(401, "Invalid username or password.")
        if user[1] != "write" or user[0] != namespace:
            raise Rejected(403, f"You don't have the rights to write to {namespace}")

    def at(self, kind: str, rid: str, revision: str) -> tuple[str, dict[str, Stored]]:
        found = self.repo(kind, rid).files(revision)
        if found is None:
            raise Rejected(404, f"Invalid rev id: {revision}", "RevisionNotFound")
        return found

    def auth_check(self, kind: str, rid: str, write: str | None) -> None:
        self.writable(kind, rid) if write else self.repo(kind, rid)
        self.answer({})

    # ---- repositories -------------------------------------------------------------------------------------------------

    def create(self) -> None:
        wanted = json.loads(self.body)
        user = self.user()
        if user is None:
            raise Rejected(401, "Invalid username or password.")
        kind, rid = wanted.get("type", "model") + "s", f"{wanted.get('organization') or user[0]}/{wanted['name']}"
        self.may_write(rid.split("/")[0])
        url = f"{self.hub.endpoint}/{'datasets/' if kind == 'datasets' else ''}{rid}"
        if (kind, rid) in self.hub.repositories:
            self.answer({"url": url, "error": "You already created this repo"}, 409)
            return
        private = bool(wanted.get("private")) or wanted.get("visibility") == "private"
        repo = self.hub.repositories[kind, rid] = Repository(private)
        repo.commit("main", {".gitattributes": Stored(b"*.safetensors filter=lfs diff=lfs merge=lfs -text\n", False)}, "initial")
        self.answer({"url": url, "name": rid})

    def delete(self) -> None:
        wanted = json.loads(self.body)
        user = self.user()
        rid = f"{wanted.get('organization') or (user or ('',))[0]}/{wanted['name']}"
        self.may_write(rid.split("/")[0])
        self.hub.repositories.pop((wanted.get("type", "model") + "s", rid))
        self.answer({})

    def whoami(self) -> None:
        user = self.user()
        if user is None:
            raise Rejected(401, "Invalid username or password.")
        token = {"displayName": "test", "role": user[1]}
        self.answer({"type": "user", "name": user[0], "fullname": user[0], "orgs": [], "auth": {"accessToken": token}})

    def validate_yaml(self) -> None:
        errors = card_errors(json.loads(self.body)["content"])
        self.answer({"errors": [{"message": e} for e in errors], "warnings": []}, 400 if errors else 200)

    def info(self, kind: str, rid: str, revision: str | None = None) -> None:
        repo = self.repo(kind, rid)
        oid, files = self.at(kind, rid, revision or "main")
        header = card_header(files["README.md"].content.decode()) if "README.md" in files else {}
        siblings = [{"rfilename": p, "size": len(f.content), "blobId": f.git_oid} for p, f in files.items()]
        self.answer({
            "id": rid, "_id": rid, "sha": oid, "private": repo.private, "gated": "auto" if repo.gated else False,
            "disabled": False, "downloads": 0, "likes": 0, "tags": header.get("tags", []), "siblings": siblings,
            "lastModified": "2026-01-01T00:00:00.000Z", "createdAt": "2026-01-01T00:00:00.000Z", "cardData": header,
            "pipeline_tag": header.get("pipeline_tag"), "library_name": header.get("library_name"),
            "model-index": header.get("model-index"), "author": rid.split("/")[0],
        })  # fmt: skip

    def tree(self, kind: str, rid: str, revision: str, path: str | None = None) -> None:
        oid, files = self.at(kind, rid, revision)
        inside = {p: f for p, f in files.items() if not path or p.startswith(path + "/")}
        if path and not inside:
            raise Rejected(404, f"{path} does not exist", "EntryNotFound", **{"X-Repo-Commit": oid})
        recursive, depth = self.query.get("recursive", ["false"])[0].lower() in ("true", "1"), len(path) + 1 if path else 0
        folders = sorted({p[: depth + i] for p in inside for i, c in enumerate(p[depth:]) if c == "/"})
        folders = [p for p in folders if recursive or "/" not in p[depth:]]
        rows = [{"type": "directory", "path": p, "oid": "0" * 40, "size": 0} for p in folders]
        rows += [f.facts(p) for p, f in inside.items() if recursive or "/" not in p[depth:]]
        self.answer(rows)

    def paths_info(self, kind: str, rid: str, revision: str) -> None:
        _, files = self.at(kind, rid, revision)
        if "json" in self.headers.get("Content-Type", ""):
            wanted = json.loads(self.body)["paths"]
        else:
            wanted = parse_qs(self.body.decode()).get("paths", [])
        folders = [{"type": "directory", "path": p, "oid": "0" * 40, "size": 0} for p in wanted
                   if any(f.startswith(p + "/") for f in files)]  # fmt: skip
        self.answer(folders + [files[p].facts(p) for p in wanted if p in files])

    def refs(self, kind: str, rid: str) -> None:
        branches = [{"name": n, "ref": f"refs/heads/{n}", "targetCommit": o} for n, o in self.repo(kind, rid).branches.items()]
        self.answer({"branches": branches, "converts": [], "tags": [], "pullRequests": []})

    def commits(self, kind: str, rid: str, revision: str) -> None:
        self.at(kind, rid, revision)
        history = [{"id": o, "title": m, "message": "", "authors": [], "date": "2026-01-01T00:00:00.000Z"}
                   for o, _, m in reversed(self.repo(kind, rid).commits)]  # fmt: skip
        self.answer(history)

    def branch(self, kind: str, rid: str, name: str) -> None:
        repo = self.writable(kind, rid)
        if name in repo.branches:
            raise Rejected(409, f"Reference already exists: {name}")
        repo.branches[name] = repo.branches["main"]
        self.answer({})

    # ---- writing ------------------------------------------------------------------------------------------------------

    def preupload(self, kind: str, rid: str, revision: str) -> None:
        found = self.writable(kind, rid).files(revision)
        if found is None:
            raise Rejected(404, f"Invalid rev id: {revision}", "RevisionNotFound")
        answers = []
        for f in json.loads(self.body)["files"]:
            large = f["size"] > 0 and (f["path"].endswith(LARGE) or b"\0" in base64.b64decode(f["sample"]) or f["size"] > 10**7)
            known = found[1].get(f["path"])
            oid = (known.sha256 if known.large else known.git_oid) if known else None
            answers.append({"path": f["path"], "uploadMode": "lfs" if large else "regular", "shouldIgnore": False, "oid": oid})
        self.answer({"files": answers})

    def lfs_batch(self, rid: str, prefix: str | None = None) -> None:
        self.writable("datasets" if prefix else "models", rid)
        objects = []
        for o in json.loads(self.body)["objects"]:
            there = o["oid"] in self.hub.large
            upload = {"upload": {"href": f"{self.hub.endpoint}/lfs/{o['oid']}", "header": {}}}
            objects.append({**o, **({} if there else {"actions": upload})})
        self.answer({"transfer": "basic", "objects": objects})

    def lfs_put(self, oid: str) -> None:
        if hashlib.sha256(self.body).hexdigest() != oid:
            raise Rejected(400, "sha256 does not match the content")
        self.hub.large[oid] = self.body
        self.answer(b"")

    def commit(self, kind: str, rid: str, revision: str) -> None:
        repo = self.writable(kind, rid)
        if revision not in repo.branches:
            raise Rejected(404, f"Invalid rev id: {revision}", "RevisionNotFound")
        lines = [json.loads(line) for line in self.body.splitlines() if line.strip()]
        header = next(row["value"] for row in lines if row["key"] == "header")
        if header.get("parentCommit") not in (None, repo.branches[revision]):
            raise Rejected(412, "A commit has happened since. Please refresh and try again.")
        files = dict(repo.files(revision)[1])
        for row in lines:
            value = row["value"]
            path = value.get("path", "")
            if path.startswith("/") or ".." in path.split("/"):
                raise Rejected(400, f"invalid path {path}")
            if row["key"] == "file":
                content = base64.b64decode(value["content"])
                if path == "README.md" and (errors := card_errors(content.decode())):
                    raise Rejected(400, f"Invalid metadata in README.md: {errors[0]}")
                if path.endswith(LARGE) and content:
                    raise Rejected(400, f"{path} must be uploaded as a large file")
                files[path] = Stored(content, False)
            elif row["key"] == "lfsFile":
                if value["oid"] not in self.hub.large:
                    raise Rejected(400, f"the large file {path} was not uploaded")
                content = self.hub.large[value["oid"]]
                if value.get("size", len(content)) != len(content):
                    raise Rejected(400, f"{path} has another size")
                files[path] = Stored(content, True, self.hub.xet_of.get(value["oid"]))
            elif row["key"] == "deletedFile":
                files.pop(path, None)
            elif row["key"] == "deletedFolder":
                files = {p: f for p, f in files.items() if not p.startswith(path.rstrip("/") + "/")}
        files |= {p: Stored(c, files[p].large) for p, c in self.hub.changed.items() if p in files}
        oid = repo.commit(revision, files, header["summary"])
        url = f"{self.hub.endpoint}/{'datasets/' if kind == 'datasets' else ''}{rid}/commit/{oid}"
        self.answer({"success": True, "commitOid": oid, "commitUrl": url, "pullRequestUrl": None})

    # ---- reading ------------------------------------------------------------------------------------------------------

    def resolve(self, rid: str, revision: str, path: str, prefix: str | None = None) -> None:
        kind = "datasets" if prefix else "models"
        if self.repo(kind, rid).gated and self.user() is None:
            raise Rejected(401, "Access to this repository is restricted", "GatedRepo")
        oid, files = self.at(kind, rid, revision)
        headers = {"X-Repo-Commit": oid, "Accept-Ranges": "bytes"}
        if path not in files:
            raise Rejected(404, f"{path} does not exist", "EntryNotFound", **headers)
        file = files[path]
        headers["ETag"] = f'"{file.sha256 if file.large else file.git_oid}"'
        if file.large:
            headers |= {"X-Linked-Etag": headers["ETag"], "X-Linked-Size": str(len(file.content))}
        if file.xet_hash:
            address = f"{self.hub.endpoint}/api/{kind}/{rid}/xet-read-token/{oid}"
            headers |= {"X-Xet-Hash": file.xet_hash, "Link": f'<{address}>; rel="xet-auth"'}
        self._send_range(file.content, headers)

    def _send_range(self, content: bytes, headers: dict[str, str]) -> None:
        wanted = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        if not wanted:
            self.answer(content, **headers)
            return
        start, end = int(wanted.group(1)), min(int(wanted.group(2) or 10**18), len(content) - 1)
        if start >= max(len(content), 1):
            raise Rejected(416, "Range Not Satisfiable", **{"Content-Range": f"bytes */{len(content)}"})
        self.answer(content[start : end + 1], 206, **{**headers, "Content-Range": f"bytes {start}-{end}/{len(content)}"})

    # ---- Xet ----------------------------------------------------------------------------------------------------------

    def xet_token(self, kind: str, rid: str, right: str, revision: str) -> None:
        (self.writable if right == "write" else self.repo)(kind, rid)
        until = int(time.time()) + 3600
        headers = {"X-Xet-Cas-Url": self.hub.endpoint, "X-Xet-Access-Token": XET_TOKEN, "X-Xet-Token-Expiration": str(until)}
        self.answer({"accessToken": XET_TOKEN, "exp": until, "casUrl": self.hub.endpoint}, **headers)

    def put_xorb(self, name: str) -> None:
        new = name not in self.hub.xorbs
        self.hub.xorbs[name] = self.body
        self.answer({"was_inserted": new})

    def put_shard(self) -> None:
        self.hub.read_shard(self.body)
        self.answer({"result": 1})

    def reconstruction(self, name: str) -> None:
        if name not in self.hub.xet_files:
            raise Rejected(404, "no such file")
        terms = self.hub.xet_files[name]
        total = sum(size for _, size, _, _ in terms)
        wanted = re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers.get("Range", ""))
        start, end = (int(wanted.group(1)), min(int(wanted.group(2)), total - 1)) if wanted else (0, total - 1)
        if start >= max(total, 1):
            raise Rejected(416, "Range Not Satisfiable")
        at, used, offset, fetch = 0, [], 0, {}
        for xorb, size, first, last in terms:
            if at <= end and at + size > start:
                offset = start - at if not used else offset
                span = {"start": first, "end": last}
                used.append({"hash": xorb, "unpacked_length": size, "range": span})
                bounds = self.hub.chunks(xorb)[first:last]
                place = {"start": bounds[0][0], "end": bounds[-1][1] - 1}
                entry = {"range": span, "url": f"{self.hub.endpoint}/cas/{xorb}", "url_range": place}
                if entry not in fetch.setdefault(xorb, []):
                    fetch[xorb].append(entry)
            at += size
        self.answer({"offset_into_first_range": offset, "terms": used, "fetch_info": fetch})

    def get_xorb(self, name: str) -> None:
        self._send_range(self.hub.xorbs[name], {"Accept-Ranges": "bytes"})


ROUTES: list[tuple[str, str, Callable]] = [
    ("POST", r"/api/repos/create", _Handler.create),
    ("DELETE", r"/api/repos/delete", _Handler.delete),
    ("GET", r"/api/whoami-v2", _Handler.whoami),
    ("POST", r"/api/validate-yaml", _Handler.validate_yaml),
    ("POST", rf"{API}/preupload/(?P<revision>[^/]+)", _Handler.preupload),
    ("POST", rf"{API}/commit/(?P<revision>[^/]+)", _Handler.commit),
    ("POST", rf"{API}/branch/(?P<name>[^/]+)", _Handler.branch),
    ("POST", rf"{API}/paths-info/(?P<revision>[^/]+)", _Handler.paths_info),
    ("GET", rf"{API}/xet-(?P<right>read|write)-token/(?P<revision>[^/]+)", _Handler.xet_token),
    ("GET", rf"{API}/tree/(?P<revision>[^/]+)(?:/(?P<path>.+))?", _Handler.tree),
    ("GET", rf"{API}/auth-check(?P<write>/write)?", _Handler.auth_check),
    ("GET", rf"{API}/refs", _Handler.refs),
    ("GET", rf"{API}/commits/(?P<revision>[^/]+)", _Handler.commits),
    ("GET", rf"{API}(?:/revision/(?P<revision>[^/]+))?", _Handler.info),
    ("POST", rf"/(?P<prefix>datasets/)?{RID}\.git/info/lfs/objects/batch", _Handler.lfs_batch),
    ("PUT", r"/lfs/(?P<oid>[0-9a-f]{64})", _Handler.lfs_put),
    ("GET HEAD", rf"/(?P<prefix>datasets/)?{RID}/resolve/(?P<revision>[^/]+)/(?P<path>.+)", _Handler.resolve),
    ("POST", r"/v1/xorbs/default/(?P<name>[0-9a-f]{64})", _Handler.put_xorb),
    ("POST", r"/v1/shards", _Handler.put_shard),
    ("GET", r"/v1/reconstructions/(?P<name>[0-9a-f]{64})", _Handler.reconstruction),
    ("GET", r"/cas/(?P<name>[0-9a-f]{64})", _Handler.get_xorb),
]


# ---- cards ----------------------------------------------------------------------------------------------------------


def card_header(card: str) -> dict:
    """The YAML at the top of a card, {} where there is none."""
    match = re.match(r"---\r?\n(.*?)\r?\n---(\r?\n|$)", card, re.S)
    return (yaml.safe_load(match.group(1)) or {}) if match else {}


def card_errors(card: str) -> list[str]:
    """What the Hub would reject in a card."""
    try:
        header = card_header(card)
    except yaml.YAMLError as error:
        return [f"bad YAML: {error}"]
    if not isinstance(header, dict):
        return ["metadata must be a mapping"]
    texts = ("license", "pipeline_tag", "library_name")
    errors = [f'"{k}" must be a string' for k in texts if not isinstance(header.get(k, ""), str)]
    for model in header.get("model-index") or []:
        for result in model.get("results", [{}]):
            places = (("task", "type"), ("dataset", "type"), ("dataset", "name"))
            errors += [f'"model-index" needs {a}.{b}' for a, b in places if not (result.get(a) or {}).get(b)]
            for metric in result.get("metrics") or [{}]:
                errors += [f'"model-index" needs metrics.{k}' for k in ("type", "value") if metric.get(k) in (None, "")]
    return errors
