"""What the official Python client of DogStatsD writes for the input of golden.go: `golden.py PORT CONTAINER`.

External data and cardinality come from the environment, as the client takes them, but for the cardinality, which it
takes as an argument only.
"""

import os
import sys

from datadog.dogstatsd import DogStatsd

port, container = sys.argv[1:]
client = DogStatsd(
    host="127.0.0.1",
    port=int(port),
    namespace="app",
    constant_tags=["env:test"],
    container_id=container,
    cardinality=os.environ.get("DD_CARDINALITY"),
    disable_telemetry=True,
)
then = 1656581400
tags = ["path:/a", "zone:eu"]
client.count("jobs", 3, tags)
client.count("untagged", 1)
client.count_with_timestamp("jobs.timed", 4, then, tags)
client.gauge("level", 1.5, tags)
client.gauge("level.negative", -5, tags)
client.gauge_with_timestamp("level.timed", 2.25, then, tags)
client.set("users", "u-123", tags)
client.histogram("bytes", 512, tags)
client.distribution("size", 0.1, tags)
client.timing("took", 320, tags)
client.event(
    "deploy é",
    "line 1\nline 2|x",
    alert_type="warning",
    aggregation_key="key",
    source_type_name="ci",
    date_happened=then,
    priority="low",
    tags=tags,
    hostname="host-1",
)
client.event("t", "x")
client.service_check(
    "db.up", DogStatsd.CRITICAL, tags=tags, timestamp=then, hostname="host-1", message="refused\nm: twice"
)
client.service_check("db.up", DogStatsd.OK)
client.count("end", 1)
