"""Talk to a tutor that `recipes/qa_tutoring.py` has trained: a folder, or a Hub id.

    python recipes/chat.py --model runs/qa_tutoring --problem "Work out 1/2 + 1/3." --solution 5/6
    python recipes/chat.py --model runs/qa_tutoring --context_file lesson.txt --mastery_file mastery.csv --learner L009

Write as the learner would; the tutor answers with its move in brackets. `/move hint` asks for a move in the next turn, `/new`
begins the dialogue anew, `/quit` ends it. With --demo (extra 'demo') the same is a page in the browser, on this machine alone.
Nothing that is said is written anywhere.
"""

import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from edu_datasets import mastery_in_words, read_mastery
from trainers.parser import ConfigurationError, RecipeParser, run
from trainers.qa_tutoring import Tutor, load

OWN_CHOICE = "the tutor's choice"


@dataclass
class ChatArguments:
    """Which tutor, and what it is told."""

    _argument_group_name = "chat"

    model: str = field(metadata={"help": "folder of a trained tutor, or a Hub id"})
    problem: str = field(default="", metadata={"help": "the exercise"})
    solution: str = field(default="", metadata={"help": "its solution, for the tutor alone"})
    context_file: str | None = field(default=None, metadata={"help": "a text file with the course text"})
    profile: str = field(default="", metadata={"help": "what is known of the learner"})
    mastery_file: str | None = field(default=None, metadata={"help": "mastery.csv of knowledge_tracing"})
    learner: str | None = field(default=None, metadata={"help": "whose mastery it is, as the file names her or him"})
    temperature: float = field(default=0.0, metadata={"help": "0 always says the most probable; 0.7 varies"})
    seed: int = field(default=42, metadata={"help": "of what varies"})
    demo: bool = field(default=False, metadata={"help": "open a page in the browser instead (extra 'demo')"})
    port: int = field(default=7860, metadata={"help": "where the page is served"})
    model_revision: str = field(default="main", metadata={"help": "branch, tag or commit on the Hub"})


def main(argv: list[str] | None = None) -> None:
    """Load the tutor and talk until the learner ends it."""
    # 1. Options
    (args,) = RecipeParser((ChatArguments,), description=__doc__).parse(argv)
    logging.basicConfig(level=logging.INFO, format="%(message)s")

    # 2. What the tutor is told
    dialogue = {"problem": args.problem, "solution": args.solution, "profile": args.profile, "context": "", "mastery": ""}
    if args.context_file:
        if not Path(args.context_file).is_file():
            raise ConfigurationError(f"--context_file: there is no file {args.context_file}.")
        dialogue["context"] = Path(args.context_file).read_text(encoding="utf-8")
    if (args.mastery_file is None) != (args.learner is None):
        raise ConfigurationError("--mastery_file and --learner go together: the file, and whose mastery in it.")
    if args.mastery_file:
        mastery = mastery_in_words(read_mastery(args.mastery_file))
        if args.learner not in mastery:
            raise ConfigurationError(f"--learner: {Path(args.mastery_file).name} does not know this learner.")
        dialogue["mastery"] = mastery[args.learner]

    # 3. Talk
    tutor = load(args.model, args.model_revision)
    if args.demo:
        build_page(tutor, dialogue, args.temperature, args.seed).launch(
            server_name="127.0.0.1", server_port=args.port, share=False
        )
    else:
        talk(tutor, dialogue, args.temperature, args.seed)


def talk(
    tutor: Tutor, dialogue: dict, temperature: float = 0.0, seed: int = 42, read: Callable[[str], str] = input,
    write: Callable[[str], None] = print,
) -> list[dict]:  # fmt: skip
    """A conversation in the terminal, until /quit or the end of the input. Returns its turns."""
    moves = f"Moves to ask for with /move: {', '.join(tutor.settings.moves)}. " if tutor.settings.moves else ""
    write(f"{dialogue['problem'] or 'No exercise was given.'}\n{moves}/new begins anew, /quit ends.\n")
    turns: list[dict] = []
    move = None
    while True:
        try:
            said = read("learner: ").strip()
        except (EOFError, KeyboardInterrupt):
            return turns
        command, _, word = said.partition(" ")
        if command == "/quit":
            return turns
        if command == "/new":
            turns = []
        elif command == "/move":
            move = word.strip() if word.strip() in tutor.settings.moves else None
            write(
                f"next move: {move}" if move else f"one of {', '.join(tutor.settings.moves) or 'none: this tutor knows no moves'}"
            )
        elif said:
            asked = [*turns, {"role": "learner", "text": said, "move": ""}]
            try:
                turns = [*asked, answer(tutor, dialogue, asked, move, temperature, seed + len(asked))]
            except ConfigurationError as error:  # a turn too long for the tutor's window ends no dialogue
                write(f"{error}\n")
                continue
            write(f"tutor{' [' + turns[-1]['move'] + ']' if turns[-1]['move'] else ''}: {turns[-1]['text']}\n")
            move = None


def answer(tutor: Tutor, dialogue: dict, turns: list[dict], move: str | None, temperature: float, seed: int) -> dict:
    """The tutor's next turn."""
    (reply,) = tutor.reply([dialogue | {"turns": turns}], [move], temperature=temperature, seed=seed)
    return {"role": "tutor", "text": reply.text, "move": reply.move}


def build_page(tutor: Tutor, dialogue: dict, temperature: float = 0.0, seed: int = 42):
    """A page with the exercise, the conversation and the moves (`gradio.Blocks`).

    Raises:
        ConfigurationError: Gradio is not installed.
    """
    try:
        import gradio as gr
    except ImportError as error:
        raise ConfigurationError("--demo needs gradio: pip install 'edu-recipes[demo]'.") from error

    def say(text: str, shown: list[dict], problem: str, solution: str, move: str, turns: list[dict]):
        if not text.strip():
            return "", shown, turns
        told = dialogue | {"problem": problem, "solution": solution}
        asked = [*turns, {"role": "learner", "text": text.strip(), "move": ""}]
        try:
            wanted = None if move == OWN_CHOICE else move
            turns = [*asked, answer(tutor, told, asked, wanted, temperature, seed + len(asked))]
        except ConfigurationError as error:
            raise gr.Error(str(error)) from error
        said = f"[{turns[-1]['move']}] {turns[-1]['text']}" if turns[-1]["move"] else turns[-1]["text"]
        more = [{"role": "user", "content": text.strip()}, {"role": "assistant", "content": said}]
        return "", [*shown, *more], turns

    with gr.Blocks(title="Tutor", analytics_enabled=False) as page:
        with gr.Row():
            problem = gr.Textbox(dialogue["problem"], label="Exercise", lines=2)
            solution = gr.Textbox(dialogue["solution"], label="Solution, for the tutor alone", type="password")
            move = gr.Dropdown([OWN_CHOICE, *tutor.settings.moves], label="Move")
        shown, turns = gr.Chatbot(label="Dialogue", height=420), gr.State([])
        text = gr.Textbox(label="Learner", placeholder="Write as the learner would", autofocus=True)
        text.submit(say, [text, shown, problem, solution, move, turns], [text, shown, turns])
        gr.Button("New dialogue").click(lambda: ([], []), outputs=[shown, turns])
    return page


if __name__ == "__main__":
    run(main)
