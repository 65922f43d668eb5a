// Package pointsman is for writing Pointsman plugins in Go.
//
// A plugin judges events, one [Verdict] each: it lets them pass, drops them, emits others in their place, asks for a
// retry, or rejects them. It is a type with a method Process, and one line that makes a component of its program:
//
//	package main
//
//	import "pointsman"
//
//	type recent struct{}
//
//	func (recent) Process(event *pointsman.Event) pointsman.Verdict {
//		if event.TimestampMs >= 0 && event.TimestampMs < 1_700_000_000_000 {
//			return pointsman.Drop("too-old")
//		}
//		return pointsman.Pass()
//	}
//
//	func init() {
//		pointsman.Export(func(config []byte) (pointsman.Plugin, error) { return recent{}, nil })
//	}
//
//	func main() {}
//
// "pointsman plugin build" builds it, and a plugin is tested natively, with "go test".
//
// A component in Go imports nothing but the router's own functions, and nothing can be granted to it: its clock
// starts at a fixed time and goes on by a microsecond with each reading, its random numbers are the same in each
// instance, and what it prints is discarded.
//
// A panic is a trap: the record that caused it ends as a poison pill, and the instance is thrown away.
package pointsman

// Plugin judges events. One instance of it lives in one sandbox.
//
// Nothing is promised about state between calls: instances are discarded, multiplied, and shared by partitions, and a
// batch that failed is run again in smaller parts. Keep what makes the next call cheaper, never what a verdict depends on.
type Plugin interface {
	// Process judges one event. Neither the event nor what it holds may be kept after the return.
	Process(event *Event) Verdict
}

// Configure makes a plugin from its configuration, JSON text, once for each instance, before any event. An error refuses
// the configuration: the router then does not start, and shows it.
type Configure func(config []byte) (Plugin, error)

// Export says what the program's plugin is. Call it once, in an init function.
func Export(configure Configure) {
	if exported != nil {
		panic("pointsman.Export is called twice: a component has one plugin")
	}
	exported = configure
}

// What the program has exported.
var exported Configure

// Event is a record of a source topic, or what an earlier stage made of it. Topic, Partition and Offset together name
// the record it comes from, for ever: a retried event has those of its source topic.
type Event struct {
	// Topic of the origin.
	Topic string
	// Partition of the origin.
	Partition int32
	// Offset of the origin.
	Offset int64
	// TimestampMs is in milliseconds since 1970-01-01 UTC; -1 where the log has no timestamp.
	TimestampMs int64
	// Key; nil is null, which is not the same as empty.
	Key []byte
	// Value; nil is a tombstone.
	Value []byte
	// Headers in order. A name may come several times.
	Headers []Header
	// Attempt is 1 on the first run of this event, 2 on its first retry, and so on.
	Attempt uint32
}

// Header is one header of a record.
type Header struct {
	// Name of the header.
	Name string
	// Value; nil is null, which is not the same as empty.
	Value []byte
}

// Header gives the value of the last header of this name, as Kafka's own clients look headers up, and whether there is one.
func (event *Event) Header(name string) (value []byte, found bool) {
	for i := len(event.Headers) - 1; i >= 0; i-- {
		if event.Headers[i].Name == name {
			return event.Headers[i].Value, true
		}
	}
	return nil, false
}

// Level says how much a log line matters.
type Level uint8

const (
	// Debug is for the plugin's author.
	Debug Level = iota
	// Info is for the record.
	Info
	// Warn says that something is odd.
	Warn
	// Error says that something is wrong.
	Error
)

// Log writes a line to the router's log, with route, lane and plugin as fields. At most 64 lines of 1024 bytes are kept
// of one call. What is said in a call that traps is forgotten with that call, but for the last line of level Error.
func Log(level Level, message string) { hostLog(level, message) }

// Count adds to one of the plugin's own counters. A name has 1 to 64 ASCII letters, digits, "_", "-" and ".".
func Count(name string, increment uint64) { hostCount(name, increment) }
