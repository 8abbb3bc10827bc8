"""The canonical columns of each task. A loader returns them whatever the user's file calls them."""

from __future__ import annotations

from datasets import Features, List, Value

ESSAYS = Features(
    {
        "essay_id": Value("string"),
        "learner_id": Value("string"),
        "group_id": Value("string"),
        "prompt_id": Value("string"),
        "text": Value("string"),
        "scores": List(Value("float64")),
        "rater1_scores": List(Value("float64")),
        "rater2_scores": List(Value("float64")),
        "subgroups": List(Value("string")),
    }
)
"""One essay a row.

    {"essay_id": "E017", "learner_id": "L009", "group_id": "L009", "prompt_id": "phones",
     "text": "Dear Ms Okafor, ...", "scores": [5.0], "rater1_scores": [5.0], "rater2_scores": [4.0], "subgroups": ["8", "yes"]}

`scores` has one entry a score name (`EssayDataset.score_names`; several are traits), in the units of the rubric; nan
where it is missing. `rater1_scores` and `rater2_scores` are the two humans', nan where unknown, on the scale of one
rater: where a score is the sum of two ratings, that is not the scale of `scores`. `learner_id` is '' where unknown.
`group_id` is what a split may not cut: the learner, or the value of the column that `split_by` names.
`subgroups` has one entry a subgroup column (`EssayDataset.subgroup_columns`), '' where unknown.
"""

RESPONSES = Features(
    {
        "learner_id": Value("string"),
        "group_id": Value("string"),
        "questions": List(Value("int32")),
        "concepts": List(List(Value("int32"))),
        "correct": List(Value("int8")),
        "times": List(Value("float64")),
    }
)
"""All answers of one learner a row, oldest first.

    {"learner_id": "L009", "group_id": "L009", "questions": [3, 3, 7], "concepts": [[1], [1], [1, 4]], "correct": [0, 1, 1],
     "times": [0.0, 42.0, 90.5]}

`questions` and `concepts` count from 1 in the order of `ResponseDataset.questions` and `.concepts`; 0 is a question without a
name of its own. A question that needs several concepts is one step with a set of them, never several steps: an answer that
stood in two steps would give itself away. `correct` is 0 or 1. `times` are seconds, nan where unknown.
"""

RECORDS = Features(
    {
        "record_id": Value("string"),
        "learner_id": Value("string"),
        "group_id": Value("string"),
        "time": Value("float64"),
        "numbers": List(Value("float64")),
        "categories": List(Value("string")),
        "target": Value("float64"),
        "subgroups": List(Value("string")),
    }
)
"""What was known of one learner on the day of the prediction a row, and what became of her or him.

    {"record_id": "L009", "learner_id": "L009", "group_id": "L009", "time": 42.0, "numbers": [61.0, 0.93, nan, 0.58],
     "categories": ["8", "no", "reading"], "target": 1.0, "subgroups": ["8", "no"]}

`numbers` has one entry a number column (`RecordDataset.number_columns`), nan where it is missing; `categories` one a category
column (`RecordDataset.category_columns`), '' where it is missing. `target` is the value to predict, or the number of the class
in `RecordDataset.classes`, from 0 on; nan where it is unknown. `time` is how many days after the prediction the outcome fell:
the time that an alert leaves; nan where it is unknown. `learner_id` and `group_id` are '' where unknown; `group_id` is what a
split may not cut. `subgroups` has one entry a subgroup column (`RecordDataset.subgroup_columns`), '' where unknown.
"""

RESOURCES = Features(
    {
        "resource_id": Value("string"),
        "group_id": Value("string"),
        "title": Value("string"),
        "text": Value("string"),
        "kind": Value("string"),
        "licence": Value("string"),
        "level": Value("string"),
        "language": Value("string"),
        "topics": List(Value("string")),
    }
)
"""One learning resource a row.

    {"resource_id": "R009", "group_id": "8", "title": "The calculator detective", "text": "A bill was added up wrongly and ...",
     "kind": "video", "licence": "cc-by-4.0", "level": "7", "language": "en", "topics": ["order of operations"]}

`title` or `text` is '' where the source has none, never both. Near-duplicates share a `group_id`: none is a negative example of
the other. `topics` are ids of TOPICS or names of concepts, [] where unknown. `kind`, `licence`, `level` and `language` are as the
source names them, '' where unknown.
"""

TOPICS = Features(
    {
        "topic_id": Value("string"),
        "group_id": Value("string"),
        "text": Value("string"),
        "path": List(Value("string")),
        "language": Value("string"),
        "resource_ids": List(Value("string")),
    }
)
"""One topic to find resources for a row.

    {"topic_id": "233", "group_id": "23", "text": "Relation Extraction", "path": ["Syntax and Parsing", "Tagging"],
     "language": "en", "resource_ids": ["17", "502"]}

`path` are the names of the topics above, the outermost first; `group_id` is what a split may not cut: topics with the same
parent. `resource_ids` are all relevant resources; in the training split those alone that no held-out topic needs.
"""

CATALOGUE = Features({name: kind for name, kind in RESOURCES.items() if name != "group_id"})
"""`RESOURCES` before near-duplicates were looked for."""

INTERACTIONS = Features(
    {
        "learner_id": Value("string"),
        "resource_id": Value("string"),
        "time": Value("float64"),
        "repeated": Value("bool"),
        "cold_learner": Value("bool"),
        "cold_resource": Value("bool"),
    }
)
"""One opening of a resource by a learner a row, oldest first.

    {"learner_id": "L009", "resource_id": "R009", "time": 30143.0, "repeated": False, "cold_learner": False,
     "cold_resource": True}

`time` is in seconds. `repeated`: the learner had opened the resource before. `cold_learner`: nothing is known of the learner
when the split begins. `cold_resource`: nobody opened the resource in training. Neither is so in the training split.
"""

HISTORIES = Features(
    {
        "learner_id": Value("string"),
        "history": List(Value("string")),
        "times": List(Value("float64")),
        "targets": List(Value("string")),
        "cold_learner": Value("bool"),
        "cold_targets": List(Value("bool")),
    }
)
"""What is known of one learner when a split begins a row, and what she or he opens in it.

    {"learner_id": "L009", "history": ["R009", "R014"], "times": [30143.0, 95002.0], "targets": ["R020"], "cold_learner": False,
     "cold_targets": [False]}

`history` are resource ids, oldest first, with their `times` in seconds; `targets` are those opened in the split, in order, each
once, with whether nobody opened them in training in `cold_targets`. In the training split `history` is all and `targets` are [].
"""

OPENINGS = Features({name: INTERACTIONS[name] for name in ("learner_id", "resource_id", "time")})
"""`INTERACTIONS` as the log has them, in any order."""

CONCEPTS = Features({"concept_id": Value("string"), "text": Value("string")})
"""One concept a row.

    {"concept_id": "17", "text": "dependency parsing"}
"""

PREREQUISITES = Features(
    {
        "before": Value("string"),
        "after": Value("string"),
        "label": Value("int8"),
        "unseen": Value("int8"),
        "implied": Value("bool"),
    }
)
"""One ordered pair of concepts a row.

    {"before": "12", "after": "17", "label": 1, "unseen": 1, "implied": False}

`before` and `after` are ids of CONCEPTS; `label` is 1 where the first is a prerequisite of the second, else 0. `unseen` says how
many of the two no prerequisite of the training split names. `implied`: a chain of training prerequisites leads from one of the
two to the other, so that no model is needed; False in the training split.
"""

PASSAGES = Features(
    {
        "question_id": Value("string"),
        "passage_id": Value("string"),
        "story_id": Value("string"),
        "context": Value("string"),
        "question": Value("string"),
        "answers": List(Value("string")),
        "answer_starts": List(Value("int32")),
        "answer_ends": List(Value("int32")),
        "answer_f1s": List(Value("float32")),
        "answerable": Value("bool"),
        "attributes": List(Value("string")),
        "distractors": List(Value("string")),
    }
)
"""One question about a text a row.

    {"question_id": "Q031", "passage_id": "The flood#1", "story_id": "The flood", "context": "... the keeper rang the bell ...",
     "question": "How did the keeper warn the town?", "answers": ["he rang the bell", "the bell"], "answer_starts": [41, 46],
     "answer_ends": [54, 54], "answer_f1s": [0.8, 1.0], "answerable": True, "attributes": ["explicit"],
     "distractors": ["a horn", "a drum", "a letter"]}

`answers` are all references as their writers wrote them, [] where the question is unanswerable. Answer i is found, as well as it
can be, at `context[answer_starts[i]:answer_ends[i]]`, in characters; `answer_f1s[i]` is the F1 of that span against the answer,
1 where it stands there word for word. Where not one word of an answer stands in the context both offsets are -1: the question
is answerable, but there is no span to train on. `story_id` is what a split may not cut: the story, the article, or else the
passage. `attributes` has one entry a name in `PassageDataset.attribute_names`, '' where unknown. `distractors` are wrong answers
of a multiple choice question, [] where there are none.
"""

DIALOGUES = Features(
    {
        "dialogue_id": Value("string"),
        "source": Value("string"),
        "learner_id": Value("string"),
        "problem_id": Value("string"),
        "group_id": Value("string"),
        "problem": Value("string"),
        "solution": Value("string"),
        "context": Value("string"),
        "profile": Value("string"),
        "turns": List(
            {
                "role": Value("string"),
                "text": Value("string"),
                "move": Value("string"),
                "source_move": Value("string"),
                "target": Value("bool"),
                "alternatives": List({"text": Value("string"), "move": Value("string")}),
            }
        ),
    }
)
"""One dialogue a row, oldest turn first; learner and tutor take turns, and either may begin.

    {"dialogue_id": "D007", "source": "sample_school", "learner_id": "L009", "problem_id": "M04", "group_id": "M04",
     "problem": "Work out 1/2 + 1/3.", "solution": "5/6", "context": "", "profile": "Grade 7. Adds tops and bottoms.",
     "turns": [{"role": "learner", "text": "2/5?", "move": "", "source_move": "", "target": False, "alternatives": []},
               {"role": "tutor", "text": "Is 2/5 more or less than 1/2?", "move": "question", "source_move": "question",
                "target": True, "alternatives": [{"text": "What is the common denominator?", "move": "hint"}]}]}

`role` is 'learner' or 'tutor'. `move` is one of `tutoring.MOVES`, '' for learners and where the source does not say;
`source_move` is the label in the source's words. `target` marks the tutor's turns that a model should learn: not those that
stand in another row too, and not a novice's. `alternatives` are other good turns in its place. `problem`, `solution`, `context`
(course text, or what the learner handed in) and `profile` (what is known of the learner) are what a tutor may know, '' where
unknown. `source` is the data set. `group_id` is what a split may not cut.
"""
