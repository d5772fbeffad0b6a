"""The best plan there is, by OR-Tools' CP-SAT: reads one problem a line as JSON, answers with one line each.

Runs in a virtual environment of its own (`make oracle`), and imports nothing of the project: a second opinion must not share
its mistakes. A problem: {"hosts": [[mib, vcpus], ...], "vms": [{"mib", "vcpus", "priority", "hosts": [numbers]}, ...],
"groups": [{"affine", "hard", "vms": [numbers], "stays": [hosts]}, ...]}. A stay of -1 is on a host that is no target.
The answer: {"placed": {priority: count}, "broken": soft groups that are not kept, "proven": it is the best, not just good}.
"""

from __future__ import annotations

import json
import sys
from typing import Any

from ortools.sat.python import cp_model

LIMIT_S = 20.0


class Oracle:
    """One problem, solved in steps: as many VMs as possible for each priority from the highest on, then soft groups."""

    def __init__(self, problem: dict[str, Any]) -> None:
        self.problem, self.model, self.proven = problem, cp_model.CpModel(), True
        self.at = [{h: self.model.new_bool_var("") for h in vm["hosts"]} for vm in problem["vms"]]
        self.placed = [sum(at.values()) for at in self.at]
        for placed in self.placed:
            self.model.add(placed <= 1)
        for number, (mib, vcpus) in enumerate(problem["hosts"]):
            for size, room in (("mib", mib), ("vcpus", vcpus)):
                held = [vm[size] * at[number] for vm, at in zip(problem["vms"], self.at, strict=True) if number in at]
                self.model.add(sum(held) <= max(0, int(room)))
        self.broken = [self._group(group) for group in problem["groups"]]

    def _group(self, group: dict[str, Any]) -> Any:
        """Its variable: 1 where the group is not kept; a hard one is kept."""
        model, broken = self.model, self.model.new_bool_var("")
        stays = set(group["stays"])
        if group["hard"]:
            model.add(broken == 0)
        vms = group["vms"]
        if not group["affine"]:
            for number in range(len(self.problem["hosts"])):
                here = sum(self.at[vm][number] for vm in vms if number in self.at[vm])
                model.add(here + (number in stays) <= 1).only_enforce_if(~broken)
            return broken
        home = {h: model.new_bool_var("") for h in range(len(self.problem["hosts"]))}
        model.add(sum(home.values()) <= 1)
        for vm in vms:
            for number, variable in self.at[vm].items():
                model.add(variable <= home[number]).only_enforce_if(~broken)
                if stays - {number}:
                    model.add(variable == 0).only_enforce_if(~broken)
        return broken

    def best(self, goal: Any, *, most: bool) -> int:
        """The goal's best value, which is kept from then on."""
        (self.model.maximize if most else self.model.minimize)(goal)
        solver = cp_model.CpSolver()
        solver.parameters.max_time_in_seconds = LIMIT_S
        solver.parameters.num_workers = 1
        self.proven &= solver.solve(self.model) == cp_model.OPTIMAL
        value: int = round(solver.objective_value)
        self.model.add(goal == value)
        return value

    def answer(self) -> dict[str, Any]:
        """What can be had."""
        vms = self.problem["vms"]
        placed = {}
        for priority in sorted({vm["priority"] for vm in vms}, reverse=True):
            goal = sum(p for p, vm in zip(self.placed, vms, strict=True) if vm["priority"] == priority)
            placed[str(priority)] = self.best(goal, most=True) if not isinstance(goal, int) else 0
        broken = self.best(sum(self.broken), most=False) if self.broken else 0
        return {"placed": placed, "broken": broken, "proven": self.proven}


def main() -> int:
    """Until the end of the input."""
    for line in sys.stdin:
        print(json.dumps(Oracle(json.loads(line)).answer()), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
