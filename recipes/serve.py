"""Serve a trained model over HTTP: a small example, with nothing but the standard library. Which recipe it is, the model knows.

    python recipes/serve.py --model runs/essay_scoring --port 8000

    curl localhost:8000/health
    curl localhost:8000/predict -H 'Content-Type: application/json' -d '{"inputs": {"texts": ["Dear Ms Okafor, ..."]}}'

POST /predict takes {"inputs": {column: [values]}}, the columns that the model's `predict_columns` takes (GET /health names
them), and gives {"outputs": {column: [values]}}, those that predict.py writes. Requests that come while the model is at work go
through it together where a row in is a row out (essays, outcomes, question answering). What cannot be read is answered with 400
and {"error": message}, a body that is too long with 413, and where too many requests wait with 503.

It answers this machine alone (--host), has no password and no encryption: before it faces a network, put a proxy that has both in
front of it. The log has times and sizes, never a text or an id.
"""

import importlib
import json
import logging
import re
import signal
import threading
import time
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from trainers.artifact import load_artifact
from trainers.checkpoints import find_checkpoint
from trainers.parser import ConfigurationError, RecipeParser, run
from trainers.serving import PredictionService, RequestError

PATHS = ("/health", "/predict")
DRAINED = 4  # times the limit: so much of a request that is too long is read and thrown away
GRACE_SECONDS = 5  # for answers that are being sent when the server ends
logger = logging.getLogger("serve")


@dataclass
class ServeArguments:
    """What is served, and to whom."""

    _argument_group_name = "serving"

    model: str = field(metadata={"help": "folder of a trained recipe, or a Hub id"})
    host: str = field(default="127.0.0.1", metadata={"help": "address to listen at; 0.0.0.0 is every network"})
    port: int = field(default=8000, metadata={"help": "port; 0 takes a free one"})
    max_body_kib: int = field(default=1024, metadata={"help": "size of a request at most, in KiB"})
    max_request_rows: int = field(default=1024, metadata={"help": "rows of a request at most"})
    max_batch_rows: int = field(default=64, metadata={"help": "rows that go through the model together"})
    max_waiting: int = field(default=256, metadata={"help": "requests that may wait"})
    timeout_seconds: int = field(default=60, metadata={"help": "the longest a request may take to be read, and to be answered"})
    model_revision: str = field(default="main", metadata={"help": "branch, tag or commit on the Hub"})
    trust_remote_code: bool = field(default=False, metadata={"help": "run code that the model's repository brings"})

    def __post_init__(self):
        for name in ("max_body_kib", "max_request_rows", "max_batch_rows", "max_waiting", "timeout_seconds"):
            if getattr(self, name) < 1:
                raise ConfigurationError(f"--{name} must be 1 or more.")


class Server(ThreadingHTTPServer):
    """Holds the service that its handlers ask, and their limits."""

    daemon_threads = True
    request_queue_size = 128

    def __init__(self, args: ServeArguments, service: PredictionService):
        self.args, self.service = args, service
        self.answering: set[Handler] = set()
        try:
            super().__init__((args.host, args.port), Handler)
        except OSError as error:
            where = f"{args.host}:{args.port}"
            raise ConfigurationError(f"cannot listen at {where}: {error.strerror}. Try another --port.") from error

    def handle_error(self, request: Any, client_address: Any) -> None:
        logger.warning("a connection broke off")  # the standard one would print a traceback, and who it was


class Handler(BaseHTTPRequestHandler):
    """One connection."""

    protocol_version, server_version, sys_version = "HTTP/1.1", "edu-recipes", ""

    def setup(self) -> None:
        self.timeout = self.server.args.timeout_seconds  # of the socket: nobody holds a thread by sending nothing
        super().setup()

    def do_GET(self) -> None:
        """/health: whether it is up, and what can be asked."""
        if self.path == "/health":
            self.answer(200, {"status": "ok", **self.server.service.describe()})
        else:
            self.refuse(RequestError("there is GET /health and POST /predict.", 405 if self.path in PATHS else 404))

    def do_POST(self) -> None:
        """/predict."""
        self.server.answering.add(self)
        try:
            self.predict()
        finally:
            self.server.answering.discard(self)

    def predict(self) -> None:
        """Read, predict, answer."""
        start = time.perf_counter()
        try:
            content = self.body()
            if self.path != "/predict":
                raise RequestError("there is GET /health and POST /predict.", 405 if self.path in PATHS else 404)
            try:
                request = json.loads(content, parse_constant=lambda name: None)  # NaN is a number that is missing
            except (ValueError, RecursionError) as error:
                raise RequestError("the request is no json.") from error
            if not isinstance(request, dict) or set(request) != {"inputs"}:
                raise RequestError('expected {"inputs": {"column": [values, ...]}}.')
            outputs = self.server.service.predict(request["inputs"], self.server.args.timeout_seconds)
        except RequestError as error:
            self.refuse(error)
        else:
            rows = max(map(len, outputs.values()), default=0)
            self.answer(200, {"outputs": outputs})
            logger.info("predicted %d rows in %.0f ms", rows, 1000 * (time.perf_counter() - start))

    def body(self) -> bytes:
        """What the request holds."""
        told, most = self.headers.get("Content-Length", ""), 1024 * self.server.args.max_body_kib
        if not re.fullmatch("[0-9]{1,15}", told):
            raise RequestError("the request does not say how long it is (Content-Length).", 411)
        length = int(told)
        try:
            if length > most:  # who is still sending does not hear the answer
                for _ in range(0, min(length, DRAINED * most), most):
                    self.rfile.read(min(length, most))
                    length -= most
                raise RequestError(f"the request is longer than {self.server.args.max_body_kib} KiB; send several.", 413)
            return self.rfile.read(length)
        except TimeoutError:
            raise RequestError("the request did not come to its end.", 408) from None

    def refuse(self, error: RequestError) -> None:
        """One message; the rest of the request is not read, so the connection ends."""
        self.close_connection = True
        self.answer(error.status, {"error": str(error)})
        logger.info("refused: %d", error.status)

    def answer(self, status: int, content: dict) -> None:
        """Send json."""
        data = json.dumps(content, ensure_ascii=False, allow_nan=False).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json; charset=utf-8")
        self.send_header("Content-Length", str(len(data)))
        if self.close_connection:
            self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *args: Any) -> None:
        """Nothing: a path may hold anything. What is logged is logged above."""


def make_server(args: ServeArguments) -> Server:
    """Load the model and listen; `serve_forever` answers."""
    task = load_artifact(find_checkpoint(args.model, args.model_revision)).task
    model = importlib.import_module(f"trainers.{task}").load(args.model, args.model_revision, args.trust_remote_code)
    service = PredictionService(task, model, args.max_batch_rows, args.max_request_rows, args.max_waiting)
    return Server(args, service)


def main(argv: list[str] | None = None) -> None:
    """Serve until SIGINT or SIGTERM; what has been asked by then is answered."""
    (args,) = RecipeParser((ServeArguments,), description=__doc__).parse(argv)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    server = make_server(args)
    if threading.current_thread() is threading.main_thread():
        for number in (signal.SIGINT, signal.SIGTERM):  # shutdown waits for the loop, which this thread runs
            signal.signal(number, lambda *_: threading.Thread(target=server.shutdown).start())
    logger.info("%s at http://%s:%d", server.service.task, *server.server_address[:2])
    try:
        server.serve_forever()
    finally:
        server.service.close()
        end = time.monotonic() + GRACE_SECONDS
        while server.answering and time.monotonic() < end:  # answers are on their way
            time.sleep(0.01)
        server.server_close()


if __name__ == "__main__":
    run(main)
