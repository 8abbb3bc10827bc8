"""Publish a trained model on the Hub: the folder that a recipe wrote, in one commit.

    python recipes/publish.py --model runs/essay_scoring --hub_model_id teacher/essay-scorer

It uploads the model, its tokenizer, calibration, metrics, figures and card; never predictions.csv, options.yaml or anything
else that knows the training data. A recipe run with --push_to_hub does the same at its end; this command finishes what a bad
network stopped, and sends only what the Hub does not have yet. The token is that of `hf auth login`, or HF_TOKEN.
--verify_push then loads the model in a fresh process with an empty cache, lets it predict some inputs of our own, and fails if
it predicts otherwise than the folder here.
"""

import importlib
import json
import logging
from dataclasses import dataclass, field
from pathlib import Path

from trainers.artifact import FILE_NAME
from trainers.hub import publish, verify
from trainers.parser import RecipeParser, run


@dataclass
class PublishArguments:
    """What to publish, and where."""

    _argument_group_name = "publishing"

    model: str = field(metadata={"help": "folder of a trained recipe"})
    hub_model_id: str = field(metadata={"help": "user/name; a name alone is in the token's own account"})
    hub_private_repo: bool = field(default=False, metadata={"help": "make a new repository private"})
    hub_token: str | None = field(default=None, metadata={"help": "token with write access, if not the one of this machine"})
    verify_push: bool = field(default=False, metadata={"help": "load what was pushed in a fresh process and compare"})


def main(argv: list[str] | None = None) -> str:
    """Publish the folder. Returns the address of the commit; raises on error."""
    (args,) = RecipeParser((PublishArguments,), description=__doc__).parse(argv)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    commit = publish(args.model, args.hub_model_id, args.hub_token, args.hub_private_repo or None)
    logging.info("published: %s", commit.commit_url)
    if args.verify_push:
        task = json.loads((Path(args.model) / FILE_NAME).read_text(encoding="utf-8"))["task"]
        module = importlib.import_module(f"trainers.{task}")  # brings torch, which publishing itself does not need
        model = module.load(args.model)
        verify(commit, model, task, module.probe(model), args.hub_token)
    return commit.commit_url


if __name__ == "__main__":
    run(main)
