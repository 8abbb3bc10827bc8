"""Resources, topics and interactions are read whole; no topic stands on two sides and nothing is learnt from the future."""

import contextlib
import gzip
import hashlib
import io
import json
import subprocess
import sys

import numpy as np
import pytest

from edu_datasets import DataError, ResourceColumns, load_resources
from edu_datasets.near_duplicates import near_duplicate_groups
from edu_datasets.school_generator import CONCEPTS, school_answers
from edu_datasets.school_views import school_resources, school_views
from edu_datasets.splits import find_leaks

CANARY = "pupil-4711"
HEADER = "resource,text,licence,level,language"
TOPICS = ResourceColumns(topics="topics")


def write(path, text: str):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


def table(path, header: str, *rows: str):
    return write(path, "\n".join([header, *rows]) + "\n")


def library(n: int, **changed: str) -> list[str]:
    """Rows of resources r0, r1, ...; `changed` names other rows by resource."""
    return [changed.get(f"r{i}", f"r{i},All about subject number {i},cc-by-4.0,{i % 3},en") for i in range(n)]


def openings(learners: int, each: int, n: int) -> list[str]:
    """Every learner opens another resource each day."""
    return [f"{CANARY}-{i},r{(i + d) % n},2026-09-{d + 1:02}T08:{i:02}" for i in range(learners) for d in range(each)]


def own(
    folder,
    resources=None,
    interactions=None,
    topics=None,
    header=HEADER,
    seen="learner,resource,time",
    about="topic,text",
    **options,
):
    """Load a user's tables; what is None is not given."""
    resources = library(30) if resources is None else resources
    files = {"resources_file": table(folder / "resources.csv", header, *resources)}
    if interactions is not None:
        files["interactions_file"] = table(folder / "interactions.csv", seen, *interactions)
    if topics is not None:
        files["topics_file"] = table(folder / "topics.csv", about, *topics)
    return load_resources(**{**files, **options})


def shelf(n: int = 40, topics: int = 10) -> list[str]:
    """Resources with a topic each."""
    return [f"r{i},All about subject number {i},cc0-1.0,7,en,t{i % topics}" for i in range(n)]


def on_topics(folder, resources=None, **options):
    return own(folder, resources or shelf(), header=HEADER + ",topics", columns=options.pop("columns", TOPICS), **options)


# ---- a school's own tables --------------------------------------------------------------------------------------------


def test_own_resources_and_interactions_are_read_whole(tmp_path):
    data = own(tmp_path, interactions=openings(10, 20, 30))
    assert len(data.resources) == 30 and sum(map(len, data.interactions.values())) == 200 and not data.topics
    assert data.resources[4] == {
        "resource_id": "r4", "group_id": "4", "title": "", "text": "All about subject number 4", "kind": "",
        "licence": "cc-by-4.0", "level": "1", "language": "en", "topics": [],
    }  # fmt: skip
    assert data.rows_read == 230 and data.rows(["r4", "r0"]).tolist() == [4, 0] and data.licence == "cc-by-4.0 (30)"


def test_columns_may_have_other_names_and_json_may_hold_lists(tmp_path):
    rows = [
        {"id": i, "name": f"Number {i}", "body": f"Subject {i}", "about": [f"t{i % 10}", "t0"], "kind": "video"}
        for i in range(40)
    ]
    path = write(tmp_path / "library.json", json.dumps(rows))
    columns = ResourceColumns("id", "body", "name", "kind", licence=None, level=None, language=None, topics="about")
    data = load_resources(resources_file=path, columns=columns)
    assert data.resources[11]["topics"] == ["t1", "t0"] and data.resources[11]["title"] == "Number 11"
    assert data.resources[11]["resource_id"] == "11" and data.resources[11]["kind"] == "video"


@pytest.mark.parametrize(
    "times",
    [
        ["2026-09-01", "2026-09-02", "2026-09-03", "2026-09-04", "2026-09-05"],
        [
            "2026-09-01T08:00:00Z",
            "2026-09-01T10:30:00+02:00",
            "2026-09-01T09:00:00Z",
            "2026-09-02T00:00:00Z",
            "2026-09-03T00:00:00Z",
        ],
        ["10", "20", "30.5", "40", "1e3"],
        ["2026-09-01 08:00:00", "2026-09-01 08:00:01", "2026-09-01 08:00:02", "2026-09-01 08:00:03", "2026-09-01 08:00:04"],
    ],
)
def test_times_may_be_dates_or_numbers(times, tmp_path):
    rows = [f"a,r{i},{t}" for i, t in enumerate(times)]
    cut = (times[3], times[4])
    data = own(tmp_path, interactions=rows[::-1], validation_from=cut[0], test_from=cut[1])
    assert [data.interactions[s]["resource_id"][:] for s in data.interactions] == [["r0", "r1", "r2"], ["r3"], ["r4"]]


def test_bad_rows_are_listed_when_asked(tmp_path):
    rows = [*openings(10, 20, 30), f"{CANARY},r99,2026-09-01T08:00", ",r1,2026-09-01T08:00", f"{CANARY},r1,yesterday"]
    data = own(tmp_path, library(30, r3="r3,,cc0-1.0,7,en"), [r for r in rows if ",r3," not in r], skip_bad_rows=True)
    assert [(file, row) for file, row, _ in data.rejected][0] == ("resources.csv", 5) and len(data.rejected) == 4
    assert data.rows_read == len(data.resources) + sum(map(len, data.interactions.values())) + len(data.rejected)
    assert CANARY not in str(data.rejected) and CANARY not in str(data.facts())


def test_the_odd_time_is_the_one_that_is_refused_wherever_it_stands(tmp_path):
    rows = [f"{CANARY},r1,17", *openings(10, 20, 30)]
    data = own(tmp_path, interactions=rows, skip_bad_rows=True)
    assert [(file, row) for file, row, _ in data.rejected] == [("interactions.csv", 2)]
    assert sum(map(len, data.interactions.values())) == 200
    refused("interactions.csv row 2 column 'time' a number row 3 a date same way", lambda: own(tmp_path, interactions=rows))


def test_who_opted_out_and_is_not_in_the_log_is_counted_and_not_named(tmp_path):
    away = table(tmp_path / "away.csv", "learner", f"{CANARY}-0", f"{CANARY} 1", f"{CANARY} 2")
    data = own(tmp_path, interactions=openings(10, 20, 30), opt_out_file=away)
    assert data.left_out == {"openings of learners who opted out": 20}
    assert data.warnings[0].startswith("2 of the 3 learners who opted out are not in the log") and CANARY not in data.warnings[0]
    away = table(tmp_path / "away.csv", "learner", f"{CANARY}-0")
    assert not own(tmp_path, interactions=openings(10, 20, 30), opt_out_file=away).warnings


def test_topics_may_state_their_language(tmp_path):
    about = [f"t{i},About {i},{'de' if i else ''}" for i in range(10)]
    data = on_topics(tmp_path, topics=about, about="topic,text,language")
    assert {t["topic_id"]: t["language"] for t in data.all_topics} == {f"t{i}": "de" if i else "" for i in range(10)}
    about[3] = "t3,About 3,German"
    refused(
        "topics.csv row 5 column 'language' not a language German",
        lambda: on_topics(tmp_path, topics=about, about="topic,text,language"),
    )


# ---- broken inputs ------------------------------------------------------------------------------------------------------

BROKEN_RESOURCES = {
    "no text": ("r3,,cc0-1.0,7,en", "row 5 column 'text' text missing"),
    "only blanks": ("r3,   ,cc0-1.0,7,en", "row 5 column 'text' text missing"),
    "no id": (",Angles,cc0-1.0,7,en", "row 5 column 'resource' id missing"),
    "an id twice": ("r2,Angles,cc0-1.0,7,en", "row 5 column 'resource' in row 4 too"),
    "no licence": ("r3,Angles,,7,en", "row 5 column 'licence' licence missing 'unknown'"),
    "a language in words": ("r3,Angles,cc0-1.0,7,English", "row 5 column 'language' not a language English en,"),
    "a licence that is a text": (f"r3,Angles,{'free ' * 30},7,en", "row 5 column 'licence' 149 characters"),
    "a level that is a text": (f"r3,Angles,cc0-1.0,{'seven ' * 30},en", "row 5 column 'level' 179 characters"),
    "a text without end": (f"r3,{'word ' * 120_000},cc0-1.0,7,en", "row 5 column 'text' 599,999 characters"),
    "a field too many": ("r3,Angles, and more,cc0-1.0,7,en", "row 5 6 fields"),
    "an open quote": ('r3,"Angles,cc0-1.0,7,en', "row 5 quote"),
    "a zero byte": ("r3,Ang\0les,cc0-1.0,7,en", "binary"),
}
BROKEN_INTERACTIONS = {
    "an unknown resource": (f"{CANARY},r301,2026-09-01T08:00", "row 3 column 'resource' no such resource Did you mean"),
    "a learner in place of a resource": (f"r1,{CANARY},2026-09-01T08:00", "row 3 column 'resource' no such resource"),
    "a time that is none": (f"{CANARY},r1,soon", "row 3 column 'time' not a time soon 2026-09-01"),
    "a learner in place of a time": (f"r1,r1,{CANARY}", "row 3 column 'time' not a time 2026-09-01"),
    "a day before a month": (f"{CANARY},r1,24.09.2026", "row 3 column 'time' not a time 24.09.2026 2026-09-01"),
    "no time": (f"{CANARY},r1,", "row 3 column 'time' time missing"),
    "not a number": (f"{CANARY},r1,nan", "row 3 column 'time' not a time"),
    "a number among dates": (f"{CANARY},r1,1757000000", "row 3 column 'time' a number row 2 a date same way"),
    "a time zone among times without": (f"{CANARY},r1,2026-09-01T08:00+02:00", "row 3 'time' a date with a time zone row 2"),
    "no learner": (",r1,2026-09-01T08:00", "row 3 column 'learner' learner missing"),
    "no resource": (f"{CANARY},,2026-09-01T08:00", "row 3 column 'resource' resource missing"),
    "a field too few": (f"{CANARY},r1", "row 3 2 fields"),
}


def refused(words: str, load) -> None:
    with pytest.raises(DataError) as error:
        load()
    message = str(error.value)
    assert all(word in message for word in words.split()), message
    assert CANARY not in message


@pytest.mark.parametrize("name", BROKEN_RESOURCES)
def test_broken_resources_are_refused_with_file_row_and_column(name, tmp_path):
    row, words = BROKEN_RESOURCES[name]
    refused(f"resources.csv {words}", lambda: own(tmp_path, library(30, r3=row), openings(5, 20, 30)))


@pytest.mark.parametrize("name", BROKEN_INTERACTIONS)
def test_broken_interactions_are_refused_with_file_row_and_column_and_no_id(name, tmp_path):
    row, words = BROKEN_INTERACTIONS[name]
    rows = openings(5, 20, 30)
    refused(f"interactions.csv {words}", lambda: own(tmp_path, interactions=[rows[0], row, *rows[1:]]))


@pytest.mark.parametrize(
    "columns, words",
    [
        (ResourceColumns(text="txt"), "resources.csv no column 'txt' Did you mean 'text' --text_column"),
        (ResourceColumns(resource="id"), "resources.csv no column 'id' --resource_column"),
        (ResourceColumns(licence="license"), "resources.csv no column 'license' Did you mean 'licence' --licence_column"),
        (ResourceColumns(language="lang"), "resources.csv no column 'lang' --language_column"),
        (ResourceColumns(level="grade"), "resources.csv no column 'grade' --level_column"),
        (ResourceColumns(title="title"), "resources.csv no column 'title' --title_column"),
        (ResourceColumns(topics="topic"), "resources.csv no column 'topic' --topics_column"),
        (ResourceColumns(learner="pupil"), "interactions.csv no column 'pupil' --learner_column"),
        (ResourceColumns(time="when"), "interactions.csv no column 'when' --time_column"),
    ],
)
def test_a_column_that_is_not_there_is_named_with_its_option(columns, words, tmp_path):
    refused(words, lambda: own(tmp_path, interactions=openings(5, 20, 30), columns=columns))


@pytest.mark.parametrize(
    "tables, words",
    [
        ({"resources": library(1), "interactions": [f"{CANARY},r0,1", f"{CANARY},r0,2"]}, "1 resource nothing to choose"),
        ({"resources": [f"r{i},The same,cc0-1.0,7,en" for i in range(9)], "interactions": openings(3, 9, 9)}, "the same text"),
        ({}, "resources.csv neither topics nor interactions --topics_column --interactions_file"),
        ({"topics": ["t1,About"]}, "resources.csv neither topics nor interactions"),
        ({"interactions": [f"{CANARY},r{i},2026-09-01" for i in range(9)]}, "cannot be cut --validation_from"),
        ({"interactions": openings(5, 20, 30), "validation_from": "2027-01-01"}, "cannot be cut 2027-01-01"),
        ({"interactions": openings(5, 20, 30), "validation_from": 5}, "--validation_from is a number a date"),
        ({"interactions": openings(5, 20, 30), "test_from": "whenever"}, "--test_from not a time"),
        ({"interactions": openings(5, 20, 30), "validation_from": "2026-09-15", "test_from": "2026-09-10"}, "cannot be cut"),
        ({"interactions": openings(5, 20, 30), "topics": ["t1,About"]}, "a topics file needs --topics_column"),
    ],
)
def test_tables_that_nothing_can_be_learnt_from_are_refused(tables, words, tmp_path):
    refused(words, lambda: own(tmp_path, **tables))


@pytest.mark.parametrize(
    "options, words",
    [
        ({"resources": shelf(40, 2)}, "2 topics cannot be cut into 5 folds"),
        ({"resources": shelf(), "folds": 20}, "10 topics cannot be cut into 20 folds --folds"),
        ({"resources": shelf(), "min_resources": 5}, "no topic 5 resources --min_resources"),
        ({"resources": [r.rsplit(",", 1)[0] + "," for r in shelf()]}, "resources.csv column 'topics' no resource has a topic"),
        ({"topics": ["t0,About"]}, "resources.csv row 3 column 'topics' not among those of topics.csv 't1'"),
        ({"topics": [f"t{i},About" for i in range(10)] + ["t0,Again"]}, "topics.csv row 12 column 'topic' in row 2 too"),
        ({"topics": ["t0,"]}, "topics.csv row 2 column 'text' no text"),
        ({"topics": [",About"]}, "topics.csv row 2 column 'topic' missing"),
        ({"resources": shelf(), "validation_from": "2026-01-01"}, "no interactions to cut"),
        (
            {"resources": [f"r{i},Subject {i},cc0-1.0,7,en,{';'.join(f't{j}' for j in range(9))}" for i in range(9)]},
            "no topic is left",
        ),
    ],
)
def test_broken_topics_are_refused(options, words, tmp_path):
    refused(words, lambda: on_topics(tmp_path, **options))


@pytest.mark.parametrize(
    "parents, words",
    [
        (["t0,About,t1", "t1,About,t0"], "topics.csv row 2 column 'parent' below itself"),
        (["t0,About,t9x", "t1,About,"], "topics.csv row 2 column 'parent' no such topic t9x"),
    ],
)
def test_topics_that_hang_in_the_air_are_refused(parents, words, tmp_path):
    columns = ResourceColumns(topics="topics", parent="parent")
    refused(words, lambda: on_topics(tmp_path, shelf(40, 2), topics=parents, about="topic,text,parent", columns=columns))


@pytest.mark.parametrize(
    "options, words",
    [
        ({"dataset_name": "mar"}, "Did you mean 'mars' --resources_file"),
        ({"interactions_file": "x.csv"}, "--resources_file"),
        ({"resources_file": "nowhere.csv"}, "no file nowhere.csv"),
        ({"fold": 5}, "no such fold"),
        ({"max_train_samples": 0}, "--max_train_samples is 0"),
        ({"dataset_name": "lecturebank"}, "no file taxonomy.csv"),
    ],
)
def test_options_that_do_not_fit_are_refused(options, words, tmp_path):
    refused(words, lambda: load_resources(data_dir=tmp_path, **options))


# ---- the split of time --------------------------------------------------------------------------------------------------


def test_time_is_cut_for_everybody_at_once(tmp_path):
    data = own(tmp_path, interactions=openings(10, 20, 30))
    times = [np.array(rows["time"]) for rows in data.interactions.values()]
    assert times[0].max() < times[1].min() and times[1].max() < times[2].min()
    assert [len(t) for t in times] == [160, 20, 20] and "all learners at once" in data.split_protocol


def test_the_twin_holding_out_each_learners_last_step_learns_from_the_future(tmp_path):
    """A learner who stopped early is held out at a time at which others still train."""
    rows = openings(9, 20, 30) + [f"{CANARY}-9,r{d},2026-09-{d + 1:02}T08:00" for d in range(5)]
    data = own(tmp_path, interactions=rows)

    def future(train, test) -> int:
        return sum(time > min(t for _, t in test) for _, time in train)

    events = [(r["learner_id"], r["time"]) for split in data.interactions.values() for r in split]
    last = {learner: max(t for name, t in events if name == learner) for learner, _ in events}
    parts = {s: [(r["learner_id"], r["time"]) for r in data.interactions[s]] for s in data.interactions}
    assert future(parts["train"] + parts["validation"], parts["test"]) == 0
    assert future([e for e in events if e[1] < last[e[0]]], [e for e in events if e[1] == last[e[0]]]) > 0


def test_cold_learners_and_resources_and_repeats_are_marked(tmp_path):
    rows = ["a,r0,1", "b,r1,2", "a,r1,3", "a,r0,4", "c,r0,5", "c,r2,6", "a,r2,7", "c,r0,7", "d,r3,8"]
    data = own(tmp_path, interactions=rows, validation_from=5, test_from=7)
    flags = {
        (r["learner_id"], r["resource_id"], s): (r["repeated"], r["cold_learner"], r["cold_resource"])
        for s, rows in data.interactions.items() for r in rows
    }  # fmt: skip
    assert flags["a", "r0", "train"][0] is True  # the second time
    assert flags["c", "r0", "validation"] == (False, True, False) and flags["c", "r2", "validation"] == (False, True, True)
    assert flags["a", "r2", "test"] == (False, False, True), "opened in validation only: no model has learnt it"
    assert flags["c", "r0", "test"] == (True, False, False) and flags["d", "r3", "test"] == (False, True, True)


def test_a_history_ends_where_the_split_begins(tmp_path):
    rows = ["a,r0,1", "b,r1,2", "a,r1,3", "c,r0,5", "a,r2,6", "a,r0,7", "a,r3,8", "a,r3,8.5", "d,r3,9"]
    data = own(tmp_path, interactions=rows, validation_from=5, test_from=7)
    assert {r["learner_id"]: (r["history"], r["targets"]) for r in data.histories("train")} == {
        "a": (["r0", "r1"], []),
        "b": (["r1"], []),
    }
    test = {r["learner_id"]: r for r in data.histories("test")}
    assert test["a"]["history"] == ["r0", "r1", "r2"] and test["a"]["times"] == [1, 3, 6]
    assert test["a"]["targets"] == ["r3"], "r0 is no news, and r3 counts once"
    assert test["d"]["cold_learner"] and test["d"]["cold_targets"] == [True] and not test["a"]["cold_learner"]
    assert data.histories("test", repeats=True)[0]["targets"] == ["r0", "r3"]
    assert [r["targets"] for r in data.histories("validation")] == [["r0"], ["r2"]]


def test_a_rolling_history_grows_and_never_holds_its_target_s_future(tmp_path):
    data = own(tmp_path, interactions=openings(10, 20, 30))
    when = {(r["learner_id"], r["resource_id"]): r["time"] for rows in data.interactions.values() for r in rows}
    rows = data.histories("test", rolling=True)
    assert len(rows) == 20 and all(len(r["targets"]) == 1 for r in rows)
    assert all(max(r["times"]) < when[r["learner_id"], r["targets"][0]] for r in rows)
    assert {len(r["history"]) for r in rows} == {18, 19}


def test_interactions_that_stand_twice_count_once(tmp_path):
    rows = openings(10, 20, 30)
    data = own(tmp_path, interactions=rows + rows[:7])
    assert data.left_out == {"interactions that stand twice": 7} and sum(map(len, data.interactions.values())) == 200


# ---- the split of topics ------------------------------------------------------------------------------------------------


def test_topics_are_held_out_whole_and_each_once_over_the_folds(tmp_path):
    tested = []
    for fold in range(5):
        data = on_topics(tmp_path, fold=fold)
        assert not find_leaks(data.topics, ["topic_id"]) and sum(map(len, data.topics.values())) == 10
        tested += data.topics["test"]["topic_id"]
    assert sorted(tested) == sorted(f"t{i}" for i in range(10))


def test_topics_of_one_parent_stay_together_and_know_their_path(tmp_path):
    topics = [f"t{i},Topic {i},{f'p{i // 2}' if i < 10 else ''}" for i in range(10)] + [f"p{i},Part {i}," for i in range(5)]
    columns = ResourceColumns(topics="topics", parent="parent")
    data = on_topics(tmp_path, topics=topics, about="topic,text,parent", columns=columns)
    assert not find_leaks(data.topics, ["group_id"]) and len(set(data.all_topics["group_id"])) == 5
    row = next(r for r in data.all_topics if r["topic_id"] == "t3")
    assert row["text"] == "Topic 3" and row["path"] == ["Part 1"] and row["resource_ids"] == ["r3", "r13", "r23", "r33"]


def shared_shelf() -> list[str]:
    """Every resource has a text of its own, but that of r0 is also that of r41 on another topic, and r42 is on two topics."""
    words = [f"w{i}x{j}" for i in range(43) for j in range(12)]
    texts = [" ".join(words[12 * i : 12 * i + 12]) for i in range(43)]
    rows = [f"r{i},{texts[i]},cc0-1.0,7,en,t{i % 10}" for i in range(41)]
    return [*rows, f"r41,{texts[0].upper()}!,cc0-1.0,7,en,t1", f"r42,{texts[42]},cc0-1.0,7,en,t0;t1;t2;t3;t4"]


def test_training_touches_nothing_that_a_held_out_topic_needs_not_even_a_copy(tmp_path):
    for fold in range(5):
        data = on_topics(tmp_path, shared_shelf(), fold=fold)
        text = dict(zip(data.resources["resource_id"], (t.lower().strip("!") for t in data.resources["text"]), strict=True))
        trained = {text[r] for ids in data.topics["train"]["resource_ids"] for r in ids}
        held = {text[r] for s in ("validation", "test") for ids in data.topics[s]["resource_ids"] for r in ids}
        may = {text[r] for r, ok in zip(data.resources["resource_id"], data.trainable, strict=True) if ok}
        assert not trained & held and trained <= may and not may & held


def test_the_twin_topics_alone_would_leak_the_copy(tmp_path):
    leaks = []
    for fold in range(5):
        data = on_topics(tmp_path, shared_shelf(), fold=fold)
        side = {t: s for s, rows in data.topics.items() for t in rows["topic_id"]}
        leaks.append((side["t0"] == "train") != (side["t1"] == "train"))
    assert any(leaks), "with some fold r0 and its copy r41 are on two sides"


def test_near_duplicates_share_a_group_and_are_counted(tmp_path):
    data = on_topics(tmp_path, shared_shelf())
    group = dict(zip(data.resources["resource_id"], data.resources["group_id"], strict=True))
    assert group["r0"] == group["r41"] and len(set(group.values())) == 42 and data.facts()["rows"]["near_duplicates"] == 1
    assert "1 of them nearly repeat another" in data.summary()


def test_folds_for_cross_validation_never_see_the_test_topics(tmp_path):
    data = on_topics(tmp_path, shelf(80, 20))
    held = set(data.topics["test"]["topic_id"])
    needed = {r for ids in data.topics["test"]["resource_ids"] for r in ids}
    tested = []
    for splits in data.fold_splits(4, seed=1).values():
        assert not find_leaks(splits, ["topic_id"]) and not held & {t for rows in splits.values() for t in rows["topic_id"]}
        assert not needed & {r for ids in splits["train"]["resource_ids"] for r in ids}
        tested += splits["test"]["topic_id"]
    assert len(tested) == len(set(tested)) == 20 - len(held)


def test_small_topics_are_no_queries_and_their_resources_are_ranked_all_the_same(tmp_path):
    rows = shelf() + ["r90,A lonely text,cc0-1.0,7,en,rare"]
    data = on_topics(tmp_path, rows, min_resources=4)
    assert len(data.all_topics) == 10 and len(data.resources) == 41
    assert data.left_out == {"topics with fewer than 4 resources": 1}


def test_samples_keep_whole_topics_and_learners(tmp_path):
    data = on_topics(tmp_path, interactions=openings(10, 20, 30), max_train_samples=3, max_eval_samples=1)
    assert len(data.topics["train"]) == 3 and len(data.topics["test"]) == 1
    assert len(set(data.interactions["train"]["learner_id"])) == 3 and len(data.interactions["train"]) == 48


def test_a_sample_of_the_learners_of_training_does_not_cut_the_histories_of_others(tmp_path):
    rows = openings(10, 20, 30)
    whole, cut = (own(tmp_path, interactions=rows, **few) for few in ({}, {"max_train_samples": 1, "max_eval_samples": 2}))
    assert len(cut.histories("train")) == 1 and len(whole.histories("train")) == 10
    for split in ("validation", "test"):
        for rolling in (False, True):
            every = whole.histories(split, rolling=rolling).to_list()
            part = cut.histories(split, rolling=rolling).to_list()
            assert len({row["learner_id"] for row in part}) == 2 and all(row in every for row in part)
            assert not any(row["cold_learner"] for row in part)


def test_a_sample_of_the_test_topics_does_not_bring_the_others_back(tmp_path):
    held = set(on_topics(tmp_path, shelf(80, 20)).topics["test"]["topic_id"])
    data = on_topics(tmp_path, shelf(80, 20), max_eval_samples=1)
    for splits in data.fold_splits(4, seed=1).values():
        assert not held & {t for rows in splits.values() for t in rows["topic_id"]}


# ---- near-duplicates ----------------------------------------------------------------------------------------------------


def test_texts_with_a_word_changed_are_near_duplicates_and_others_are_not():
    rng = np.random.default_rng(0)
    words = np.array([f"word{i}" for i in range(500)])
    texts = [" ".join(rng.choice(words, 60)) for _ in range(200)]
    copies = [" ".join([*t.split()[:30], "other", *t.split()[31:]]).title() + "." for t in texts[:50]]
    halves = [" ".join([*t.split()[:30], *rng.choice(words, 30)]) for t in texts[50:100]]
    groups = near_duplicate_groups(texts + copies + halves)
    assert (groups[:50] == groups[200:250]).all() and len(set(groups.tolist())) == 250


def test_short_texts_are_near_duplicates_only_if_their_words_are_equal():
    assert near_duplicate_groups(["Intro to AI", "intro: to AI!", "Intro to ML", "", ""]).tolist() == [0, 0, 1, 2, 3]


def test_groups_and_views_are_the_same_in_another_process():
    code = (
        "from edu_datasets.near_duplicates import _shingles; from edu_datasets.school_views import school_views;"
        "print(_shingles('a b c d e f g h i'.split()).tolist(), hashlib.sha256(repr(school_views()).encode()).hexdigest())"
    )
    there = subprocess.run([sys.executable, "-c", f"import hashlib;{code}"], capture_output=True, text=True, check=True).stdout
    here = io.StringIO()
    with contextlib.redirect_stdout(here):
        exec(code, {"hashlib": hashlib})
    assert there == here.getvalue() and len(there) > 100


# ---- the sample school --------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def sample():
    return load_resources()


def test_the_library_is_whole(sample):
    rows = school_resources()
    assert len(rows) >= 150 and len({r["resource_id"] for r in rows}) == len({r["title"] for r in rows}) == len(rows)
    assert all(30 <= len(r["text"].split()) <= 60 for r in rows)
    assert {c for r in rows for c in r["concepts"]} == set(CONCEPTS)
    assert {r["kind"] for r in rows} == {"text", "video", "exercise", "game"} and {r["level"] for r in rows} == set("789") | {
        "10"
    }
    assert {r["language"] for r in rows} == {"en", "es", "de"} and all(r["licence"] for r in rows)
    assert sample.facts()["rows"]["near_duplicates"] == 2


def test_views_are_in_order_and_do_not_disturb_the_answers():
    answers = school_answers()[:99]
    views = school_views()
    assert len(views) > 4000 and [v["time"] for v in views] == sorted(v["time"] for v in views)
    assert school_answers()[:99] == answers
    views[0]["time"] = -1.0  # who changes a row changes her own copy
    assert school_views()[0]["time"] > 0


def test_nobody_opens_what_is_not_there_yet():
    added = {r["resource_id"]: r["added_day"] for r in school_resources()}
    assert all(v["time"] >= added[v["resource"]] * 86_400 - 1 for v in school_views()) and max(added.values()) > 70


def test_learners_open_what_their_week_is_about(sample):
    """What was opened names a concept of the learner's answers of that week far more often than chance would."""
    asked: dict[tuple[str, int], set[str]] = {}
    for answer in school_answers():
        asked.setdefault((answer["learner"], int(answer["time"] // (7 * 86_400))), set()).update(answer["concepts"])
    concepts = {r["resource_id"]: set(r["concepts"]) for r in school_resources()}
    views = school_views()
    hits = [bool(concepts[v["resource"]] & asked.get((v["learner"], int(v["time"] // (7 * 86_400))), set())) for v in views]
    chance = [
        bool(concepts[w["resource"]] & asked.get((v["learner"], int(v["time"] // (7 * 86_400))), set()))
        for v, w in zip(views, views[::-1], strict=True)
    ]
    assert np.mean(hits) > np.mean(chance) + 0.2


def test_the_sample_has_what_a_recipe_needs(sample):
    assert sum(map(len, sample.topics.values())) == 24 and set(sample.interactions) == {"train", "validation", "test"}
    test = sample.histories("test")
    assert len(test) > 200 and 0 < sum(test["cold_learner"]) < len(test) / 4
    assert 0 < np.mean([c for row in test["cold_targets"] for c in row]) < 0.3
    known = set(sample.resources["resource_id"])
    assert all(set(r["history"]) | set(r["targets"]) <= known for r in test)
    assert not any(learner in str(sample.facts()) + sample.summary() for learner in ("L001", "L017"))


# ---- public sets, in the published layouts --------------------------------------------------------------------------------


def packed(path, text: str):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(gzip.compress(text.encode("utf-8")))


def lecturebank(folder, extra: str = ""):
    topics = [f"{a}{b}{c}" for a in "12" for b in "1234" for c in "12"]
    names = ["1", "2", *sorted({t[:2] for t in topics}), *topics]
    write(folder / "lecturebank" / "taxonomy.csv", "Topic ID,Topic,\r\n" + "".join(f'{t},"Name, of {t}",\r\n' for t in names))
    rows = ["ID\tInstructor\tTitle\tTopic\tURL\tVenue\tYear"]
    rows += [f'{i}\tSomebody\tAn "open title {i}\t{t}\thttp://x/{i}\tYale\t2018' for i, t in enumerate(topics * 6)]
    packed(folder / "lecturebank" / "alldata.tsv.gz", "\r\n".join(rows) + "\r\n" + extra)
    return folder


def test_lecturebank_is_read_with_its_flaws(tmp_path):
    extra = ["500\tA\tTwice\t111\thttp://x/0\tYale\t", "501\tA\tNowhere\t512\thttp://x/501\tYale\t2018"]
    extra = "\r\n".join([*extra, "502\tA\tRare\t21\thttp://x/502\tYale\t2018"]) + "\r\n"
    data = load_resources("lecturebank", data_dir=lecturebank(tmp_path, extra))
    assert len(data.resources) == 16 * 6 + 1 and [(f, r) for f, r, _ in data.rejected] == [("alldata.tsv.gz", 99)]
    assert data.left_out == {"rows that repeat another's link": 1, "topics with fewer than 5 resources": 1}
    assert data.resources[0]["title"] == 'An "open title 0' and data.resources[0]["text"] == ""
    topic = next(r for r in data.all_topics if r["topic_id"] == "231")
    assert topic["path"] == ["Name, of 2", "Name, of 23"] and topic["group_id"] == "23" and len(topic["resource_ids"]) == 6
    assert not find_leaks(data.topics, ["topic_id", "group_id"]), "what lies below 23 stays together"


def test_a_row_of_lecturebank_with_a_tab_too_few_is_refused(tmp_path):
    refused(
        "alldata.tsv.gz row 98 3 fields", lambda: load_resources("lecturebank", data_dir=lecturebank(tmp_path, "7\tA\tB\r\n"))
    )


def mars(folder, views: str):
    head = "item_id,language,name,nb_views,description,created_at,Difficulty,Job,Software,Theme,duration,type"
    items = [
        f"{i},en,Item {i},9,{'' if i % 2 else f'transcript {i}'},2016-01-01 00:00:00,N/A,[],\"['Excel', 'Word']\",[],60,tutorial"
        for i in range(9)
    ]
    packed(folder / "recommendation" / "mars_en" / "items_en.csv.gz", "\n".join([head, *items]) + "\n")
    packed(folder / "recommendation" / "mars_en" / "implicit_ratings_en.csv.gz", "item_id,user_id,created_at\n" + views)
    return folder


def test_mars_is_read_without_the_counts_that_tell_the_future(tmp_path):
    views = (
        "".join(f"{d % 9},{CANARY}{d % 3},2020-01-{d + 1:02} 10:00:00\n" for d in range(28)[::-1])
        + f"0,{CANARY}0,2020-01-01 10:00:00\n"
    )
    data = load_resources("mars", data_dir=mars(tmp_path, views))
    assert "nb_views" not in str(data.resources.features) and data.resources[0]["topics"] == ["Excel", "Word"]
    assert data.resources[1]["text"] == "" and data.resources[1]["title"] == "Item 1" and data.resources[1]["level"] == ""
    assert [len(rows) for rows in data.interactions.values()] == [22, 3, 3] and data.left_out == {
        "interactions that stand twice": 1
    }
    assert "2020-01-23" in data.split_protocol


def test_an_unknown_item_of_mars_is_refused(tmp_path):
    refused(
        "implicit_ratings_en.csv.gz row 2 'item_id' no such",
        lambda: load_resources("mars", data_dir=mars(tmp_path, f"77,{CANARY},2020-01-01 10:00:00\n")),
    )


def learning_equality(folder, correlations: list[str]):
    topics = ["id,title,description,channel,category,level,language,parent,has_content"]
    content = ["id,title,description,kind,text,language,copyright_holder,license"]
    for channel in range(6):
        category = "source" if channel == 5 else "aligned"
        topics.append(f"t_{channel},Channel {channel},,c{channel},{category},0,en,,False")
        for i in range(3):
            n = f"{channel}{i}"
            topics.append(f"t_{n},Topic {i},about {n},c{channel},{category},1,en,t_{channel},True")
            content.append(f'k_{n},Content {n},described {n},video,"long, text",en,,CC BY')
    content.append("k_x,,,html5,,en,,")
    for name, rows in (("topics", topics), ("content", content), ("correlations", ["topic_id,content_ids", *correlations])):
        table(folder / "learning_equality" / f"{name}.csv", *rows)
    return folder


def test_learning_equality_is_read_in_its_three_tables(tmp_path):
    pairs = [f"t_{c}{i},k_{c}{i} k_{c}{(i + 1) % 3}" for c in range(6) for i in range(3)]
    data = load_resources("learning_equality", data_dir=learning_equality(tmp_path, [*pairs, "t_01,k_x k_00"]), folds=3)
    assert len(data.resources) == 18 and [r for _, _, r in data.rejected] == [
        "neither a title nor a text", "a resource that is not in content.csv, or has no text",
    ]  # fmt: skip
    row = next(r for r in data.all_topics if r["topic_id"] == "t_12")
    assert row["text"] == "Topic 2 about 12" and row["path"] == ["Channel 1"] and row["language"] == "en"
    assert sorted(row["resource_ids"]) == ["k_10", "k_12"] and row["group_id"] == "c1"
    assert data.resources[0]["text"] == "described 00\n\nlong, text" and data.resources[0]["licence"] == "CC BY"
    assert not find_leaks(data.topics, ["group_id"])
    for fold in range(3):
        data = load_resources("learning_equality", data_dir=tmp_path, fold=fold, folds=3)
        splits = data.topics
        assert "c5" in splits["train"]["group_id"][:] and "c5" not in [
            *splits["test"]["group_id"],
            *splits["validation"]["group_id"],
        ]
        for part in data.fold_splits(3, seed=0).values():
            assert "c5" in part["train"]["group_id"][:] and "c5" not in part["test"]["group_id"][:]


def test_a_correlation_of_an_unknown_topic_is_refused(tmp_path):
    refused(
        "correlations.csv row 2 column 'topic_id' t_zz",
        lambda: load_resources("learning_equality", data_dir=learning_equality(tmp_path, ["t_zz,k_00"])),
    )


@pytest.mark.parametrize(
    "name, change, words",
    [
        ("topics", lambda lines: [lines[0].replace("id,", "number,", 1), *lines[1:]], "topics.csv no column 'id'"),
        ("content", lambda lines: [lines[0].replace("id,", "number,", 1), *lines[1:]], "content.csv no column 'id'"),
        ("topics", lambda lines: [*lines, lines[2]], "topics.csv row 26 column 'id' in row 3 too t_00"),
        ("content", lambda lines: [*lines, lines[2]], "content.csv row 21 column 'id' in row 3 too k_01"),
    ],
)
def test_tables_of_learning_equality_have_an_id_a_row(name, change, words, tmp_path):
    path = learning_equality(tmp_path, ["t_00,k_00"]) / "learning_equality" / f"{name}.csv"
    table(path, *change(path.read_text().splitlines()))
    refused(words, lambda: load_resources("learning_equality", data_dir=tmp_path))


# ---- the real files -------------------------------------------------------------------------------------------------------


@pytest.mark.real_data
def test_lecturebank_has_what_its_readme_counts():
    data = load_resources("lecturebank")
    assert data.rows_read == 7500 + 320 and len(data.rejected) == 75
    assert len(data.resources) + data.left_out["rows that repeat another's link"] == 7425
    assert sum(map(len, data.topics.values())) == 119 and not find_leaks(data.topics, ["topic_id", "group_id"])


@pytest.mark.real_data
def test_mars_has_what_its_readme_counts():
    data = load_resources("mars")
    counts = [len(rows) for rows in data.interactions.values()]
    assert len(data.resources) == 1167 and data.rows_read == 1167 + 21_908
    assert sum(counts) == 21_908 - 355 and len({r for rows in data.interactions.values() for r in rows["learner_id"]}) == 3007
