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
