//go:build !wasip1

package pointsman

import (
	"reflect"
	"testing"
	"time"
)

type script []Verdict

func (script *script) Process(event *Event) Verdict {
	seen = append(seen, Event{
		Topic: event.Topic, Partition: event.Partition, Offset: event.Offset, TimestampMs: event.TimestampMs,
		Key: event.Key, Value: event.Value, Headers: append([]Header(nil), event.Headers...), Attempt: event.Attempt,
	})
	next := (*script)[0]
	*script = (*script)[1:]
	return next
}

var seen []Event

func TestEventsAreTakenFromTheColumns(t *testing.T) {
	handed := batch{
		topic: "orders", partition: 3, offsets: []int64{7, 9}, timestamps: []int64{1000, -1}, attempts: []uint32{1, 2},
		keyLengths: []uint32{1, null}, valueLengths: []uint32{null, 0}, headerCounts: []uint32{2, 0},
		headerLengths: []uint32{1, 1, 1, null}, bytes: []byte("kabc"),
	}
	plugin := script{Pass(), Pass()}
	seen = nil
	judge(&plugin, &handed, &verdicts{})
	want := []Event{
		{"orders", 3, 7, 1000, []byte("k"), nil, []Header{{"a", []byte("b")}, {"c", nil}}, 1},
		{"orders", 3, 9, -1, nil, []byte{}, nil, 2},
	}
	if !reflect.DeepEqual(seen, want) {
		t.Fatalf("got %+v, want %+v", seen, want)
	}
	if value, found := seen[0].Header("c"); !found || value != nil {
		t.Fatal("a header with a null value is there")
	}
	if _, found := seen[0].Header("x"); found {
		t.Fatal("a header that is not there is not found")
	}
}

func TestVerdictsBecomeColumns(t *testing.T) {
	count := 6
	handed := batch{
		offsets: make([]int64, count), timestamps: make([]int64, count), attempts: make([]uint32, count),
		keyLengths: make([]uint32, count), valueLengths: make([]uint32, count), headerCounts: make([]uint32, count),
	}
	plugin := script{
		Pass(), Drop("old"), Retry("later"), RetryAfter(2*time.Second, "soon"), Reject("bad", "no id"),
		Emit(Unchanged(), ToPort("eu").WithKey(nil).WithValue([]byte("v")).WithHeaders(Header{"h", nil}).WithTimestampMs(5)),
	}
	var got verdicts
	judge(&plugin, &handed, &got)
	want := verdicts{
		kinds:   []uint8{0, 1, 3, 3, 4, 2},
		lengths: []uint32{3, 5, 4, 3, 5, 2, 2, null, 1, 1, 1, null},
		numbers: []int64{-1, 2000, 5},
		outputs: []uint8{0, 31},
		bytes:   []byte("oldlatersoonbadno ideuvh"),
	}
	if !reflect.DeepEqual(got, want) {
		t.Fatalf("got %+v, want %+v", got, want)
	}
}

func TestWhatIsSaidNativelyIsKept(t *testing.T) {
	Log(Warn, "odd")
	Count("seen", 2)
	Count("seen", 1)
	if lines := TakeLogged(); !reflect.DeepEqual(lines, []Line{{Warn, "odd"}}) || TakeLogged() != nil {
		t.Fatalf("got %+v", lines)
	}
	if counts := TakeCounted(); counts["seen"] != 3 || len(TakeCounted()) != 0 {
		t.Fatalf("got %+v", counts)
	}
}
