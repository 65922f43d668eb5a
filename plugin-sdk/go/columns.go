package pointsman

// The interface "columns" of the contract: a batch as flat lists, and verdicts as others. See wit/pointsman.wit.

// The length of what is null.
const null = ^uint32(0)

// batch is what the router hands over: one element for each event, in order, where nothing else is said.
type batch struct {
	topic         string
	partition     int32
	offsets       []int64
	timestamps    []int64
	attempts      []uint32
	keyLengths    []uint32
	valueLengths  []uint32
	headerCounts  []uint32
	headerLengths []uint32
	bytes         []byte
}

// take cuts so many bytes off the front; null is nil.
func (batch *batch) take(length uint32) []byte {
	if length == null {
		return nil
	}
	// Its own capacity: to append to a key must not write over the value behind it.
	taken := batch.bytes[:length:length]
	batch.bytes = batch.bytes[length:]
	return taken
}

// verdicts is the answer: one kind for each event, and what each needs, in order.
type verdicts struct {
	kinds   []uint8
	lengths []uint32
	numbers []int64
	outputs []uint8
	bytes   []byte
}

func (verdicts *verdicts) clear() {
	verdicts.kinds, verdicts.lengths = verdicts.kinds[:0], verdicts.lengths[:0]
	verdicts.numbers, verdicts.outputs = verdicts.numbers[:0], verdicts.outputs[:0]
	verdicts.bytes = verdicts.bytes[:0]
}

func (verdicts *verdicts) text(text string) {
	verdicts.lengths = append(verdicts.lengths, uint32(len(text)))
	verdicts.bytes = append(verdicts.bytes, text...)
}

func (verdicts *verdicts) nullable(bytes []byte) {
	if bytes == nil {
		verdicts.lengths = append(verdicts.lengths, null)
		return
	}
	verdicts.lengths = append(verdicts.lengths, uint32(len(bytes)))
	verdicts.bytes = append(verdicts.bytes, bytes...)
}

func (verdicts *verdicts) push(verdict *Verdict) {
	switch verdict.Kind {
	case KindPass:
	case KindDrop:
		verdicts.text(verdict.Reason)
	case KindEmit:
		verdicts.lengths = append(verdicts.lengths, uint32(len(verdict.Outputs)))
		for i := range verdict.Outputs {
			verdicts.output(&verdict.Outputs[i])
		}
	case KindRetry:
		verdicts.text(verdict.Reason)
		verdicts.numbers = append(verdicts.numbers, verdict.DelayMs)
	case KindReject:
		verdicts.text(verdict.Code)
		verdicts.text(verdict.Reason)
	default:
		panic("a verdict has no such kind")
	}
	verdicts.kinds = append(verdicts.kinds, uint8(verdict.Kind))
}

func (verdicts *verdicts) output(output *Output) {
	verdicts.outputs = append(verdicts.outputs, output.changes)
	if output.changes&changesPort != 0 {
		verdicts.text(output.port)
	}
	if output.changes&changesKey != 0 {
		verdicts.nullable(output.key)
	}
	if output.changes&changesValue != 0 {
		verdicts.nullable(output.value)
	}
	if output.changes&changesHeaders != 0 {
		verdicts.lengths = append(verdicts.lengths, uint32(len(output.headers)))
		for _, header := range output.headers {
			verdicts.text(header.Name)
			verdicts.nullable(header.Value)
		}
	}
	if output.changes&changesTimestamp != 0 {
		verdicts.numbers = append(verdicts.numbers, output.timestamp)
	}
}

// judge has the plugin judge a batch.
func judge(plugin Plugin, batch *batch, verdicts *verdicts) {
	verdicts.clear()
	var headers []Header
	for i, offset := range batch.offsets {
		event := Event{
			Topic:       batch.topic,
			Partition:   batch.partition,
			Offset:      offset,
			TimestampMs: batch.timestamps[i],
			Key:         batch.take(batch.keyLengths[i]),
			Value:       batch.take(batch.valueLengths[i]),
			Attempt:     batch.attempts[i],
		}
		headers = headers[:0]
		for range batch.headerCounts[i] {
			name := string(batch.take(batch.headerLengths[0]))
			headers = append(headers, Header{Name: name, Value: batch.take(batch.headerLengths[1])})
			batch.headerLengths = batch.headerLengths[2:]
		}
		event.Headers = headers
		verdict := plugin.Process(&event)
		verdicts.push(&verdict)
	}
}
