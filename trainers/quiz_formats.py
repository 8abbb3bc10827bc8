"""A quiz in the formats that learning platforms import: csv, Moodle GIFT, Moodle XML, IMS QTI 2.1.

What a language model wrote and a teacher approved is text and stays text: no question can break out into markup, into a formula
of a spreadsheet or into another question. Characters that XML 1.0 has no place for are left out of every format, so that a quiz
reads the same in all of them; so is the byte order mark. Answers, distractors, names and tags are one line each.

- `csv`: one row a question; utf-8. Several accepted answers, and several tags, stand in their cell one a line. A cell that a
  spreadsheet would take for a formula gets an apostrophe in front, see `report.safe_cell`.
- `gift`: Moodle's text format with `[plain]` texts. It has no escape for the arrow `->`, so answers with one are refused.
- `moodle_xml`: what Moodle exports itself; texts have the format plain_text.
- `qti`: a content package of the IMS QTI 2.1 specification (IMS Content Packaging 1.2, its QTI 2.1 profile): a manifest, a test,
  and an item for each question, scored by the standard's own response processing templates.

In the two formats of Moodle the text that a question is about stands above it in the same field, as Moodle has no other.
Choices are written in the order of the alphabet, which tells nothing, and players are asked to shuffle them.
"""

from __future__ import annotations

import csv
import hashlib
import io
import re
import unicodedata
import xml.etree.ElementTree as ET
import zipfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from .parser import ConfigurationError
from .report import safe_cell

FORMATS = {"csv": ".csv", "gift": ".gift", "moodle_xml": ".xml", "qti": ".zip"}
"""What a format is called, and how its files end."""

FORBIDDEN = re.compile("[^\t\x20-\x7e\xa0-\ud7ff\ue000-\ufefe\uff00-\ufffd\U00010000-\U0010ffff]")
GIFT_ESCAPES = str.maketrans({**{control: f"\\{control}" for control in "~=#{}:\\"}, "\n": "\\n"})
NOT_IN_A_GIFT_TAG = str.maketrans(dict.fromkeys("[]<>`\\", " "))

QTI = "http://www.imsglobal.org/xsd/imsqti_v2p1"
QTI_TEMPLATES = "http://www.imsglobal.org/question/qti_v2p1/rptemplates"
CONTENT_PACKAGE = "http://www.imsglobal.org/xsd/imscp_v1p1"
LEARNING_OBJECT = "http://ltsc.ieee.org/xsd/LOM"


@dataclass(frozen=True)
class QuizQuestion:
    """One question of a quiz; multiple choice where it has distractors, a short answer to type where it has none.

    Attributes:
        question: What is asked; may have several lines.
        answers: One or more. The first stands among the choices; a short answer may be any of them, in small or capital letters.
        distractors: The wrong choices, each different from every answer.
        context: The text that the question is about, "" if it needs none.
        name: What a teacher finds it by, such as 'The mill on the Arle 1'; the title of the quiz and a number where it is "".
        feedback: What a learner reads after answering, right or wrong.
        tags: Words that a question bank files it under.
    """

    question: str
    answers: tuple[str, ...]
    distractors: tuple[str, ...] = ()
    context: str = ""
    name: str = ""
    feedback: str = ""
    tags: tuple[str, ...] = ()


def write_quiz(path: str | Path, questions: Iterable[QuizQuestion], quiz_format: str, title: str) -> Path:
    """Write a quiz for a learning platform. The same quiz gives the same bytes.

    Args:
        path: Where to; the ending of the format is added where it has another. Missing folders are made.
        questions: One or more, in the order in which they are to be asked.
        quiz_format: One of `FORMATS`.
        title: What the quiz, and the category that Moodle files it under, is called.

    Returns:
        The file that was written.

    Raises:
        ConfigurationError: The format is unknown, the quiz has no title or no question, or a question cannot be asked: it has no
            text, no answer, a distractor that is empty, that comes twice or that equals an answer (capitals and white space
            apart), or an answer that the format cannot hold. It names the question by its number, and nothing is written.
    """
    if quiz_format not in FORMATS:
        raise ConfigurationError(f"The quiz format {quiz_format!r} is unknown. Expected: {', '.join(FORMATS)}. Choose one.")
    if not (title := one_line(title)):
        raise ConfigurationError("The quiz has no title. Expected: a few words. Say what the quiz is about.")
    asked = [checked(question, number, title) for number, question in enumerate(questions, 1)]
    if not asked:
        raise ConfigurationError("The quiz has no questions. Expected: one or more. Approve some, then write the quiz.")
    content = WRITERS[quiz_format](asked, title)
    path = Path(path)
    if path.suffix.lower() != FORMATS[quiz_format]:
        path = path.with_name(path.name + FORMATS[quiz_format])
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


# ---- what all formats share -----------------------------------------------------------------------------------------


def checked(question: QuizQuestion, number: int, title: str) -> QuizQuestion:
    """`question` with tidy texts, a name, and no answer twice; ConfigurationError where nobody could be asked it."""
    answers, distractors = [one_line(a) for a in question.answers], [one_line(d) for d in question.distractors]
    right, wrong = [same(a) for a in answers], [same(d) for d in distractors]
    text = tidy(question.question)
    refuse_if(not text, number, "has no text", "what a learner is asked", "Write it, or leave the question out.")
    refuse_if(not right or "" in right, number, "has no answer, or an empty one", "one or more answers", "Write what is right.")
    refuse_if("" in wrong, number, "has an empty distractor", "words", "Write the distractor, or leave it out.")
    refuse_if(
        not set(right).isdisjoint(wrong), number, "has a distractor that equals an answer",
        "distractors that are wrong, whatever their capitals and spaces", "Change the distractor, or leave it out.",
    )  # fmt: skip
    refuse_if(
        len(set(wrong)) < len(wrong), number, "has the same distractor twice",
        "distractors that differ in more than capitals and spaces", "Change one of them, or leave it out.",
    )  # fmt: skip
    return QuizQuestion(
        question=text,
        answers=tuple(a for i, a in enumerate(answers) if right[i] not in right[:i]),
        distractors=tuple(distractors),
        context=tidy(question.context),
        name=one_line(question.name) or f"{title} {number}",
        feedback=tidy(question.feedback),
        tags=tuple(tag for tag in map(one_line, question.tags) if tag),
    )


def refuse_if(problem: bool, number: int, found: str, expected: str, fix: str) -> None:
    """ConfigurationError where there is a `problem` with question `number`; never with its text."""
    if problem:
        raise ConfigurationError(f"Question {number} {found}. Expected: {expected}. {fix}")


def tidy(text: str) -> str:
    """`text` without control characters, what XML 1.0 forbids, and outer white space; whatever ends a line is a newline."""
    return "\n".join(FORBIDDEN.sub("", line) for line in text.splitlines()).strip()


def one_line(text: str) -> str:
    """`text` as `tidy` leaves it, with one space for all white space."""
    return " ".join(tidy(text).split())


def same(text: str) -> str:
    """What is equal for answers that a learner would take for the same."""
    return unicodedata.normalize("NFC", text.casefold())


def choices(question: QuizQuestion) -> list[str]:
    """The right answer among the distractors, in an order that depends on the words alone."""
    return sorted((question.answers[0], *question.distractors), key=lambda choice: (choice.casefold(), choice))


def with_context(question: QuizQuestion) -> str:
    """The text that the question is about, an empty line, the question."""
    return f"{question.context}\n\n{question.question}".strip()


def add(parent: ET.Element, tag: str, text: str = "", **attributes: str) -> ET.Element:
    """A new last child of `parent`."""
    child = ET.SubElement(parent, tag, attributes)
    child.text = text or None
    return child


def as_xml(root: ET.Element) -> bytes:
    """A document, indented; utf-8."""
    ET.indent(root)
    return ET.tostring(root, encoding="utf-8", xml_declaration=True) + b"\n"


# ---- csv ------------------------------------------------------------------------------------------------------------


def as_csv(questions: list[QuizQuestion], title: str) -> bytes:
    """One row a question, as in RFC 4180 but for its line ends; the title is in no cell."""
    most = max(len(q.distractors) for q in questions)
    numbered = [f"distractor_{i}" for i in range(1, most + 1)]
    text = io.StringIO()
    rows = csv.writer(text, lineterminator="\n")
    rows.writerow(["name", "question", "answer", "other_answers", *numbered, "context", "feedback", "tags"])
    for q in questions:
        wrong = [*q.distractors, *[""] * (most - len(q.distractors))]
        values = [q.name, q.question, q.answers[0], "\n".join(q.answers[1:]), *wrong, q.context, q.feedback, "\n".join(q.tags)]
        rows.writerow(map(safe_cell, values))
    return text.getvalue().encode()


# ---- Moodle ---------------------------------------------------------------------------------------------------------


def as_gift(questions: list[QuizQuestion], title: str) -> bytes:
    """Moodle GIFT: a category and a block for each question, with an empty line between them and none within."""
    category = moodle_category(title).replace("\\", "\\\\")
    return ("\n\n".join([f"$CATEGORY: {category}", *(gift_block(q, i) for i, q in enumerate(questions, 1))]) + "\n").encode()


def gift_block(question: QuizQuestion, number: int) -> str:
    """One question; its tags stand in a comment above it, as in Moodle from 3.8 on."""
    right = question.answers[:1] if question.distractors else question.answers
    refuse_if(
        any("->" in answer for answer in right), number, "has '->' in an answer, where GIFT reads a pair to match",
        "answers without it in this format", "Write the quiz as moodle_xml or qti, or use another sign.",
    )  # fmt: skip
    tags = [one_line(tag.translate(NOT_IN_A_GIFT_TAG)) for tag in question.tags]
    lines = [f"// {' '.join(f'[tag:{tag}]' for tag in tags if tag)}"] if any(tags) else []
    lines.append(f"::{question.name.translate(GIFT_ESCAPES)}::[plain]{with_context(question).translate(GIFT_ESCAPES)}{{")
    if question.distractors:
        lines += [f"\t{'=' if choice == right[0] else '~'}{gift_text(choice)}" for choice in choices(question)]
    else:
        lines += [f"\t={gift_text(literal(answer))}" for answer in right]
    if question.feedback:
        lines.append(f"\t####{gift_text(question.feedback)}")
    return "\n".join([*lines, "}"])


def gift_text(text: str) -> str:
    """`text` in the format of its question; that is said again where it would be read as another format or as a percentage."""
    return ("[plain]" if text.startswith(("[", "%")) else "") + text.translate(GIFT_ESCAPES)


def as_moodle_xml(questions: list[QuizQuestion], title: str) -> bytes:
    """Moodle XML: a category and the questions in it."""
    quiz = ET.Element("quiz")
    moodle_text(add(quiz, "question", type="category"), "category", moodle_category(title))
    for q in questions:
        entry = add(quiz, "question", type="multichoice" if q.distractors else "shortanswer")
        moodle_text(entry, "name", q.name)
        moodle_text(entry, "questiontext", with_context(q), format="plain_text")
        if q.feedback:
            moodle_text(entry, "generalfeedback", q.feedback, format="plain_text")
        if q.distractors:
            add(entry, "single", "true")
            add(entry, "shuffleanswers", "true")
            for choice in choices(q):
                moodle_text(entry, "answer", choice, fraction="100" if choice == q.answers[0] else "0", format="plain_text")
        else:
            add(entry, "usecase", "0")
            for answer in q.answers:
                moodle_text(entry, "answer", literal(answer), fraction="100", format="plain_text")
        if q.tags:
            tags = add(entry, "tags")
            for tag in q.tags:
                moodle_text(tags, "tag", tag)
    return as_xml(quiz)


def moodle_text(parent: ET.Element, tag: str, text: str, **attributes: str) -> None:
    """An element as Moodle wraps texts."""
    add(add(parent, tag, **attributes), "text", text)


def moodle_category(title: str) -> str:
    """`title` as one category; a single slash would start a category within."""
    return title.replace("/", "//")


def literal(answer: str) -> str:
    """`answer` for Moodle's short answers, where a bare asterisk stands for any text."""
    return answer.replace("*", "\\*")


# ---- IMS QTI 2.1 ----------------------------------------------------------------------------------------------------


def as_qti(questions: list[QuizQuestion], title: str) -> bytes:
    """A content package. Identifiers hold a digest of the quiz, so that quizzes do not overwrite each other in an item bank."""
    digest = hashlib.sha256(repr((title, questions)).encode()).hexdigest()[:12]
    items = {f"question_{i}_{digest}": q for i, q in enumerate(questions, 1)}
    files = {"imsmanifest.xml": qti_manifest(items, digest), "quiz.xml": qti_test(items, digest, title)}
    files |= {f"{identifier}.xml": qti_item(question, identifier) for identifier, question in items.items()}
    package = io.BytesIO()
    with zipfile.ZipFile(package, "w") as archive:  # stored: compressed bytes differ between versions of zlib
        for name, root in files.items():
            entry = zipfile.ZipInfo(name)  # of 1980, whatever the day
            entry.create_system, entry.external_attr = 3, 0o644 << 16  # whatever the machine
            archive.writestr(entry, as_xml(root))
    return package.getvalue()


def qti_manifest(items: dict[str, QuizQuestion], digest: str) -> ET.Element:
    """What the package holds; tags are keywords of the item's metadata (IEEE Learning Object Metadata)."""
    manifest = ET.Element("manifest", xmlns=CONTENT_PACKAGE, identifier=f"package_{digest}")
    metadata = add(manifest, "metadata")
    add(metadata, "schema", "QTIv2.1 Package")
    add(metadata, "schemaversion", "1.0.0")
    add(manifest, "organizations")
    resources = add(manifest, "resources")
    test = add(resources, "resource", identifier=f"quiz_{digest}", type="imsqti_test_xmlv2p1", href="quiz.xml")
    add(test, "file", href="quiz.xml")
    for identifier, question in items.items():
        add(test, "dependency", identifierref=identifier)
        name = f"{identifier}.xml"
        item = add(resources, "resource", identifier=identifier, type="imsqti_item_xmlv2p1", href=name)
        if question.tags:
            general = add(add(add(item, "metadata"), "lom", xmlns=LEARNING_OBJECT), "general")
            for tag in question.tags:
                add(add(general, "keyword"), "string", tag)
        add(item, "file", href=name)
    return manifest


def qti_test(items: dict[str, QuizQuestion], digest: str, title: str) -> ET.Element:
    """All questions in one section that can be answered in any order; the score is the sum of theirs."""
    test = ET.Element("assessmentTest", xmlns=QTI, identifier=f"quiz_{digest}", title=title)
    add(test, "outcomeDeclaration", identifier="SCORE", cardinality="single", baseType="float")
    part = add(test, "testPart", identifier="part_1", navigationMode="nonlinear", submissionMode="individual")
    section = add(part, "assessmentSection", identifier="section_1", title=title, visible="true")
    for identifier in items:
        add(section, "assessmentItemRef", identifier=identifier, href=f"{identifier}.xml")
    score = add(add(test, "outcomeProcessing"), "setOutcomeValue", identifier="SCORE")
    add(add(score, "sum"), "testVariables", variableIdentifier="SCORE")
    return test


def qti_item(question: QuizQuestion, identifier: str) -> ET.Element:
    """One question: a choice, right or not, or a text entry, scored by the mapping of accepted answers."""
    item = ET.Element(
        "assessmentItem", xmlns=QTI, identifier=identifier, title=question.name, adaptive="false", timeDependent="false"
    )  # fmt: skip
    base_type, template = ("identifier", "match_correct") if question.distractors else ("string", "map_response")
    options = {choice: f"choice_{i}" for i, choice in enumerate(choices(question), 1)}
    response = add(item, "responseDeclaration", identifier="RESPONSE", cardinality="single", baseType=base_type)
    correct = question.answers[0]
    add(add(response, "correctResponse"), "value", options[correct] if question.distractors else correct)
    if not question.distractors:
        mapping = add(response, "mapping", defaultValue="0")
        for answer in question.answers:
            add(mapping, "mapEntry", mapKey=answer, mappedValue="1", caseSensitive="false")
    add(item, "outcomeDeclaration", identifier="SCORE", cardinality="single", baseType="float")
    if question.feedback:  # the templates set no feedback: its default shows it after every answer
        outcome = add(item, "outcomeDeclaration", identifier="FEEDBACK", cardinality="single", baseType="identifier")
        add(add(outcome, "defaultValue"), "value", "always")

    body = add(item, "itemBody")
    if question.context:
        add_lines(add(body, "p"), question.context)
    if question.distractors:
        interaction = add(body, "choiceInteraction", responseIdentifier="RESPONSE", shuffle="true", maxChoices="1")
        add_lines(add(interaction, "prompt"), question.question)
        for choice, option in options.items():
            add(interaction, "simpleChoice", choice, identifier=option)
    else:
        add_lines(add(body, "p"), question.question)
        add(add(body, "p"), "textEntryInteraction", responseIdentifier="RESPONSE")
    add(item, "responseProcessing", template=f"{QTI_TEMPLATES}/{template}")
    if question.feedback:
        shown = add(item, "modalFeedback", outcomeIdentifier="FEEDBACK", identifier="always", showHide="show")
        add_lines(shown, question.feedback)
    return item


def add_lines(element: ET.Element, text: str) -> None:
    """`text` as the content of `element`, with a line break wherever it has one."""
    element.text, *rest = text.split("\n")
    for line in rest:
        add(element, "br").tail = line


WRITERS = {"csv": as_csv, "gift": as_gift, "moodle_xml": as_moodle_xml, "qti": as_qti}
"""Format -> what makes its bytes of questions that `checked` has seen, and a title."""
