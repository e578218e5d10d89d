"""What schemathesis is told about this server: half of the ids and names that it makes up are
exchanged for ones that exist, so that requests get past the first check. What it made wrong on
purpose stays as it is."""

import json
import os
import random

import schemathesis

KNOWN = json.loads(os.environ["EVERGRANT_KNOWN"])  # values by the name of the member


def exchanged(members, draw):
    if not isinstance(members, dict):
        return members
    return {name: draw.choice(KNOWN[name]) if name in KNOWN and draw.random() < 0.5 else value for name, value in members.items()}


@schemathesis.hook
def before_call(context, case, kwargs):
    if case.meta is None or not case.meta.generation.mode.is_positive:
        return
    draw = random.Random(repr((case.path_parameters, case.query, case.body)))  # the same for the same case
    case.path_parameters = exchanged(case.path_parameters, draw)
    case.query = exchanged(case.query, draw)
    case.body = exchanged(case.body, draw)
