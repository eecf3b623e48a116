"""Reads an exposition from standard input with the parsers of the official Python client.

Prints one JSON object a sample, in the shape that main.go beside this file prints. The only argument
is the content type of the reply: `application/openmetrics-text` takes the strict parser, anything
else the one for the classic text format. A syntax error is printed and ends the program with status 1.
"""

import json
import sys

from prometheus_client.openmetrics import parser as openmetrics_parser
from prometheus_client import parser as text_parser


def milliseconds(timestamp):
    return None if timestamp is None else round(float(timestamp) * 1000)


def exemplars(sample):
    if sample.exemplar is None:
        return []
    return [
        {
            "labels": sample.exemplar.labels,
            "value": repr(float(sample.exemplar.value)),
            "timestamp": milliseconds(sample.exemplar.timestamp),
        }
    ]


def objects(family):
    """The samples of one family, with the `_created` samples folded into the others as their start."""
    kept, starts = [], {}
    for sample in family.samples:
        if sample.name == family.name + "_created":
            starts[frozenset(sample.labels.items())] = milliseconds(sample.value)
        else:
            kept.append(sample)
    for sample in kept:
        labels = {name: value for name, value in sample.labels.items() if name not in ("le", "quantile")}
        yield {
            "family": family.name,
            "type": family.type,
            "help": family.documentation,
            "unit": family.unit,
            "name": sample.name,
            "labels": sample.labels,
            "value": repr(float(sample.value)),
            "timestamp": milliseconds(sample.timestamp),
            "start": starts.get(frozenset(labels.items()), 0),
            "exemplars": exemplars(sample),
        }


def main():
    if len(sys.argv) != 2:
        sys.exit("usage: parse.py CONTENT-TYPE < exposition")
    exposition = sys.stdin.buffer.read().decode("utf-8")
    strict = sys.argv[1].split(";")[0].strip() == "application/openmetrics-text"
    chosen = openmetrics_parser if strict else text_parser
    try:
        families = list(chosen.text_string_to_metric_families(exposition))
    except Exception as error:
        print(f"parse.py: {type(error).__name__}: {error}", file=sys.stderr)
        sys.exit(1)
    for family in families:
        for each in objects(family):
            # Escaped to ASCII, so that no locale stands between the two programs.
            print(json.dumps(each))


if __name__ == "__main__":
    main()
