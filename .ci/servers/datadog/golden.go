// What the official Go client of DogStatsD writes for a fixed input: `golden ADDRESS CONTAINER` sends it there over UDP,
// one message a packet and at last a count called `end`. The tests record the same input with the crate and compare.
// With a third argument, `telemetry`, it sends little, and what it tells of itself until it is killed.
//
// External data and cardinality come from the environment, as the client takes them.
package main

import (
	"fmt"
	"os"
	"time"

	"github.com/DataDog/datadog-go/v5/statsd"
)

func main() {
	if len(os.Args) != 3 && !(len(os.Args) == 4 && os.Args[3] == "telemetry") {
		fail(fmt.Errorf("usage: golden ADDRESS CONTAINER [telemetry]"))
	}
	address, container := os.Args[1], os.Args[2]
	single := []statsd.Option{
		statsd.WithNamespace("app."),
		statsd.WithTags([]string{"env:test"}),
		statsd.WithContainerID(container),
		statsd.WithMaxMessagesPerPayload(1),
		statsd.WithoutTelemetry(),
		// Its workers overtake each other.
		statsd.WithWorkersCount(1),
	}
	if len(os.Args) == 4 {
		client, err := statsd.New(address, statsd.WithNamespace("app."), statsd.WithTags([]string{"env:test"}),
			statsd.WithContainerID(container), statsd.WithMaxMessagesPerPayload(1), statsd.WithWorkersCount(1))
		fail(err)
		fail(client.Count("jobs", 3, nil, 1))
		// It tells of itself every ten seconds.
		select {}
	}
	// The first does not aggregate, so that each call is a message.
	each(address, append(single, statsd.WithoutClientSideAggregation()), func(client *statsd.Client) []error {
		then := time.Unix(1656581400, 0)
		tags := []string{"path:/a", "zone:eu"}
		return []error{
			client.Count("jobs", 3, tags, 1),
			client.Count("untagged", 1, nil, 1),
			client.CountWithTimestamp("jobs.timed", 4, tags, 1, then),
			client.Gauge("level", 1.5, tags, 1),
			client.Gauge("level.negative", -5, tags, 1),
			client.Gauge("level.large", 1e21, tags, 1),
			client.Gauge("level.small", 1e-7, tags, 1),
			client.GaugeWithTimestamp("level.timed", 2.25, tags, 1, then),
			client.Set("users", "u-123", tags, 1),
			client.Histogram("bytes", 512, tags, 1),
			client.Distribution("size", 0.1, tags, 1),
			client.Timing("took", 320*time.Millisecond, tags, 1),
			client.Event(&statsd.Event{
				Title: "deploy é", Text: "line 1\nline 2|x", Timestamp: then, Hostname: "host-1", AggregationKey: "key",
				Priority: statsd.Low, SourceTypeName: "ci", AlertType: statsd.Warning, Tags: tags,
			}),
			client.Event(&statsd.Event{Title: "t", Text: "x"}),
			client.ServiceCheck(&statsd.ServiceCheck{
				Name: "db.up", Status: statsd.Critical, Timestamp: then, Hostname: "host-1", Message: "refused\nm: twice",
				Tags: tags,
			}),
			client.ServiceCheck(&statsd.ServiceCheck{Name: "db.up", Status: statsd.Ok}),
		}
	})
	// The second packs the values of a context.
	each(address, append(single, statsd.WithExtendedClientSideAggregation()), func(client *statsd.Client) []error {
		var errors []error
		for _, value := range []float64{1, 2.5, 3, 0.1} {
			errors = append(errors, client.Distribution("size.packed", value, []string{"zone:eu"}, 1))
		}
		return errors
	})
	each(address, append(single, statsd.WithoutClientSideAggregation()), func(client *statsd.Client) []error {
		return []error{client.Count("end", 1, nil, 1)}
	})
}

// Closing a client sends what it has.
func each(address string, options []statsd.Option, send func(*statsd.Client) []error) {
	client, err := statsd.New(address, options...)
	fail(err)
	for _, err := range send(client) {
		fail(err)
	}
	fail(client.Close())
}

func fail(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
