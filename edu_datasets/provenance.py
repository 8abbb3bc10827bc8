"""Where a data set comes from and what was done to it before anything learns of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(kw_only=True)
class Provenance:
    """What every data set of a recipe says of itself beside its `name`.

    Attributes:
        split_protocol: How the splits were made, in words for the card.
        licence: The licence as the source states it.
        rows_read: Rows of the files (questions, dialogues, answers), before anything was left out.
        rejected: (file, row, reason) of each row that cannot be used.
        left_out: Reason -> number of good rows that the protocol leaves out.
        warnings: What a reader of the results must know of the data.
    """

    split_protocol: str = ""
    licence: str = "not stated"
    rows_read: int = 0
    rejected: list[tuple[str, int, str]] = field(default_factory=list)
    left_out: dict[str, int] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)

    def source_facts(self, rows: Mapping[str, Any]) -> dict:
        """What a report says of the source; no id of a learner.

        Args:
            rows: Counts of what the data set holds.
        """
        return {
            "dataset_name": self.name, "dataset_license": self.licence, "split_protocol": self.split_protocol.strip(),
            "rows": {**rows, "read": self.rows_read, "rejected": len(self.rejected)}, "rejected_rows": self.rejected,
            "left_out": self.left_out, "warnings": self.warnings,
        }  # fmt: skip
