// What tests/guests/conformance does in Rust, in Go.
package main

import (
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"time"

	"pointsman"
)

type conformance struct {
	config []byte
}

func (plugin conformance) Process(event *pointsman.Event) pointsman.Verdict {
	answer, _ := event.Header("answer")
	switch string(answer) {
	case "pass":
		return pointsman.Pass()
	case "drop":
		return pointsman.Drop("asked")
	case "nothing":
		return pointsman.Emit()
	case "twice":
		return pointsman.Emit(pointsman.ToPort("first"), pointsman.ToPort("second"))
	case "rewrite":
		headers := []pointsman.Header{
			{Name: "a", Value: []byte("1")}, {Name: "a", Value: []byte{0xff, 0x00}}, {Name: "n"},
		}
		output := pointsman.Unchanged().WithKey([]byte("new key")).WithValue([]byte("new value"))
		return pointsman.Emit(output.WithHeaders(headers...).WithTimestampMs(1))
	case "nulls":
		return pointsman.Emit(pointsman.Unchanged().WithKey(nil).WithValue(nil).WithHeaders())
	case "empty":
		return pointsman.Emit(pointsman.Unchanged().WithKey([]byte{}).WithValue([]byte{}))
	case "retry":
		return pointsman.Retry("busy")
	case "retry-after":
		return pointsman.RetryAfter(1500*time.Millisecond, "busy")
	case "reject":
		return pointsman.Reject("bad", "not acceptable")
	case "trap":
		panic("asked to trap")
	}
	pointsman.Log(pointsman.Info, "described")
	pointsman.Count("described", 1)
	return pointsman.Emit(pointsman.Unchanged().WithValue([]byte(plugin.describe(event))))
}

func (plugin conformance) describe(event *pointsman.Event) string {
	var text strings.Builder
	fmt.Fprintf(&text, "%s|%s|%d|%d|%d|%d|%s|%s|", inHex(plugin.config), inHex([]byte(event.Topic)), event.Partition,
		event.Offset, event.TimestampMs, event.Attempt, inHex(event.Key), inHex(event.Value))
	for _, header := range event.Headers {
		fmt.Fprintf(&text, "%s=%s,", inHex([]byte(header.Name)), inHex(header.Value))
	}
	return text.String()
}

// Null is a dash.
func inHex(bytes []byte) string {
	if bytes == nil {
		return "-"
	}
	return hex.EncodeToString(bytes)
}

func init() {
	pointsman.Export(func(config []byte) (pointsman.Plugin, error) {
		if strings.Contains(string(config), "refuse") {
			return nil, errors.New("asked to refuse")
		}
		return conformance{config}, nil
	})
}

func main() {}
