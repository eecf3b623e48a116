"""Reads lines of CloudWatch's embedded metric format from standard input, as CloudWatch does.

Every line has to be a document by schema.json, beside this file, in the eyes of the package `jsonschema`, and by what the
specification says of the members that the schema cannot reach:
https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/CloudWatch_Embedded_Metric_Format_Specification.html.
What breaks a rule is printed and ends the program with status 1.

Prints one JSON object a metric, which is a name with one set of dimensions, and what came to it.
"""

import json
import math
import pathlib
import sys

import jsonschema

# Of an event, of which 26 bytes are not the message's:
# https://docs.aws.amazon.com/AmazonCloudWatchLogs/latest/APIReference/API_PutLogEvents.html
MOST_BYTES = 1024 * 1024 - 26
# https://docs.aws.amazon.com/AmazonCloudWatch/latest/APIReference/API_MetricDatum.html
MOST_NUMBER = 2.0**360


class Wrong(Exception):
    pass


def demand(holds, rule):
    if not holds:
        raise Wrong(rule)


def members(pairs):
    """An object's members, each of which may be there once."""
    found = dict(pairs)
    demand(len(found) == len(pairs), f"a member is there twice among {[name for name, _ in pairs]}")
    return found


def no_constant(word):
    raise Wrong(f"{word} is no JSON")


def number(value):
    demand(isinstance(value, (int, float)) and not isinstance(value, bool), f"{value!r} is no number")
    demand(abs(value) <= MOST_NUMBER, f"{value!r} is out of range")
    return value


def observed(target):
    """The values of a metric's target, each with how often it came, and their sum."""
    if isinstance(target, dict):
        # What AWS' own exporter writes of a histogram; the specification does not name it.
        demand(target.keys() == {"Values", "Counts", "Max", "Min", "Sum", "Count"}, f"{target.keys()} are no distribution")
        values, counts = [number(value) for value in target["Values"]], target["Counts"]
        demand(0 < len(values) <= 100 and len(values) == len(counts), f"{len(values)} values, {len(counts)} counts")
        demand(all(type(count) is int and count > 0 for count in counts), f"{counts} are no counts")
        demand(sum(counts) == target["Count"], f"{counts} do not come to {target['Count']}")
        demand(min(values) == target["Min"] and max(values) == target["Max"], "a least or a most that is not the values'")
        return list(zip(values, counts)), number(target["Sum"])
    values = target if isinstance(target, list) else [target]
    demand(len(values) <= 100, f"{len(values)} values")
    return [(number(value), 1) for value in values], math.fsum(values) if isinstance(target, list) else target


def dimension(root, name):
    value = root.get(name)
    demand(isinstance(value, str), f"the dimension {name!r} is {value!r}")
    # https://docs.aws.amazon.com/AmazonCloudWatch/latest/APIReference/API_Dimension.html
    for text in name, value:
        demand(text.strip() and all(" " <= each <= "~" for each in text), f"{name!r}: {value!r} is no dimension")
    demand(len(value) <= 1024 and not name.startswith(":"), f"{name!r}: {value!r} is no dimension")
    return value


def read(line, validator, metrics):
    demand(len(line) <= MOST_BYTES, f"{len(line)} bytes")
    text = line.decode("utf-8")
    demand(text.startswith("{") and text.endswith("}"), "there is more than an object")
    root = json.loads(text, object_pairs_hook=members, parse_constant=no_constant)
    validator.validate(root)
    metadata = root["_aws"]
    for directive in metadata["CloudWatchMetrics"]:
        sets = [{name: dimension(root, name) for name in names} for names in directive["Dimensions"]]
        for names, values in zip(directive["Dimensions"], sets):
            demand(len(names) == len(values), f"{names} has a dimension twice")
        demand(len({frozenset(values.items()) for values in sets}) == len(sets), f"{sets} has a set twice")
        for definition in directive["Metrics"]:
            name = definition["Name"]
            demand(len(name) <= 255 and name in root, f"the metric {name!r} is not there")
            came, total = observed(root[name])
            for values in sets:
                demand(name not in values, f"{name!r} is a metric and a dimension")
                key = (directive["Namespace"], name, frozenset(values.items()))
                metric = metrics.setdefault(key, {"times": [], "observed": [], "sums": [], "units": set()})
                metric["times"].append(metadata["Timestamp"])
                metric["observed"].extend(came)
                metric["sums"].append(total)
                metric["units"].add(definition.get("Unit"))


def main():
    schema = json.loads(pathlib.Path(__file__).with_name("schema.json").read_text())
    jsonschema.Draft202012Validator.check_schema(schema)
    validator = jsonschema.Draft202012Validator(schema)
    metrics = {}
    text = sys.stdin.buffer.read()
    lines = text.split(b"\n")
    if lines.pop() != b"":
        sys.exit("read.py: the last line has no end")
    for at, line in enumerate(lines, 1):
        try:
            read(line, validator, metrics)
        except (Wrong, ValueError, jsonschema.ValidationError) as error:
            message = error.message if isinstance(error, jsonschema.ValidationError) else str(error)
            sys.exit(f"read.py: line {at}: {message}: {line[:300]!r}")
    for (namespace, name, dimensions), metric in metrics.items():
        demand(len(metric["units"]) == 1, f"{name} has the units {metric['units']}")
        counts = [count for _, count in metric["observed"]]
        sums = metric["sums"]
        print(
            json.dumps(
                {
                    "namespace": namespace,
                    "name": name,
                    "dimensions": dict(dimensions),
                    "unit": metric["units"].pop(),
                    "times": metric["times"],
                    "observed": metric["observed"],
                    "samples": sum(counts),
                    # Integers stay what they are.
                    "sum": sum(sums) if all(type(each) is int for each in sums) else math.fsum(sums),
                    "sum_of_values": math.fsum(value * count for value, count in metric["observed"]),
                    "last": sums[-1],
                }
            )
        )


if __name__ == "__main__":
    main()
