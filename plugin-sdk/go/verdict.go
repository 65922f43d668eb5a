package pointsman

import "time"

// Kind says what a verdict does.
type Kind uint8

const (
	// KindPass lets the event go on unchanged.
	KindPass Kind = iota
	// KindDrop ends it, on purpose.
	KindDrop
	// KindEmit puts outputs in its place.
	KindEmit
	// KindRetry tries the whole record again later.
	KindRetry
	// KindReject says that it is not acceptable.
	KindReject
)

// Verdict is what becomes of one event. Of each text that gives a reason the first 1024 bytes are kept. The zero Verdict
// is Pass.
type Verdict struct {
	// Kind of the verdict.
	Kind Kind
	// Code of a rejection.
	Code string
	// Reason of a drop or a retry, message of a rejection.
	Reason string
	// DelayMs is the least delay of a retry, in milliseconds; -1 leaves it to the route's schedule.
	DelayMs int64
	// Outputs that are emitted.
	Outputs []Output
}

// Pass lets the event go on unchanged.
func Pass() Verdict { return Verdict{} }

// Drop ends the event, on purpose. The reason is a short word of a small set, since metrics count by it.
func Drop(reason string) Verdict { return Verdict{Kind: KindDrop, Reason: reason} }

// Emit puts these in place of the event, in order. None at all ends the event, as a drop with the reason
// "emitted-nothing".
func Emit(outputs ...Output) Verdict { return Verdict{Kind: KindEmit, Outputs: outputs} }

// Retry reports a transient failure: the whole record is tried again later, from the first stage, on the route's
// schedule. The reason is a sentence for a person.
func Retry(reason string) Verdict { return Verdict{Kind: KindRetry, Reason: reason, DelayMs: -1} }

// RetryAfter is Retry, but not before the delay has passed, in whole milliseconds. The route's schedule may wait longer,
// and caps it.
func RetryAfter(delay time.Duration, reason string) Verdict {
	return Verdict{Kind: KindRetry, Reason: reason, DelayMs: max(0, delay.Milliseconds())}
}

// Reject reports a permanent failure: the event is not acceptable, and would not be later. The code is a short word of a
// small set, since metrics count by it; the message is a sentence for a person.
func Reject(code, message string) Verdict {
	return Verdict{Kind: KindReject, Code: code, Reason: message}
}

// Output is one event that goes on in place of the one that came in. What its methods don't name stays as the event has
// it, and costs no copy.
type Output struct {
	changes   uint8
	port      string
	key       []byte
	value     []byte
	headers   []Header
	timestamp int64
}

// What an output changes, as the contract counts it.
const (
	changesPort uint8 = 1 << iota
	changesKey
	changesValue
	changesHeaders
	changesTimestamp
)

// Unchanged is the event as it is.
func Unchanged() Output { return Output{} }

// ToPort is the event as it is, by this port, a name of at most 64 bytes.
func ToPort(port string) Output { return Output{changes: changesPort, port: port} }

// WithKey gives it this key; nil is null.
func (output Output) WithKey(key []byte) Output {
	output.changes, output.key = output.changes|changesKey, key
	return output
}

// WithValue gives it this value; nil makes it a tombstone.
func (output Output) WithValue(value []byte) Output {
	output.changes, output.value = output.changes|changesValue, value
	return output
}

// WithHeaders gives it these headers in place of the event's. To add to them, begin with those of the event.
func (output Output) WithHeaders(headers ...Header) Output {
	output.changes, output.headers = output.changes|changesHeaders, headers
	return output
}

// WithTimestampMs gives it this timestamp, in milliseconds since 1970-01-01 UTC.
func (output Output) WithTimestampMs(timestamp int64) Output {
	output.changes, output.timestamp = output.changes|changesTimestamp, timestamp
	return output
}

// Port that it leaves by, and whether it names one.
func (output Output) Port() (port string, named bool) {
	return output.port, output.changes&changesPort != 0
}

// Key that it is given, and whether it is given one.
func (output Output) Key() (key []byte, given bool) {
	return output.key, output.changes&changesKey != 0
}

// Value that it is given, and whether it is given one.
func (output Output) Value() (value []byte, given bool) {
	return output.value, output.changes&changesValue != 0
}

// Headers that it is given, and whether it is given any.
func (output Output) Headers() (headers []Header, given bool) {
	return output.headers, output.changes&changesHeaders != 0
}
