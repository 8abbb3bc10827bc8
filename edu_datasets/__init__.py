"""What the data is: load, check, split. Knows nothing of torch or of a Trainer."""

from .concept_graph import ConceptGraph
from .concepts import ConceptColumns, ConceptDataset, load_concepts
from .dialogues import DialogueColumns, DialogueDataset, every_reply, load_dialogues, read_dialogues
from .errors import DataError
from .essays import EssayColumns, EssayDataset, load_essays
from .mastery import add_mastery, mastery_in_words, read_mastery
from .passages import PassageColumns, PassageDataset, add_unanswerable, load_passages, read_passages
from .paths import PathDataset, load_paths
from .records import RecordColumns, RecordDataset, load_records
from .resources import ResourceColumns, ResourceDataset, load_resources
from .responses import ResponseColumns, ResponseDataset, load_responses
from .splits import halve_validation

__all__ = [
    "ConceptColumns",
    "ConceptDataset",
    "ConceptGraph",
    "DataError",
    "DialogueColumns",
    "DialogueDataset",
    "EssayColumns",
    "EssayDataset",
    "PathDataset",
    "PassageColumns",
    "PassageDataset",
    "RecordColumns",
    "RecordDataset",
    "ResourceColumns",
    "ResourceDataset",
    "ResponseColumns",
    "ResponseDataset",
    "add_mastery",
    "add_unanswerable",
    "every_reply",
    "halve_validation",
    "load_concepts",
    "load_dialogues",
    "load_essays",
    "load_paths",
    "load_passages",
    "load_records",
    "load_resources",
    "load_responses",
    "read_dialogues",
    "mastery_in_words",
    "read_mastery",
    "read_passages",
]
