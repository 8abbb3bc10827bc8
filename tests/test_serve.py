"""The HTTP example: what predict gives, for whoever asks at the same time; refusals; nothing of a learner in the log."""

import http.client
import json
import logging
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from conftest import ROOT, load_recipe
from untrained import untrained

from trainers import essay_scoring, knowledge_tracing, outcome_prediction, question_answering
from trainers.parser import ConfigurationError
from trainers.serving import PredictionService, RequestError

serve = load_recipe("serve")


def running(folder, *more):
    args = serve.ServeArguments(str(folder), port=0, **dict(more))
    server = serve.make_server(args)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server


@pytest.fixture(scope="module")
def server(finished_run):
    own = running(finished_run, ("max_body_kib", 16), ("max_request_rows", 50))
    yield own
    own.shutdown()
    own.service.close()
    own.server_close()


def ask(server, path="/predict", body=None, method="POST", headers=None):
    connection = http.client.HTTPConnection("127.0.0.1", server.server_address[1], timeout=30)
    data = body if body is None or isinstance(body, (bytes, str)) else json.dumps(body)
    connection.request(method, path, data, headers or {})
    answer = connection.getresponse()
    content = json.loads(answer.read())
    connection.close()
    return answer.status, content


def test_requests_at_the_same_time_get_what_predict_gives(server, finished_run, sample):
    test, scorer = sample.splits["test"], essay_scoring.load(finished_run)
    parts = [(test["text"][i : i + 1 + i % 3], test["prompt_id"][i : i + 1 + i % 3]) for i in range(24)]
    wanted = [scorer.predict_columns(*part) for part in parts]
    with ThreadPoolExecutor(12) as pool:
        answers = list(pool.map(lambda p: ask(server, body={"inputs": {"texts": p[0], "prompt_ids": p[1]}}), parts))
    for (status, content), columns in zip(answers, wanted, strict=True):
        assert status == 200 and list(content["outputs"]) == list(columns)
        for name, values in columns.items():
            told = content["outputs"][name]
            if values.dtype.kind == "f":
                assert np.allclose(told, values, atol=2e-4), name
            else:
                assert told == values.tolist()


class Slow:
    """A model that notes what it is asked, and does nothing until it is let go."""

    def __init__(self):
        self.go, self.began, self.asked = threading.Event(), threading.Event(), []

    def predict_columns(self, texts: "Sequence[str]") -> dict:  # noqa: F821
        self.began.set()
        assert self.go.wait(30)
        self.asked.append(len(texts))
        if "bad" in texts:
            raise KeyError("bad")
        return {"length": np.array([float(len(text)) if text else np.nan for text in texts])}


def test_what_waits_goes_through_the_model_together():
    model = Slow()
    service = PredictionService("essay_scoring", model, max_batch_rows=8, max_waiting=30)
    with ThreadPoolExecutor(20) as pool:
        first = pool.submit(service.predict, {"texts": ["x"]})
        assert model.began.wait(30)
        rest = [pool.submit(service.predict, {"texts": ["y" * i]}) for i in range(16)]
        while service._waiting.qsize() < 16:
            time.sleep(0.001)
        model.go.set()
        assert first.result() == {"length": [1.0]}
        assert [f.result()["length"] for f in rest] == [[float(i)] if i else [None] for i in range(16)]
    assert model.asked == [1, 8, 8]
    service.close()


def test_nobody_suffers_for_anothers_request(caplog):
    model = Slow()
    service = PredictionService("essay_scoring", model)
    with ThreadPoolExecutor(8) as pool:
        first = pool.submit(service.predict, {"texts": ["x"]})
        assert model.began.wait(30)
        good, bad = pool.submit(service.predict, {"texts": ["yy"]}), pool.submit(service.predict, {"texts": ["bad"]})
        while service._waiting.qsize() < 2:
            time.sleep(0.001)
        model.go.set()
        assert first.result() and good.result() == {"length": [2.0]}
        with pytest.raises(RequestError, match="cannot read these values"):
            bad.result()
    assert "bad" not in caplog.text.replace("bad request", "")
    service.close()


def test_too_many_requests_are_sent_away_and_late_ones_too():
    model = Slow()
    service = PredictionService("essay_scoring", model, max_waiting=1)
    with ThreadPoolExecutor(4) as pool:
        running = pool.submit(service.predict, {"texts": ["x"]})
        assert model.began.wait(30)
        waiting = pool.submit(service.predict, {"texts": ["y"]})
        while service._waiting.qsize() < 1:
            time.sleep(0.001)
        with pytest.raises(RequestError, match="too many") as error:
            service.predict({"texts": ["z"]})
        assert error.value.status == 503
        model.go.set()
        assert running.result() and waiting.result()
    service.close()
    with pytest.raises(RequestError, match="shutting down"):
        service.predict({"texts": ["x"]})


def test_bad_requests_are_told_what_is_wrong(server, sample):
    text, prompt = sample.splits["test"]["text"][0], sample.splits["test"]["prompt_id"][0]

    def refused(body, status, what, **more):
        found = ask(server, body=body, **more)
        assert found[0] == status and what in found[1]["error"], found
        assert text[:30] not in found[1]["error"]

    refused('{"inputs": ', 400, "no json")
    refused(b"\xff\xfe", 400, "no json")
    refused("[" * 5000, 400, "no json")
    refused({"texts": [text]}, 400, 'expected {"inputs"')
    refused({"inputs": [text]}, 400, "no object")
    refused({"inputs": {"text": [text]}}, 400, "unknown column 'text'; expected texts, prompt_ids")
    refused({"inputs": {"prompt_ids": [prompt]}}, 400, "the column 'texts' is missing")
    refused({"inputs": {"texts": text}}, 400, "'texts' is no list")
    refused({"inputs": {"texts": [3], "prompt_ids": [prompt]}}, 400, "holds something that is no text")
    refused({"inputs": {"texts": [text], "prompt_ids": [prompt, prompt]}}, 400, "differ in length")
    refused({"inputs": {"texts": [text], "prompt_ids": ["unheard of"]}}, 400, "was not trained on prompt 'unheard of'")
    refused({"inputs": {"texts": ["x"] * 51, "prompt_ids": [prompt] * 51}}, 413, "50 rows")
    refused("x" * (17 * 1024), 413, "longer than 16 KiB")
    refused(None, 404, "GET /health", path="/other")
    refused(None, 405, "GET /health", path="/predict", method="GET")
    refused(None, 411, "how long", headers={"Transfer-Encoding": "chunked"})
    assert ask(server, body={"inputs": {"texts": [], "prompt_ids": []}})[0] == 200
    status, told = ask(server, "/health", method="GET")
    assert status == 200 and told["status"] == "ok" and told["task"] == "essay_scoring" and told["needed"] == ["texts"]
    assert prompt in told["prompt_ids"]


def test_a_connection_that_says_nothing_and_garbage_do_no_harm(server, sample):
    silent = socket.create_connection(server.server_address[:2])
    garbage = socket.create_connection(server.server_address[:2])
    garbage.sendall(b"\x00\x01 nothing\r\n\r\n")
    garbage.close()
    test = sample.splits["test"]
    assert ask(server, body={"inputs": {"texts": test["text"][:1], "prompt_ids": test["prompt_id"][:1]}})[0] == 200
    silent.close()


def test_the_log_holds_no_text(server, sample, caplog):
    caplog.set_level(logging.DEBUG)
    test = sample.splits["test"]
    for body in ({"inputs": {"texts": test["text"][:2], "prompt_ids": test["prompt_id"][:2]}}, {"inputs": {"Ada Byron": [1]}}):
        ask(server, body=body)
    ask(server, path="/predict?learner=Ada", body={})
    assert "predicted 2 rows" in caplog.text and "refused: 400" in caplog.text
    assert test["text"][0][:20] not in caplog.text and "Ada" not in caplog.text


def test_models_of_other_recipes_are_served_alike(tiny_model, tmp_path):
    for module in (outcome_prediction, knowledge_tracing, question_answering):
        task = module.__name__.removeprefix("trainers.")
        folder = untrained(task, tmp_path / task, tiny_model)
        own = running(folder)
        model = module.load(folder)
        inputs = module.probe(model)
        status, content = ask(own, body={"inputs": inputs})
        wanted = model.predict_columns(**inputs)
        assert status == 200
        for name, values in wanted.items():
            if np.asarray(values).dtype.kind == "f":
                assert np.allclose(content["outputs"][name], values, atol=1e-5)
            else:
                assert content["outputs"][name] == list(values)
        name = next(iter(inputs))
        assert ask(own, body={"inputs": inputs | {name: [["?"]] * len(inputs[name])}})[0] == 400
        assert ask(own, body={"inputs": inputs})[0] == 200, "one bad request does not end the worker"
        own.shutdown()
        own.service.close()
        own.server_close()


def test_it_listens_to_this_machine_alone_and_ends_when_told(finished_run):
    env = os.environ | {"PYTHONPATH": str(ROOT)}
    process = subprocess.Popen(
        [sys.executable, str(ROOT / "recipes/serve.py"), "--model", str(finished_run), "--port", "0"], stderr=subprocess.PIPE,
        text=True, env=env,
    )  # fmt: skip
    line = next(line for line in process.stderr if "http://" in line)
    assert "essay_scoring at http://127.0.0.1:" in line
    connection = http.client.HTTPConnection("127.0.0.1", int(line.rsplit(":", 1)[1]), timeout=30)
    connection.request("GET", "/health")
    assert connection.getresponse().status == 200
    process.send_signal(signal.SIGTERM)
    assert process.wait(30) == 0
    process.stderr.close()


def test_a_port_in_use_and_bad_limits_are_told(server, finished_run):
    with pytest.raises(ConfigurationError, match="cannot listen .* Try another --port"):
        serve.make_server(serve.ServeArguments(str(finished_run), port=server.server_address[1]))
    with pytest.raises(ConfigurationError, match="--max_waiting must be 1 or more"):
        serve.main(["--model", str(finished_run), "--max_waiting", "0"])
