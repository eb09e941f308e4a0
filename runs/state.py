"""How far a run is: all that its checkpoints keep besides parameters and moments."""

import json
from dataclasses import asdict, dataclass, field, fields
from typing import Optional


@dataclass
class RunState:
    """config: the model's configuration; options: the command line's; lists: what the lists were
    like when the run began (see describe_list); pictures: how many it trains on; left_out:
    indices of the lists' pictures that --skip_bad leaves out; rows: one a finished epoch (see
    curves.write_log); sums: of loss and top-1 since the last row, and how many updates they are of;
    group_batch: pictures that all processes together take at a time; precision: see Precision;
    cycle_start: the iteration at which the learning rate began (again, where a finished run was
    given more epochs).
    """

    config: dict
    options: dict
    lists: dict
    pictures: int
    left_out: dict = field(default_factory=dict)
    iteration: int = 0
    rows: list = field(default_factory=list)
    sums: list = field(default_factory=lambda: [0.0, 0.0, 0])
    group_batch: Optional[int] = None
    precision: Optional[list] = None
    cycle_start: int = 0

    def add(self, step):
        """Count one update."""
        loss, top1, count = self.sums
        self.sums = [loss + step.loss, top1 + step.top1, count + 1]
        self.iteration += 1

    def close_epoch(self, row):
        self.rows.append(row)
        self.sums = [0.0, 0.0, 0]

    def to_json(self):
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text):
        """The inverse. Raises ValueError for what is no such state."""
        found = json.loads(text)
        if not isinstance(found, dict) or set(found) != {entry.name for entry in fields(cls)}:
            raise ValueError('it does not tell how far the run is')
        if type(found['iteration']) is not int:
            raise ValueError('it does not tell its iteration')
        return cls(**found)
