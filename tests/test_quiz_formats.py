"""A quiz goes into every format and comes back as it was, however nasty its texts; each format is read by a parser of others."""

import csv
import io
import json
import re
import shutil
import subprocess
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from lxml import etree

from trainers.parser import ConfigurationError
from trainers.quiz_formats import FORMATS, QuizQuestion, write_quiz

GIFT_PARSER = "gift-pegjs@1.0.2"
READ_GIFT = """
const {parse} = require("gift-pegjs")
require("readline").createInterface({input: process.stdin}).on("line", line => {
  let read
  try { read = parse(JSON.parse(line)) } catch (error) { read = {error: error.message} }
  console.log(JSON.stringify(read))
})
"""
SCHEMAS = Path(__file__).parent / "quiz_schemas"
QTI = {"q": "http://www.imsglobal.org/xsd/imsqti_v2p1"}
PACKAGE = {"c": "http://www.imsglobal.org/xsd/imscp_v1p1", "l": "http://ltsc.ieee.org/xsd/LOM"}

TITLE = "The mill on the Arle"
CHOICE = QuizQuestion(
    "When did the mill stop grinding?", ("1931",), ("1905", "1948", "1912"), "The mill ground flour until 1931.",
    "Mill 1", "See the second sentence.", ("mill", "dates"),
)  # fmt: skip
SHORT = QuizQuestion("What did it grind?", ("flour", "Flour and bran", "FLOUR"), name="Mill 2")


# ---- readers: each gives (name, what is asked, right answers, wrong answers, feedback, tags) for each question --------


@pytest.fixture(scope="session")
def parse_gift(tmp_path_factory):
    """GIFT text -> what the npm package gift-pegjs makes of it."""
    node, npm = shutil.which("node"), shutil.which("npm")
    if not node or not npm:
        pytest.skip("node and npm are not on PATH; they read GIFT with an independent parser")
    folder = tmp_path_factory.mktemp("gift_pegjs")
    options = ["--no-audit", "--no-fund", "--ignore-scripts", "--silent"]
    installed = subprocess.run([npm, "install", "--prefix", folder, *options, GIFT_PARSER], cwd=folder, capture_output=True)
    if installed.returncode:
        pytest.skip(f"npm could not install {GIFT_PARSER}")
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "encoding": "utf-8"}
    with subprocess.Popen([node, "-e", READ_GIFT], cwd=folder, **pipes) as process:

        def parse(text):
            process.stdin.write(json.dumps(text) + "\n")
            process.stdin.flush()
            return json.loads(process.stdout.readline())

        yield parse
        process.stdin.close()


@pytest.fixture(scope="session")
def readers(request):
    """Format -> a function of a file. That of GIFT skips where its parser is not to be had."""

    def gift(path):
        return read_gift(path, request.getfixturevalue("parse_gift"))

    return {"csv": read_csv, "gift": gift, "moodle_xml": read_moodle_xml, "qti": read_qti}


def read_csv(path):
    def plain(text):
        return text[1:] if re.match(r"'+[=+\-@\t\r＝＋－＠]", text) else text

    with path.open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file, strict=True):
            row = {column: plain(text) for column, text in row.items()}
            wrong = [text for column, text in row.items() if column.startswith("distractor_") and text]
            right = [row["answer"], *([] if wrong else row["other_answers"].splitlines())]
            asked = "\n\n".join(filter(None, [row["context"], row["question"]]))
            yield row["name"], asked, right, wrong, row["feedback"], row["tags"].splitlines()


def read_gift(path, parse):
    category, *questions = parse(path.read_text(encoding="utf-8"))
    assert category["type"] == "Category"
    for read in questions:
        assert read["type"] == ("Short" if all(c["isCorrect"] for c in read["choices"]) else "MC")
        texts = [read["stem"], *(c["text"] for c in read["choices"]), *filter(None, [read["globalFeedback"]])]
        assert {t["format"] for t in texts} == {"plain"} and not any(c["weight"] or c["feedback"] for c in read["choices"])
        right, wrong = ([c["text"]["text"] for c in read["choices"] if c["isCorrect"] == is_right] for is_right in (True, False))
        right = [text.replace(r"\*", "*") for text in right] if read["type"] == "Short" else right
        feedback = read["globalFeedback"]["text"] if read["globalFeedback"] else ""
        yield read["title"], read["stem"]["text"], right, wrong, feedback, read["tags"] or []


def read_moodle_xml(path):
    quiz = etree.parse(path)
    schema("moodle_xml").assertValid(quiz)
    for read in quiz.xpath("/quiz/question[@type != 'category']"):
        right, wrong = (read.xpath(f"answer[@fraction = {points}]/text/text()") for points in (100, 0))
        right = [text.replace(r"\*", "*") for text in right] if read.get("type") == "shortanswer" else right
        name, asked, feedback = (read.xpath(f"string({tag}/text)") for tag in ("name", "questiontext", "generalfeedback"))
        yield name, asked, right, wrong, feedback, read.xpath("tags/tag/text/text()")


def read_qti(path):
    package = zipfile.ZipFile(path)
    documents = {name: etree.fromstring(package.read(name)) for name in package.namelist()}
    for document in documents.values():
        schema("qti_2_1").assertValid(document)
    manifest = documents["imsmanifest.xml"]
    listed = manifest.xpath("//c:resource/@href", namespaces=PACKAGE)
    assert sorted(documents) == sorted(["imsmanifest.xml", *listed]) and len(set(listed)) == len(listed)
    for href in documents["quiz.xml"].xpath("//q:assessmentItemRef/@href", namespaces=QTI):
        item = documents[href]
        options = {c.get("identifier"): c.text for c in item.iterfind(".//q:simpleChoice", QTI)}
        right = item.xpath("q:responseDeclaration/q:correctResponse/q:value/text()", namespaces=QTI)
        if options:
            right = [options.pop(right[0])]
        else:
            accepted = item.xpath("//q:mapEntry[@mappedValue = 1]/@mapKey", namespaces=QTI)
            assert right == accepted[:1]
            right = accepted
        asked = "\n\n".join(lines(e) for e in item.xpath("q:itemBody/q:p[not(*[not(self::q:br)])] | //q:prompt", namespaces=QTI))
        feedback = "".join(map(lines, item.iterfind("q:modalFeedback", QTI)))
        tags = manifest.xpath(f"//c:resource[@href = '{href}']//l:keyword/l:string/text()", namespaces=PACKAGE)
        yield item.get("title"), asked, right, list(options.values()), feedback, tags


def schema(name):
    return etree.RelaxNG(etree.parse(SCHEMAS / f"{name}.rng"))


def lines(element):
    return "\n".join(t if t.strip() else "" for t in [element.text, *((e.tail or "") for e in element)])


def expected(question):
    """What a reader should give for a question, white space put in order."""
    answers = list({one_line(a).casefold(): one_line(a) for a in reversed(question.answers)}.values())[::-1]
    right = [one_line(question.answers[0])] if question.distractors else answers
    asked = "\n\n".join(filter(None, [question.context.strip(), question.question.strip()]))
    tags = [one_line(t) for t in question.tags]
    return comparable((one_line(question.name), asked, right, list(question.distractors), question.feedback.strip(), tags))


def comparable(read):
    """Without what readers differ in: the order of choices, runs of spaces, which one GIFT parser joins."""
    name, asked, right, wrong, feedback, tags = read
    asked, feedback = ("\n".join(map(one_line, text.split("\n"))) for text in (asked, feedback))
    return one_line(name), asked, sorted(map(one_line, right)), sorted(map(one_line, wrong)), feedback, tags


def one_line(text):
    return " ".join(text.split())


# ---- what comes back ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("quiz_format", FORMATS)
def test_a_platform_reads_what_the_teacher_approved(quiz_format, readers, tmp_path):
    path = write_quiz(tmp_path / "new folder" / "mill", [CHOICE, SHORT], quiz_format, TITLE)
    assert path.name == "mill" + FORMATS[quiz_format]
    choice, short = map(comparable, readers[quiz_format](path))
    assert choice == comparable(
        (
            "Mill 1", "The mill ground flour until 1931.\n\nWhen did the mill stop grinding?",
            ["1931"], ["1905", "1912", "1948"], "See the second sentence.", ["mill", "dates"],
        )
    )  # fmt: skip
    assert short == comparable(("Mill 2", "What did it grind?", ["flour", "Flour and bran"], [], "", []))


PIECES = [
    *"abB =~#{}:\\/%[]<>&'\",;@+-*`$", "\n", "\n\n", "\t", "::", "\\n", "//", "$CATEGORY: x", "%50%", "[html]", "####", "&amp;",
    "{=yes ~no}", "<b>", "]]>", "<![CDATA[", "<!--", "T", "FALSE", "é", "e\u0301", "ß", "語", "שלום", "\u202e", "\u00a0", "＝",
]  # fmt: skip
TEXTS = st.lists(st.sampled_from(PIECES), min_size=1, max_size=9).map("".join).filter(str.strip)
NOT_IN_TAGS = re.compile(r"[\[\]<>`\\]")  # Moodle allows none of them


@st.composite
def questions(draw):
    words = st.lists(TEXTS, min_size=1, max_size=5, unique_by=lambda t: one_line(t).casefold().replace("e\u0301", "é"))
    choices = [c.replace("->", "-") for c in draw(words)]
    few = draw(st.integers(1, len(choices)))
    tags = [t for t in (NOT_IN_TAGS.sub("", text).strip() for text in draw(st.lists(TEXTS, max_size=2))) if t]
    return QuizQuestion(
        draw(TEXTS), tuple(choices[:few]), tuple(choices[few:]), draw(TEXTS | st.just("")), draw(TEXTS),
        draw(TEXTS | st.just("")), tuple(tags),
    )  # fmt: skip


@pytest.mark.parametrize("quiz_format", FORMATS)
@settings(
    max_examples=40, deadline=None, derandomize=True, database=None, phases=[Phase.generate, Phase.shrink],
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)  # fmt: skip
@given(quiz=st.lists(questions(), min_size=1, max_size=5), title=TEXTS)
def test_no_text_breaks_a_format(quiz_format, readers, tmp_path, quiz, title):
    """Nothing is lost, nothing becomes markup, and no question becomes two, whatever signs the texts hold."""
    path = write_quiz(tmp_path / "quiz", quiz, quiz_format, title)
    assert [comparable(read) for read in readers[quiz_format](path)] == [expected(question) for question in quiz]


@pytest.mark.parametrize("quiz_format", FORMATS)
def test_a_question_cannot_smuggle_in_another(quiz_format, readers, tmp_path):
    smuggler = "Who?{=x}\r\n\r\n$CATEGORY: top\u2028\u2028::Two::Who else?{=y}\n\n// Three {T}\n\n<question type='essay'/>]]>"
    quiz = [replace(SHORT, question=smuggler, context=smuggler, name=smuggler, feedback=smuggler, answers=(smuggler,)), CHOICE]
    assert len(list(readers[quiz_format](write_quiz(tmp_path / "quiz", quiz, quiz_format, TITLE)))) == 2


@pytest.mark.parametrize("quiz_format", FORMATS)
def test_characters_that_xml_forbids_are_left_out_of_every_format(quiz_format, readers, tmp_path):
    quiz = [replace(SHORT, question="\ufeffWhat\x00 did\x1b it\ud800 grind\ufffe?\x0bSay!", answers=("fl\x08our",))]
    (read,) = readers[quiz_format](write_quiz(tmp_path / "quiz", quiz, quiz_format, TITLE))
    assert read[1:3] == ("What did it grind?\nSay!", ["flour"])


# ---- choices and answers --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("quiz_format", ["gift", "moodle_xml", "qti"])
def test_the_place_of_a_choice_does_not_tell_whether_it_is_right(quiz_format, tmp_path):
    def order(right):
        wrong = tuple(year for year in ("1931", "1905", "1948") if year != right)
        path = write_quiz(tmp_path / "quiz", [QuizQuestion("When?", (right,), wrong, name="Q")], quiz_format, TITLE)
        return re.findall(rb"1931|1905|1948", path.read_bytes())  # a package is not compressed

    assert order("1931") == order("1905") == order("1948") == [b"1905", b"1931", b"1948"]


def test_players_are_asked_to_shuffle_choices(tmp_path):
    moodle = etree.parse(write_quiz(tmp_path / "quiz", [CHOICE], "moodle_xml", TITLE))
    assert moodle.xpath("//shuffleanswers/text()") == ["true"]
    item = items(write_quiz(tmp_path / "quiz", [CHOICE], "qti", TITLE))[0]
    assert item.xpath("//q:choiceInteraction/@shuffle", namespaces=QTI) == ["true"]


def test_an_asterisk_in_a_short_answer_is_an_asterisk(tmp_path):
    """In Moodle a bare one would accept any text."""
    quiz = [replace(SHORT, answers=("2*3",)), replace(CHOICE, answers=("2*3",))]
    moodle = etree.parse(write_quiz(tmp_path / "quiz", quiz, "moodle_xml", TITLE))
    assert moodle.xpath("//answer[@fraction = 100]/text/text()") == [r"2\*3", "2*3"]
    gift = write_quiz(tmp_path / "quiz", quiz, "gift", TITLE).read_text()
    assert r"=2\\*3" in gift and "=2*3" in gift


def test_a_short_answer_may_be_written_in_capitals(tmp_path):
    assert etree.parse(write_quiz(tmp_path / "quiz", [SHORT], "moodle_xml", TITLE)).xpath("//usecase/text()") == ["0"]
    (item,) = items(write_quiz(tmp_path / "quiz", [SHORT], "qti", TITLE))
    assert set(item.xpath("//q:mapEntry/@caseSensitive", namespaces=QTI)) == {"false"}


def test_a_question_without_a_name_goes_by_the_title_and_its_number(readers, tmp_path):
    path = write_quiz(tmp_path / "quiz", [CHOICE, replace(SHORT, name=" ")], "csv", TITLE)
    assert [name for name, *_ in read_csv(path)] == ["Mill 1", "The mill on the Arle 2"]


# ---- single formats -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("start", ["=", "+", "-", "@", "＝", "'="])
def test_a_spreadsheet_takes_no_cell_for_a_formula(start, tmp_path):
    bad = f"{start}HYPERLINK(1)"
    quiz = [QuizQuestion(bad, (bad, f"{bad} 1"), (f"{bad} 2",), bad, bad, bad, (bad,))]
    path = write_quiz(tmp_path / "quiz", quiz, "csv", TITLE)
    header, row = csv.reader(io.StringIO(path.read_text(encoding="utf-8")))
    assert header == ["name", "question", "answer", "other_answers", "distractor_1", "context", "feedback", "tags"]
    assert all(text.startswith("'") and text[1:].startswith(bad) for text in row)


def test_gift_refuses_what_it_would_read_as_a_pair_to_match(readers, tmp_path):
    quiz = [CHOICE, replace(SHORT, answers=("A -> B",))]
    with pytest.raises(ConfigurationError, match="Question 2 has '->' in an answer.*moodle_xml or qti"):
        write_quiz(tmp_path / "quiz", quiz, "gift", TITLE)
    elsewhere = replace(CHOICE, question="A -> B?", feedback="A -> B", distractors=("A -> C",))
    (read,) = readers["gift"](write_quiz(tmp_path / "quiz", [elsewhere], "gift", TITLE))
    assert read[3:5] == (["A -> C"], "A -> B")


def test_a_tag_in_gift_has_no_sign_that_ends_it_or_that_moodle_takes_from_no_tag(readers, tmp_path):
    quiz = [replace(SHORT, tags=("a] [tag:b", "<i>`c\\", "[]"))]
    (read,) = readers["gift"](write_quiz(tmp_path / "quiz", quiz, "gift", TITLE))
    assert read[-1] == ["a tag:b", "i c"]


def test_moodle_files_the_quiz_under_its_title(parse_gift, tmp_path):
    title = "Mills / water\\wind"
    moodle = etree.parse(write_quiz(tmp_path / "quiz", [SHORT], "moodle_xml", title))
    assert moodle.xpath("string(//category/text)") == "Mills // water\\wind"  # / alone is a category within
    gift = write_quiz(tmp_path / "quiz", [SHORT], "gift", title).read_text()
    assert parse_gift(gift)[0]["title"] == "Mills // water\\\\wind"


def test_the_same_quiz_gives_the_same_package_and_another_quiz_other_identifiers(tmp_path):
    one, same = (write_quiz(tmp_path / name, [CHOICE, SHORT], "qti", TITLE) for name in ("one", "same"))
    other = write_quiz(tmp_path / "other", [SHORT, CHOICE], "qti", TITLE)
    assert one.read_bytes() == same.read_bytes()
    assert not {i.get("identifier") for i in items(one)} & {i.get("identifier") for i in items(other)}


def test_the_manifest_of_a_package_ties_test_and_items_together(tmp_path):
    package = zipfile.ZipFile(write_quiz(tmp_path / "quiz", [CHOICE, SHORT], "qti", TITLE))
    assert package.namelist()[0] == "imsmanifest.xml"
    manifest = etree.fromstring(package.read("imsmanifest.xml"))
    identifiers = manifest.xpath("//@identifier")
    assert len(set(identifiers)) == len(identifiers) == 4
    test, *rest = manifest.iterfind(".//c:resource", PACKAGE)
    assert test.xpath("c:dependency/@identifierref", namespaces=PACKAGE) == [r.get("identifier") for r in rest]
    for resource in rest:
        assert etree.fromstring(package.read(resource.get("href"))).get("identifier") == resource.get("identifier")


def test_the_package_is_scored_by_the_templates_of_the_standard(tmp_path):
    choice, short = items(write_quiz(tmp_path / "quiz", [CHOICE, SHORT], "qti", TITLE))
    assert choice.xpath("string(q:responseProcessing/@template)", namespaces=QTI).endswith("/match_correct")
    assert short.xpath("string(q:responseProcessing/@template)", namespaces=QTI).endswith("/map_response")


def test_a_converter_from_qti_reads_the_package(tmp_path):
    """onyx2moodle was written for the packages of another exporter."""
    parser = pytest.importorskip("onyx2moodle.parser")
    package = zipfile.ZipFile(write_quiz(tmp_path / "quiz", [CHOICE, SHORT], "qti", TITLE))
    names = [n for n in package.namelist() if n.startswith("question_")]
    package.extractall(tmp_path)
    choice, short = (parser.parse_item(tmp_path / name) for name in names)
    (interaction,) = choice.interactions
    right = choice.response_decls["RESPONSE"].correct_values
    assert interaction.shuffle and [c.html for c in interaction.choices if c.identifier in right] == ["1931"]
    assert short.response_decls["RESPONSE"].mapping == {"flour": 1.0, "Flour and bran": 1.0}


def items(path):
    package = zipfile.ZipFile(path)
    return [etree.fromstring(package.read(name)) for name in package.namelist() if name.startswith("question_")]


# ---- refusals -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "question, found",
    [
        (replace(SHORT, question=" \n"), "has no text"),
        (replace(SHORT, answers=()), "has no answer"),
        (replace(SHORT, answers=("flour", "\x00")), "has no answer, or an empty one"),
        (replace(CHOICE, distractors=("1905", " ")), "has an empty distractor"),
        (replace(CHOICE, answers=("The  Mill",), distractors=("x", "the mill ")), "has a distractor that equals an answer"),
        (replace(CHOICE, answers=("1931", "31"), distractors=("31",)), "has a distractor that equals an answer"),
        (replace(CHOICE, answers=("café",), distractors=("cafe\u0301",)), "has a distractor that equals an answer"),
        (replace(CHOICE, distractors=("Bran", "bran")), "has the same distractor twice"),
    ],
)
def test_a_question_that_nobody_could_be_asked_is_named_by_its_number(question, found, tmp_path):
    with pytest.raises(ConfigurationError, match=f"Question 2 {found}.*Expected: ") as raised:
        write_quiz(tmp_path / "quiz", [CHOICE, question], "csv", TITLE)
    texts = [question.question, *question.answers, *question.distractors, question.context]
    assert not any(text in str(raised.value) for text in texts if text.strip() and text not in ("x", "\x00"))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "quiz, quiz_format, title, found",
    [
        ([SHORT], "docx", TITLE, "'docx' is unknown. Expected: csv, gift, moodle_xml, qti"),
        ([], "gift", TITLE, "has no questions"),
        ([SHORT], "gift", "\n", "has no title"),
    ],
)
def test_a_quiz_that_cannot_be_written_says_why(quiz, quiz_format, title, found, tmp_path):
    with pytest.raises(ConfigurationError, match=found):
        write_quiz(tmp_path / "quiz", quiz, quiz_format, title)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name, written", [("v1.2", "v1.2.csv"), ("mill.CSV", "mill.CSV"), ("mill.xml", "mill.xml.csv")])
def test_a_file_gets_the_ending_of_its_format(name, written, tmp_path):
    assert write_quiz(tmp_path / name, [SHORT], "csv", TITLE) == tmp_path / written
