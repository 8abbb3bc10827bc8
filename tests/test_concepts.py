"""Prerequisites become a graph without circles, and no split of their pairs tells a model the answer."""

import gzip

import numpy as np
import pytest

from edu_datasets import ConceptColumns, ConceptGraph, DataError, load_concepts
from edu_datasets.concept_graph import adjacency, break_circles, closure, find_circle
from edu_datasets.school_generator import CONCEPTS, PREREQUISITES


def write(path, text: str):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


def own(folder, concepts=(), pairs=(), concept_header="concept", pair_header="before,after", **options):
    """Load a user's two tables."""
    files = {
        "concepts_file": write(folder / "concepts.csv", "\n".join([concept_header, *concepts]) + "\n"),
        "prerequisites_file": write(folder / "pairs.csv", "\n".join([pair_header, *pairs]) + "\n"),
    }
    return load_concepts(**{**files, "split": "none", **options})


def row_of_concepts(n: int) -> tuple[list[str], list[str]]:
    """c0 before c1 before c2 ..., and every third one further on."""
    names = [f"c{i}" for i in range(n)]
    return names, [f"c{i},c{j}" for i in range(n) for j in (i + 1, i + 3) if j < n]


@pytest.fixture
def fork():
    """a before b and c, both before d; e alone."""
    return ConceptGraph("abcde", [(0, 1), (0, 2), (1, 3), (2, 3)])


# ---- the graph --------------------------------------------------------------------------------------------------------


def test_the_topological_order_respects_every_prerequisite(fork):
    assert [fork.names[c] for c in fork.topological_order] == list("abcde")
    shuffled = ConceptGraph("dcbae", [(3, 2), (3, 1), (2, 0), (1, 0)])
    assert [shuffled.names[c] for c in shuffled.topological_order] == list("acbde"), "else as they stand in the file"


# ---- circles ----------------------------------------------------------------------------------------------------------


def test_circles_are_broken_by_the_rule_and_told():
    edges = np.array([(0, 1), (1, 2), (2, 0), (0, 3), (0, 4), (3, 4)])
    kept, removed, circles = break_circles(5, edges)
    assert removed == [(2, 0)] and circles == [[2, 0, 1, 2]], "0 is prerequisite of most: it stays in front"
    assert len(kept) == 5 and find_circle(5, kept) is None


def test_breaking_does_not_depend_on_the_order_of_the_pairs_and_leaves_no_circle():
    rng = np.random.default_rng(1)
    for _ in range(20):
        edges = np.unique(rng.integers(0, 12, (40, 2)), axis=0)
        kept, removed, circles = break_circles(12, edges)
        assert find_circle(12, kept) is None and len(kept) + len(removed) == len(edges)
        again = break_circles(12, edges[rng.permutation(len(edges))])
        assert set(again[1]) == set(removed)
        pairs = set(map(tuple, edges.tolist()))
        for (a, b), circle in zip(removed, circles, strict=True):
            assert circle[:2] == [a, b] and circle[-1] == a
            assert all(step in pairs for step in zip(circle, circle[1:], strict=False))


def test_a_graph_without_circles_is_left_alone():
    edges = np.array([(0, 1), (1, 2), (0, 2)])
    assert break_circles(3, edges)[0].tolist() == edges.tolist() and break_circles(3, edges)[1] == []


def test_a_graph_with_a_circle_is_none():
    with pytest.raises(DataError, match="a -> b -> c -> a"):
        ConceptGraph("abc", [(0, 1), (1, 2), (2, 0)])


# ---- a school's own tables --------------------------------------------------------------------------------------------


def test_own_tables_become_a_graph(tmp_path):
    data = own(tmp_path, ["a", "b", "c"], ["a,b", "b,c", "a,b"])
    assert data.graph.edges.tolist() == [[0, 1], [1, 2]] and data.left_out == {"pairs that stand twice": 1}
    assert data.concepts.to_list() == [{"concept_id": c, "text": c} for c in "abc"] and data.rows_read == 6 and not data.splits


def test_texts_and_labels_are_read_where_they_are(tmp_path):
    data = own(
        tmp_path, ["a,first things", "b,second things"], ["a,b,yes", "b,a,no"], "concept,about", "from,to,is",
        columns=ConceptColumns(text="about", before="from", after="to", label="is"),
    )  # fmt: skip
    assert data.concepts["text"][:] == ["first things", "second things"] and data.graph.edges.tolist() == [[0, 1]]


def test_a_circle_of_ones_own_is_refused_with_its_path_and_rows_or_broken_when_asked(tmp_path):
    tables = (["a", "b", "c"], ["a,b", "b,c", "c,a"])
    with pytest.raises(DataError) as error:
        own(tmp_path, *tables)
    assert "a -> b (row 2) -> c (row 3) -> a (row 4)" in str(error.value) and "--break_cycles" in str(error.value)
    data = own(tmp_path, *tables, break_cycles=True)
    assert data.removed == [("c", "a")] and data.circles == [["c", "a", "b", "c"]] and "close circles" in data.warnings[0]


def test_bad_rows_are_listed_when_asked(tmp_path):
    data = own(tmp_path, ["a", "b"], ["a,b", "a,x", ",b"], skip_bad_rows=True)
    assert [(file, row) for file, row, _ in data.rejected] == [("pairs.csv", 3), ("pairs.csv", 4)]
    assert data.rows_read == 2 + len(data.graph.edges) + len(data.rejected)


BROKEN = {
    "a concept twice": (["a", "b", "a"], ["a,b"], "concepts.csv row 4 'concept' in row 2 too"),
    "one concept": (["a"], ["a,a"], "concepts.csv one concept only"),
    "a concept that is a text": (["a", "b" * 300], ["a,b"], "concepts.csv row 3 300 characters"),
    "a row with a field too many": (["a", "b,c"], ["a,b"], "concepts.csv row 3 2 fields"),
    "no concept": ([], ["a,b"], "concepts.csv a header and no rows"),
    "no pair": (["a", "b"], [], "pairs.csv a header and no rows"),
    "an unknown concept before": (["adding", "ratio"], ["addin,ratio"], "pairs.csv row 2 column 'before' Did you mean 'adding'"),
    "an unknown concept after": (["adding", "ratio"], ["adding,ratios"], "pairs.csv row 2 column 'after' Did you mean 'ratio'"),
    "a strange concept": (["a", "b"], ["a,quantum"], "pairs.csv row 2 column 'after' no such concept quantum"),
    "nothing before": (["a", "b"], [",b"], "pairs.csv row 2 column 'before' missing"),
    "nothing after": (["a", "b"], ["a,"], "pairs.csv row 2 column 'after' missing"),
    "a concept before itself": (["a", "b"], ["a,b", "b,b"], "pairs.csv row 3 its own prerequisite"),
    "two before each other": (["a", "b"], ["a,b", "b,a"], "pairs.csv row 2 circle a -> b (row 2) -> a (row 3)"),
    "a circle further on": (
        ["a", "b", "c", "d"], ["a,b", "b,c", "c,d", "d,b"], "pairs.csv circle b -> c (row 3) -> d (row 4) -> b (row 5)",
    ),
    "a pair with a field missing": (["a", "b"], ["a"], "pairs.csv row 2 1 fields"),
}  # fmt: skip
LABELLED = {
    "a label that is none": (["a,b,perhaps"], "pairs.csv row 2 column 'label' neither 1 nor 0 perhaps"),
    "an empty label": (["a,b,"], "pairs.csv row 2 column 'label' neither"),
    "labels that contradict": (["a,b,1", "a,b,0"], "pairs.csv row 3 another label in row 2"),
    "no prerequisite at all": (["a,b,0"], "concepts.csv no prerequisite"),
}


def refused(words: str, load) -> None:
    with pytest.raises(DataError) as error:
        load()
    message = str(error.value)
    assert all(word in message for word in words.split()), message


@pytest.mark.parametrize("name", BROKEN)
def test_broken_tables_are_refused_with_file_row_and_column(name, tmp_path):
    concepts, pairs, words = BROKEN[name]
    refused(words, lambda: own(tmp_path, concepts, pairs))


@pytest.mark.parametrize(
    "row, words",
    [
        (",about it", "concepts.csv row 3 column 'concept' missing"),
        ("b,", "concepts.csv row 3 column 'text' no text"),
        ("b," + "much " * 5000, "concepts.csv row 3 column 'text' 24,999 characters"),
    ],
)
def test_broken_texts_are_refused_with_file_row_and_column(row, words, tmp_path):
    refused(words, lambda: own(tmp_path, ["a,x", row], ["a,b"], "concept,text", columns=ConceptColumns(text="text")))


@pytest.mark.parametrize("name", LABELLED)
def test_broken_labels_are_refused_with_file_row_and_column(name, tmp_path):
    pairs, words = LABELLED[name]
    refused(
        words, lambda: own(tmp_path, ["a", "b"], pairs, pair_header="before,after,label", columns=ConceptColumns(label="label"))
    )


@pytest.mark.parametrize(
    "columns, words",
    [
        (ConceptColumns(concept="name"), "concepts.csv no column 'name' --concept_column"),
        (ConceptColumns(text="text"), "concepts.csv no column 'text' --text_column"),
        (ConceptColumns(before="from"), "pairs.csv no column 'from' --before_column"),
        (ConceptColumns(after="afte"), "pairs.csv no column 'afte' Did you mean 'after' --after_column"),
        (ConceptColumns(label="is"), "pairs.csv no column 'is' --label_column"),
    ],
)
def test_a_column_that_is_not_there_is_named_with_its_option(columns, words, tmp_path):
    refused(words, lambda: own(tmp_path, ["a", "b"], ["a,b"], columns=columns))


@pytest.mark.parametrize(
    "options, words",
    [
        ({"dataset_name": "lecturebnk"}, "Did you mean 'lecturebank' --concepts_file"),
        ({"split": "concept"}, "Did you mean 'concepts'"),
        ({"split": "published"}, "only lecturebank"),
        ({"fold": 5}, "no such fold"),
        ({"negatives": 0}, "--negatives is 0"),
        ({"concepts_file": "concepts.csv"}, "two files --prerequisites_file"),
        ({"concepts_file": "concepts.csv", "prerequisites_file": "nowhere.csv"}, "no file concepts.csv"),
        ({"folds": 30}, "cut into 30 folds"),
        ({"dataset_name": "lecturebank", "split": "published", "fold": 6, "folds": 9}, "no such published split"),
    ],
)
def test_options_that_do_not_fit_are_refused(options, words, tmp_path):
    refused(words, lambda: load_concepts(data_dir=tmp_path, **options))


def test_too_few_concepts_to_hold_out_are_refused_and_the_graph_alone_is_had(tmp_path):
    refused("3 different concepts cannot be cut --split none", lambda: own(tmp_path, list("abc"), ["a,b"], split="concepts"))
    assert len(own(tmp_path, list("abc"), ["a,b"], split="none").graph.edges) == 1


# ---- the split --------------------------------------------------------------------------------------------------------


def edges_of(rows) -> set[tuple[str, str]]:
    return {(r["before"], r["after"]) for r in rows if r["label"]}


@pytest.mark.parametrize("fold", range(5))
def test_no_chain_of_training_pairs_reaches_a_held_out_pair(fold, tmp_path):
    names, pairs = row_of_concepts(40)
    data = own(tmp_path, names, pairs, split="concepts", fold=fold)
    trained = edges_of(data.splits["train"])
    reach = closure(adjacency(40, [(names.index(a), names.index(b)) for a, b in trained])).toarray() > 0
    for split in ("validation", "test"):
        for row in data.splits[split]:
            a, b = names.index(row["before"]), names.index(row["after"])
            assert not reach[a, b] and not reach[b, a] and not row["implied"] and row["unseen"] >= 1
    all_pairs = [(r["before"], r["after"]) for rows in data.splits.values() for r in rows]
    assert len(set(all_pairs)) == len(all_pairs), "no pair on two sides"
    assert set().union(*map(edges_of, data.splits.values())) == {tuple(p.split(",")) for p in pairs}, "and none is lost"


def test_the_twin_a_split_of_pairs_gives_answers_away_and_says_so(tmp_path):
    folder = lecturebank(tmp_path, 40)
    held, random = (load_concepts("lecturebank", data_dir=folder, split=split) for split in ("concepts", "published"))
    assert sum(held.splits["test"]["implied"]) == 0 < sum(random.splits["test"]["implied"])
    assert "held out" in held.split_protocol and "Published" in random.split_protocol


def test_negatives_are_no_prerequisites_in_either_direction_and_no_pair_twice(tmp_path):
    names, pairs = row_of_concepts(40)
    data = own(tmp_path, names, pairs[::2], split="concepts", negatives=2)
    reach = data.graph.closure.toarray() > 0
    for rows in data.splits.values():
        negative = [(names.index(r["before"]), names.index(r["after"])) for r in rows if not r["label"]]
        assert len(negative) == len(set(negative)) > 0
        assert not any(a == b or reach[a, b] or reach[b, a] for a, b in negative)
    assert "none of which is a prerequisite in any split" in data.split_protocol, "the card says that the whole graph was known"


def test_concepts_with_one_name_stay_on_one_side(tmp_path):
    names, pairs = row_of_concepts(30)
    texts = [f"{name},Ratio {int(name[1:]) // 2}" for name in names]
    data = own(tmp_path, texts, pairs, "concept,text", split="concepts", columns=ConceptColumns(text="text"))
    trained = {c for r in data.splits["train"] for c in (r["before"], r["after"])}
    for row in data.splits["test"]:
        new = [c for c in (row["before"], row["after"]) if c not in trained]
        assert new and all(f"c{int(c[1:]) ^ 1}" not in trained for c in new)


def test_the_split_is_the_same_every_time_and_another_with_another_seed(tmp_path):
    names, pairs = row_of_concepts(40)
    splits = [own(tmp_path, names, pairs, split="concepts", seed=s).splits["test"].to_list() for s in (1, 1, 2)]
    assert splits[0] == splits[1] != splits[2]


def test_the_sample_school_has_its_graph():
    data = load_concepts()
    assert data.graph.names == list(CONCEPTS) and len(data.graph.edges) == len(PREREQUISITES) and not data.removed
    assert all(len(edges_of(rows)) > 3 for rows in data.splits.values())
    assert "24 concepts, 33 prerequisites" in data.summary() and data.facts()["rows"]["concepts"] == 24


# ---- LectureBank, in the published layout -------------------------------------------------------------------------------


def lecturebank(folder, n: int):
    """322topics_final.tsv counts from 1, the split files from 0."""
    write(folder / "lecturebank" / "322topics_final.tsv", "".join(f"{i + 1}|topic {i}\n" for i in range(n)))
    edges = [(i, j) for i in range(n) for j in (i + 1, i + 2, i + 3) if j < n]
    parts = {"test_edges_positive": edges[::9], "train_edges_positive": [e for i, e in enumerate(edges) if i % 9]}
    parts["test_edges_negative"] = [(n - 1 - i, i) for i in range(len(parts["test_edges_positive"]))]
    for fold in range(5):
        for stem, rows in parts.items():
            write(folder / "lecturebank" / "322_split" / f"{stem}_{fold}.txt", "".join(f"{a},{b}\n" for a, b in rows))
    return folder


def test_the_published_split_is_kept_and_its_numbers_count_from_zero(tmp_path):
    data = load_concepts("lecturebank", data_dir=lecturebank(tmp_path, 40), split="published", fold=2)
    test = data.splits["test"].to_list()
    assert ("1", "2") in edges_of(test), "0,1 in the file are the first two topics, whose ids are 1 and 2"
    assert [r["label"] for r in test].count(0) == [r["label"] for r in test].count(1) == 13
    trained = {frozenset((r["before"], r["after"])) for s in ("train", "validation") for r in data.splits[s]}
    assert not any(frozenset((r["before"], r["after"])) in trained for r in test), "not turned round either"


def lecturebank_208(folder, topics: str, pairs: str):
    write(folder / "lecturebank" / "208topics.csv", topics)
    path = folder / "lecturebank" / "prerequisite_annotation.csv.gz"
    path.write_bytes(gzip.compress(pairs.encode()))
    return folder


def test_the_annotation_of_2019_is_read_with_its_flaws(tmp_path):
    topics = "2,Parsing,https://en.wikipedia.org/wiki/Parsing\n3,Entropy: coding, channels,NULL,NULL\n4,Syntax,NULL\n"
    pairs = "2,3,0\n2,3,0\n3,2,1\n4,2,1\n2,4,1\n4,4,1\n4,210,1\n3,4,1\n3,4,0\n"
    data = load_concepts("lecturebank_208", data_dir=lecturebank_208(tmp_path, topics, pairs), split="none")
    assert data.concepts["text"][:] == ["Parsing", "Entropy: coding, channels", "Syntax"]
    assert data.left_out == {"pairs that stand twice": 1} and len(data.rejected) == 4
    reasons = " ".join(reason for *_, reason in data.rejected)
    assert all(word in reasons for word in ("own prerequisite", "without a name", "contradict"))
    assert data.removed in ([("2", "4")], [("4", "2")]) and len(data.graph.edges) == 2
    assert data.rows_read == 3 + 9 == 3 + 4 + len(data.rejected) + 1, "topics, pairs, rejected, twice"


@pytest.mark.parametrize(
    "topics, pairs, words",
    [
        ("x,Parsing,NULL\n", "2,3,1\n", "208topics.csv row 1 no topic"),
        ("2,Parsing,NULL\n3,Syntax,NULL\n", "2,3\n", "prerequisite_annotation.csv.gz row 1 3 whole numbers"),
        ("2,Parsing,NULL\n3,Syntax,NULL\n", "2,3,1\n2,x,1\n", "prerequisite_annotation.csv.gz row 2 3 whole numbers"),
    ],
)
def test_a_damaged_distribution_is_refused_with_its_row(topics, pairs, words, tmp_path):
    refused(words, lambda: load_concepts("lecturebank_208", data_dir=lecturebank_208(tmp_path, topics, pairs)))


def test_a_number_beyond_the_topics_is_refused(tmp_path):
    folder = lecturebank(tmp_path, 40)
    with (folder / "lecturebank" / "322_split" / "train_edges_positive_0.txt").open("a") as file:
        file.write("3,40\n")
    refused("train_edges_positive_0.txt no such topic 0 to 39", lambda: load_concepts("lecturebank", data_dir=folder))


# ---- the real files -----------------------------------------------------------------------------------------------------


@pytest.mark.real_data
def test_lecturebank_has_what_its_readme_counts():
    data = load_concepts("lecturebank", split="published", fold=1)
    assert len(data.concepts) == 322 and len(data.graph.edges) + len(data.removed) == 1551 and len(data.removed) == 33
    assert len(edges_of(data.splits["train"])) + len(edges_of(data.splits["validation"])) == 1396
    assert len(data.splits["test"]) == 310 and len(edges_of(data.splits["test"])) == 155
    assert sum(data.splits["test"]["implied"]) > 90, "a third of the published test pairs follows from the training pairs"
    held = load_concepts("lecturebank")
    assert sum(len(edges_of(rows)) for rows in held.splits.values()) == 1551 and not sum(held.splits["test"]["implied"])


@pytest.mark.real_data
def test_the_older_annotation_has_what_its_readme_counts():
    data = load_concepts("lecturebank_208", split="none")
    reasons = [reason for *_, reason in data.rejected]
    assert len(data.concepts) == 208 and data.rows_read == 42_750 + 208
    assert sum("own prerequisite" in r for r in reasons) == 2 and "Information Theory: coding, compression" in str(
        data.concepts["text"][:]
    )
