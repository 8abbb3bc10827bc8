"""Learning paths: the Trainer of the policy, its report, and the advisor that anyone loads."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from datasets import DatasetDict
from torch import nn
from transformers import AutoConfig, AutoModel, PreTrainedTokenizerBase

from . import path_report, report
from .adapters import find_base, load_merged
from .arguments import DataArguments, ModelArguments, RecipeTrainingArguments
from .artifact import load_artifact
from .base import EduTrainer
from .baselines.learning_path import path_baselines
from .checkpoints import Checkpoint, find_checkpoint, load_own, load_tokenizer
from .models.path_transformer import PathTransformer, PathTransformerConfig
from .models.prerequisite_encoder import PrerequisiteEncoder
from .parser import ConfigurationError
from .path_evaluation import check_apart, choose_masks, judge, summarize
from .path_policy import PathPolicy
from .path_settings import Cohort, PathCollator, PathSettings, encode
from .prerequisites import (
    PREREQUISITE_FOLDER,
    KnownPrerequisites,
    PairCollator,
    PrerequisiteTrainer,
    new_prerequisite_encoder,
    prerequisite_logits,
)
from .simulators import play

OURS, STRICT, REACHABLE_ALONE = "sequence policy", "sequence policy, no exceptions", "sequence policy, reachable mask alone"

AutoConfig.register(PathTransformerConfig.model_type, PathTransformerConfig, exist_ok=True)
AutoModel.register(PathTransformerConfig, PathTransformer, exist_ok=True)


def new_path_transformer(settings: PathSettings, **options: Any) -> PathTransformer:
    """A policy with random weights for these concepts.

    Args:
        settings: What it reads.
        options: See `PathTransformerConfig`.
    """
    PathTransformerConfig.register_for_auto_class()
    PathTransformer.register_for_auto_class("AutoModel")  # the file goes with the weights, for a stranger
    return PathTransformer(PathTransformerConfig(len(settings.concepts), steps=settings.steps, **options))


class PathTrainer(EduTrainer):
    """Trains the policy on logs of random play: what came of each move, the next answer, and the moves given the return.

    Args:
        settings: What the policy reads; gets the masks that are chosen after training.
        splits: train and validation (chooses the checkpoint), with the columns of `path_settings.LOGS`.
        choosing: Cohorts on which the masks are chosen.
        judging: Cohorts on which the policy is judged, once.
        most_violations: Share of moves to a concept whose prerequisites are not mastered that is accepted.
        kwargs: As for `EduTrainer`.

    Raises:
        ConfigurationError: Learners who are judged stand in the logs, or among those the masks are chosen on.
    """

    checkpoint = None  # nothing was pretrained

    def __init__(
        self, *, settings: PathSettings, splits: DatasetDict, choosing: Sequence[Cohort], judging: Sequence[Cohort],
        most_violations: float = 0.02, **kwargs,
    ):  # fmt: skip
        if len(judging) < 2:
            raise ConfigurationError(f"--judge_seeds is {len(judging)}; expected 2 or more, or there is no interval.")
        if not 0 <= most_violations < 1:
            raise ConfigurationError(f"--most_violations is {most_violations}; expected a share, 0 to below 1.")
        metric = (kwargs["args"].metric_for_best_model or "loss").removeprefix("eval_")
        if metric != "loss":
            raise ConfigurationError(f"--metric_for_best_model is {metric!r}; expected loss: paths are judged after training.")
        kwargs["args"].metric_for_best_model, kwargs["args"].greater_is_better = "loss", False
        kwargs["args"].label_names = ["moves"]
        self.logged = sorted({label for rows in splits.values() for label in rows["cohort"]} | {c.label for c in choosing})
        check_apart(self.logged, [cohort.label for cohort in judging])
        self.settings, self.choosing, self.judging, self.most_violations = settings, choosing, judging, most_violations
        self.logs = DatasetDict(
            {
                split: rows.map(encode, batched=True, with_indices=True, fn_kwargs={"settings": settings}).with_format("numpy")
                for split, rows in splits.items()
            }
        )
        super().__init__(
            train_dataset=self.logs["train"], eval_dataset=self.logs["validation"], data_collator=PathCollator(settings), **kwargs
        )

    def loss_terms(self, model, inputs):
        moves = inputs["moves"]
        names = ("concepts", "correct", "counts", "mastery", "steps_left", "moves", "goals", "returns")
        outputs = model(**{name: inputs[name] for name in names})
        binary = nn.functional.binary_cross_entropy_with_logits
        exam = inputs["exam_answers"][:, None].expand_as(outputs.exam)
        losses = binary(outputs.exam.float(), exam, reduction="none").mean(-1)
        losses = losses + binary(outputs.answer.float(), inputs["next_correct"], reduction="none")
        could = inputs["reachable"].scatter(-1, moves[..., None], True)  # what was done could be done
        choices = outputs.logits.float().masked_fill(~could[:, :, None], -1e9).log_softmax(-1).mean(2)  # over the goal sets
        losses = losses - choices.gather(-1, moves[..., None])[..., 0]
        came = PathTransformer.shares(inputs["returns"], outputs.returns.shape[-1])[:, None]
        losses = losses - (came * outputs.returns.float().log_softmax(-1)).sum(-1).mean(-1)
        return losses.sum(), self.count_items(inputs), outputs

    def count_items(self, inputs):
        return torch.tensor(inputs["moves"].numel(), device=inputs["moves"].device)

    # ---- after training -----------------------------------------------------------------------------------------------

    def policy(self, **options: Any) -> PathPolicy:
        """The trained policy; options as for `PathPolicy`."""
        return PathPolicy(self.model.eval(), self.settings, **options)

    def score_beside_baselines(self) -> dict[str, Any]:
        """Choose decode and masks on cohorts of their own, then let every policy teach the judged cohorts once.

        Returns:
            "system"; "test", "baselines" and "ablation": ep (promotion, 1 where all goals are mastered), waste and violations
            (shares of moves); "intervals" of ep, paired by cohort; "seeds": ep of each cohort; "masks": what was tried;
            "chosen": the masks of each decode, the one that was taken first.
        """
        masks, chosen = choose_masks(self.model.eval(), self.settings, self.choosing, self.most_violations)
        _, other = chosen
        ours, otherwise = self.policy(), PathPolicy(self.model, replace(self.settings, **other))
        decoded = decoded_by(other["decode"])
        systems = path_baselines(self.settings) | {OURS: lambda _: ours, decoded: lambda _: otherwise}
        if self.settings.edges:
            strict = replace(self.settings, exception_at=None)
            blind = self.policy(heed_prerequisites=False)
            systems |= {STRICT: lambda _: PathPolicy(self.model, strict), REACHABLE_ALONE: lambda _: blind}
        table = judge(systems, self.judging, self.settings.steps)
        means, intervals = summarize(table, OURS)
        return {
            "system": OURS, "test": means.pop(OURS),
            "ablation": {name: means.pop(name) for name in (decoded, STRICT, REACHABLE_ALONE) if name in means},
            "baselines": means, "intervals": intervals, "masks": masks, "chosen": chosen,
            "seeds": {name: rows["ep"].round(4).tolist() for name, rows in table.items()},
        }  # fmt: skip

    def save_run(self, results: dict[str, Any], facts: dict[str, Any], prerequisites: dict[str, Any] | None) -> dict[str, Any]:
        """Save the policy with all it needs and write the report; the content of metrics.json is returned.

        Args:
            results: See `score_beside_baselines`.
            facts: What the report says beside: options, cost, data (`PathDataset.facts`), search.
            prerequisites: What `PrerequisiteTrainer.score_beside_baselines` told; None where no such model was trained.
        """
        output, settings = Path(self.args.output_dir), self.settings
        protocol = {"dataset": facts["dataset_name"], "split": facts["split_protocol"], "rows": facts["rows"]}
        protocol |= {name: facts[name] for name in ("warnings", "circles")}
        protocol |= {"seed": self.args.seed, "simulator": settings.simulator}
        protocol |= {"logged": f"{len(self.logs['train'])} learners at random play", "steps": settings.steps}
        protocol |= {"judged": f"{len(self.judging)} cohorts of {self.judging[0].learners} other learners, paired"}
        protocol |= {"mastery": "estimated from answers by Best-LR", "most_violations": self.most_violations}
        protocol |= {"decode": settings.decode}
        studies = {k: facts[k] for k in ("search",) if k in facts}
        metrics = {**results, **({"prerequisites": prerequisites} if prerequisites else {})}
        metrics |= {"cost": self.whole_cost(facts["cost"]), "protocol": protocol, **studies}
        if not self.is_world_process_zero():
            return metrics
        columns = self._example_paths(output / "figures" / "path.png")
        facts = self.save_results("learning_path", asdict(settings), metrics, columns, facts)
        path_report.draw_promotion(output / "figures" / "promotion.png", results)
        if prerequisites:
            path_report.draw_pairs(output / "figures" / "prerequisites.png", prerequisites)
        shown = {"results": {k: metrics[k] for k in (*results, "prerequisites") if k in metrics}, "protocol": protocol}
        path_report.write_path_card(output, {**facts, **shown, "settings": settings, "pairs_base": self._base_of_pairs()})
        self.remove_checkpoints_when_done()
        path_report.print_tables(shown["results"])
        print(f"\nSaved in {self.args.output_dir}")
        return metrics

    def _example_paths(self, figure: Path) -> dict[str, Sequence]:
        """The paths of some judged learners, a row a move, and a drawing of one."""
        settings, cohort = self.settings, self.judging[0]
        with cohort.simulator.sealed():
            seen, _ = play(cohort.simulator, self.policy(), min(cohort.learners, 50), settings.steps, cohort.seed)
        (asked, moves), (_, said) = (np.split(v, [-settings.steps], axis=1) for v in (seen.concepts, seen.correct))
        drawn = int(np.abs(seen.goals.sum(1) - np.median(seen.goals.sum(1))).argmin())
        mastery = settings.estimator.now(asked, seen.correct[:, : asked.shape[1]])[drawn]
        path_report.draw_path(figure, settings, moves[drawn], np.flatnonzero(seen.goals[drawn]), mastery)
        learner, step = np.indices(moves.shape)
        names = [settings.concepts[c] for c in moves.ravel()]
        return {"learner": learner.ravel(), "step": step.ravel() + 1, "concept": names, "correct": said.ravel()}

    def _base_of_pairs(self) -> str:
        """What the prerequisite model was fine-tuned from; '' where there is none."""
        if not self.settings.pairs:
            return ""
        artifact = load_artifact(find_checkpoint(str(Path(self.args.output_dir) / PREREQUISITE_FOLDER)))
        return Checkpoint(artifact.base_model["name"], "").title()


def decoded_by(decode: str) -> str:
    """What the policy is called where it is decoded otherwise than was chosen."""
    return f"{OURS}, decoded by {decode}"


def publish(trainer: PathTrainer | PrerequisiteTrainer) -> None:
    """`publish_run` with learners and pairs of nobody."""
    trainer.publish_run(load, "learning_path", probe_inputs(trainer.settings))


def check_options(data_args: DataArguments, training_args: RecipeTrainingArguments) -> None:
    """Refuse shared options that mean nothing here.

    Raises:
        ConfigurationError: One of them was given.
    """
    if training_args.cv_folds:
        raise ConfigurationError("--cv_folds: paths are judged in paired plays, and pairs of concepts on --fold 0 to 4.")
    if data_args.validation_file or data_args.test_file:
        raise ConfigurationError("learners with answers are cut into halves: name one file with all answers, --train_file.")
    if data_args.max_train_samples is not None and data_args.max_train_samples < 1:
        raise ConfigurationError(f"--max_train_samples is {data_args.max_train_samples}; expected a whole number from 1 on.")


def print_check(summary: str, rejected: Sequence[tuple], pair_trainer: PrerequisiteTrainer | None) -> dict:
    """What `--check_data` prints: counts, rows left out, the cost of the first training. Trains nothing."""
    check = {"prerequisite model": pair_trainer.estimate_cost()} if pair_trainer else {}
    return report.print_check(summary, rejected, check)


# ---- the advisor that anyone loads ----------------------------------------------------------------------------------


class UnreachableGoal(ConfigurationError):
    """No path leads this learner to a goal: something on every way is to be skipped."""


@dataclass
class PathAdvisor:
    """A trained policy and prerequisite model, or one of them.

    Attributes:
        settings: Saved with them.
        policy: None where a prerequisite model alone was trained.
        encoder, tokenizer: The prerequisite model; None where none was trained.
    """

    settings: PathSettings
    policy: PathPolicy | None = None
    encoder: PrerequisiteEncoder | None = None
    tokenizer: PreTrainedTokenizerBase | None = None

    def numbers(self, names: Sequence[str], what: str = "concept") -> list[int]:
        """The numbers of concepts.

        Raises:
            ConfigurationError: The model does not know one of them.
        """
        known = {name: i for i, name in enumerate(self.settings.concepts)}
        if unknown := [name for name in names if name not in known]:
            close = difflib.get_close_matches(unknown[0], known, n=1)
            hint = f" Did you mean '{close[0]}'?" if close else ""
            raise ConfigurationError(f"the model knows no {what} {unknown[0]!r:.60}: it has {len(known)} concepts.{hint}")
        return [known[name] for name in names]

    def mastery(self, concepts: Sequence[int], correct: Sequence[int]) -> np.ndarray:
        """Estimated mastery of one learner, float array (concepts,), 0 to 1, from answers with the oldest first."""
        answers = (np.array([v], np.int64).reshape(1, -1) for v in (concepts, correct))
        return self.settings.estimator.now(*answers)[0]

    def path(
        self, concepts: Sequence[int], correct: Sequence[int], goals: Sequence[int], mastery: np.ndarray | None = None,
        skip: Sequence[int] = (), steps: int | None = None,
    ) -> list[dict[str, Any]]:  # fmt: skip
        """An ordered path for one learner, as if every answer on it were right; with new answers, ask again.

        Args:
            concepts: The learner's answers so far, numbers of concepts, the oldest first; may be empty.
            correct: 0 or 1 of each.
            goals: Numbers of concepts.
            mastery: Float array (concepts,), what somebody else has told, nan where nothing; it takes the place of the estimate.
            skip: Concepts that are not to be on the path.
            steps: Questions at most; as in training where not given.

        Returns:
            Concepts in order, those asked several times in a row once: concept (number), questions, mastery (estimated before,
            0 to 1), met (whether its prerequisites are), weakest (its least mastered prerequisite, -1 where it has none), chain
            (numbers, to a goal that is not mastered). It ends when all goals are estimated as mastered.

        Raises:
            UnreachableGoal: A goal needs what is skipped and is not mastered.
            ConfigurationError: No goal, no policy, or a goal that nobody can reach.
        """
        settings, rules = self.settings, self.settings.rules
        if self.policy is None:
            raise ConfigurationError("this model tells prerequisites alone: no policy was trained with it.")
        if not goals:
            raise ConfigurationError("a path needs a goal.")
        steps = settings.steps if steps is None else steps
        asked, said = np.array([concepts], np.int64).reshape(1, -1), np.array([correct], np.int64).reshape(1, -1)
        wanted = np.zeros((1, len(settings.concepts)), bool)
        wanted[0, list(goals)] = True
        open_to = np.ones_like(wanted)
        open_to[0, list(skip)] = False
        told = np.zeros(len(settings.concepts))
        first = settings.estimator.now(asked, said)[0]
        if mastery is not None:
            told = np.where(np.isnan(mastery), 0.0, _log_odds(np.nan_to_num(mastery, nan=0.5)) - _log_odds(first))
        self._check_skipped(goals, skip, _chance(_log_odds(first) + told))
        done: list[dict[str, Any]] = []
        for left in range(steps, 0, -1):
            along = _chance(_log_odds(settings.estimator.along(asked, said)[:, len(concepts) :]) + told)
            now = along[0, -1]
            missing = wanted & (now < settings.met_at)
            if not missing.any():
                break
            reachable = rules.reachable(rules.places(asked)[:, -1]) & open_to
            if not reachable.any():
                break
            worth = self.policy.worth(asked, said, along, missing, left)
            move = int(self.policy.choose(worth, reachable, along[:, -1])[0])
            if done and done[-1]["concept"] == move:
                done[-1]["questions"] += 1
            else:
                done.append({"concept": move, "questions": 1, "mastery": float(now[move]), **self._reason(move, missing[0], now)})
            asked, said = np.append(asked, [[move]], axis=1), np.append(said, [[1]], axis=1)
        return done

    def _reason(self, move: int, goals: np.ndarray, mastery: np.ndarray) -> dict[str, Any]:
        rules = self.settings.rules
        before = np.flatnonzero(rules.before[move])
        weakest = int(before[mastery[before].argmin()]) if len(before) else -1
        chains = [chain for goal in np.flatnonzero(goals) if (chain := rules.chain(move, int(goal)))]
        met = weakest < 0 or bool(mastery[weakest] >= self.settings.met_at)
        return {"met": met, "weakest": weakest, "chain": min(chains, key=len) if chains else []}

    def _check_skipped(self, goals: Sequence[int], skip: Sequence[int], mastery: np.ndarray) -> None:
        names, skipped = self.settings.concepts, set(skip)
        for goal in goals:
            if goal in skipped:
                raise ConfigurationError(f"'{names[goal]}' is a goal and is to be skipped; decide for one of them.")
            if goal not in self.settings.offered:
                raise ConfigurationError(f"the goal '{names[goal]}' cannot be reached: nobody answered it in training.")
            if lacking := sorted(self._still_needed(goal, mastery) & skipped):
                raise UnreachableGoal(
                    f"the goal '{names[goal]}' cannot be reached: it needs '{names[lacking[0]]}', which is to be skipped and is "
                    f"not mastered (estimated {mastery[lacking[0]]:.2f}). If it is, say so with --mastered."
                )

    def _still_needed(self, goal: int, mastery: np.ndarray) -> set[int]:
        """The goal and what comes before it; nothing beyond a concept that is mastered, which needs nothing any more."""
        found: set[int] = set()
        line = [goal]
        for concept in line:
            if concept not in found and mastery[concept] < self.settings.met_at:
                found.add(concept)
                line += np.flatnonzero(self.settings.rules.before[concept]).tolist()
        return found

    def explain(self, step: Mapping[str, Any]) -> str:
        """Why a concept stands on a path, in a sentence; `step` as `path` gives it."""
        names, chain = self.settings.concepts, step["chain"]
        if len(chain) == 1:
            why = "a goal"
        elif chain:
            why = "needed: " + " -> ".join(names[c] for c in chain)
        else:
            why = "practised beside the goals"
        if step["weakest"] < 0:
            return why + "; needs nothing before it" if self.settings.edges else why
        if step["met"]:
            return why + "; what it needs is mastered"
        return why + f"; an exception: '{names[step['weakest']]}' before it is not mastered yet"

    def prerequisite_probability(self, before: Sequence[str], after: Sequence[str]) -> np.ndarray:
        """How likely each of `before` is a prerequisite of its partner in `after`.

        Args:
            before, after: Ids of concepts the model knows, or any texts.

        Returns:
            Float array (pairs,), 0 to 1; among pairs half of which are prerequisites, as in training.

        Raises:
            ConfigurationError: No prerequisite model was trained, or a text is empty.
        """
        if self.encoder is None:
            raise ConfigurationError("this model chooses paths alone: no prerequisite model was trained with it.")
        if any(not str(text).strip() for text in (*before, *after)):
            raise ConfigurationError("a concept has no text.")
        number = {name: i for i, name in enumerate(self.settings.concepts)}
        names = list(dict.fromkeys([*before, *after]))
        places = np.array([number.get(name, -1) for name in names], np.int64)
        texts = [name if place < 0 else self.settings.texts[place] for name, place in zip(names, places, strict=True)]
        row = {name: i for i, name in enumerate(names)}
        pairs = np.array([[row[a], row[b]] for a, b in zip(before, after, strict=True)], np.int64).reshape(-1, 2)
        collate = PairCollator(self.tokenizer, texts, self.settings.pairs["max_length"])
        known = KnownPrerequisites(len(number), self.settings.pairs["edges"])
        return _chance(prerequisite_logits(self.encoder, collate, known, pairs, places)[:, 0])

    def predict_columns(
        self, concepts: Sequence[Sequence[str]] = (), correct: Sequence[Sequence[int]] = (), goals: Sequence[Sequence[str]] = (),
        before: Sequence[str] = (), after: Sequence[str] = (),
    ) -> dict[str, Sequence]:  # fmt: skip
        """Paths of several learners, a row a step, or probabilities of pairs, or both one after the other.

        Args:
            concepts: The concepts of each learner's answers, by name.
            correct: 0 or 1 of each.
            goals: Each learner's goals, by name.
            before, after: Pairs for the prerequisite model.

        Returns:
            Of paths: learner (number from 0), step (from 1), concept, questions, mastery, reason. Of pairs: probability.
        """
        columns: dict[str, list] = {}
        if self.policy is not None:
            columns = {name: [] for name in ("learner", "step", "concept", "questions", "mastery", "reason")}
            for i, (asked, said, wanted) in enumerate(zip(concepts, correct, goals, strict=True)):
                for number, step in enumerate(self.path(self.numbers(asked), said, self.numbers(wanted, "goal")), start=1):
                    row = (i, number, self.settings.concepts[step["concept"]], step["questions"], round(step["mastery"], 4))
                    for name, value in zip(columns, (*row, self.explain(step)), strict=True):
                        columns[name].append(value)
        if self.encoder is not None:
            columns["probability"] = self.prerequisite_probability(before, after).round(6).tolist()
        return columns


def load(name: str | Path, revision: str = "main", trust_remote_code: bool = False) -> PathAdvisor:
    """Load what a run of learning paths left: a folder or a Hub id. No code of the folder is run.

    Raises:
        ConfigurationError: It is no such run, or cannot be loaded.
    """
    checkpoint = find_checkpoint(str(name), revision)
    artifact = load_artifact(checkpoint, "learning_path")
    device = "cuda" if torch.cuda.is_available() else "cpu"
    settings = artifact.read_settings(PathSettings)
    advisor = PathAdvisor(settings)
    if settings.simulator:
        advisor.policy = PathPolicy(load_own(PathTransformer, checkpoint).to(device), settings)
    if settings.pairs:
        part = checkpoint.part(PREREQUISITE_FOLDER) if settings.simulator else checkpoint
        advisor.encoder, advisor.tokenizer = _load_prerequisite_model(part, trust_remote_code)
        advisor.encoder.to(device)
    return advisor


def _load_prerequisite_model(
    checkpoint: Checkpoint, trust_remote_code: bool
) -> tuple[PrerequisiteEncoder, PreTrainedTokenizerBase]:
    """The whole or merged model, or an adapter put on its base."""
    tokenizer = load_tokenizer(checkpoint, trust_remote_code)
    if checkpoint.file("adapter_config.json") is None:
        return load_own(PrerequisiteEncoder, checkpoint), tokenizer
    artifact = load_artifact(checkpoint, "learning_path")
    base, folder = find_base(checkpoint, artifact)
    model = new_prerequisite_encoder(base, ModelArguments(trust_remote_code=trust_remote_code))
    return load_merged(model, folder).float().eval(), tokenizer


def probe(advisor: PathAdvisor) -> dict[str, list]:
    """Learners of nobody, on which a published model is compared with the one here."""
    return probe_inputs(advisor.settings)


def probe_inputs(settings: PathSettings) -> dict[str, list]:
    """See `probe`."""
    names, offered = settings.concepts, [settings.concepts[i] for i in settings.offered]
    inputs: dict[str, list] = {}
    if settings.simulator:
        asked = [[offered[(i * k) % len(offered)] for i in range(12)] for k in (1, 2, 3)]
        inputs = {"concepts": asked, "correct": [[int(i % 3 > k) for i in range(12)] for k in range(3)]}
        inputs["goals"] = [offered[-2:], offered[:2], offered[len(offered) // 2 :][:1]]
    if settings.pairs:
        inputs |= {"before": names[:-1][:20], "after": names[1:][:20]}
    return inputs


def _log_odds(p: np.ndarray) -> np.ndarray:
    p = np.clip(p, 1e-4, 1 - 1e-4)
    return np.log(p) - np.log1p(-p)


def _chance(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))
