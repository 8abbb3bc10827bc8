"""Folders of models as the recipes leave them, without the training: for tests of what is done with a model."""

from dataclasses import asdict
from pathlib import Path

import torch
from transformers import AutoModelForQuestionAnswering, AutoTokenizer, BertModel

from trainers.answering_settings import AnsweringSettings
from trainers.artifact import new_artifact
from trainers.knowledge_tracing import new_tracer
from trainers.outcome_prediction import new_record_transformer
from trainers.recommendation_settings import RecommendationSettings
from trainers.record_settings import RecordSettings
from trainers.tracing_settings import TracingSettings


def untrained(task: str, folder: Path, tiny_model: str, **options) -> Path:
    """A model of `task` with random weights in `folder`; `options` are those of its own architecture."""
    torch.manual_seed(0)
    tokenizer = None
    if task == "question_answering":
        model, settings = AutoModelForQuestionAnswering.from_pretrained(tiny_model), AnsweringSettings(192, 64)
        tokenizer = AutoTokenizer.from_pretrained(tiny_model)
    elif task == "resource_recommendation":
        model, settings = BertModel.from_pretrained(tiny_model), RecommendationSettings()
        tokenizer = AutoTokenizer.from_pretrained(tiny_model)
    elif task == "outcome_prediction":
        settings = RecordSettings(
            "binary", ["passed", "failed"], ["quiz", "absences"], ["support"], [["no", "yes"]], {}, [60.0, 3.0], ["no"],
            class_weights=[1.0, 1.0], bias=[0.0, 0.0], positive=1,
        )  # fmt: skip
        model = new_record_transformer(settings, [[0.0, 50.0, 100.0], [0.0, 5.0]], hidden_size=16, num_members=2, **options)
    else:
        settings = TracingSettings(["sums", "halves", "thirds"], ["q1", "q2"], concepts_per_step=2, spread=[(0, 1.0)])
        model = new_tracer(settings, hidden_size=16, num_members=2, **options)
    model.save_pretrained(folder)
    if tokenizer is not None:
        tokenizer.save_pretrained(folder)
    new_artifact(task, asdict(settings), None).save(folder)
    return folder
