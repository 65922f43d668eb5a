//go:build wasip1

package pointsman

// Not fmt, which brings the operating system along.
import (
	"path"
	"runtime"
	"strconv"
	"strings"
	"unsafe"
)

// Where values of the component model lie in memory: what the canonical ABI says of this contract.

// list is the two words of a list or string.
type list struct {
	address uint32
	length  uint32
}

// The parameter of process.
type batchWords struct {
	topic         list
	partition     int32
	offsets       list
	timestamps    list
	attempts      list
	keyLengths    list
	valueLengths  list
	headerCounts  list
	headerLengths list
	bytes         list
}

// The result of process.
type verdictsWords struct {
	kinds   list
	lengths list
	numbers list
	outputs list
	bytes   list
}

// The result of configure: fields, or a refusal.
type configuredWords struct {
	isRefusal uint8
	_         [3]uint8
	// The fields that are asked for, all three, in the first byte; or the address of the refusal.
	fields uint32
	length uint32
}

const allFields = 7

var (
	plugin Plugin
	answer verdicts
	// Results, which the router reads after the return.
	verdictsResult   verdictsWords
	configuredResult configuredWords
	refusal          string
	// What the router has been given to write to, until the call is over.
	lent [][]uint64
)

// The router asks for memory to put arguments in. Words, so that whatever it puts there is aligned.
//
//go:wasmexport cabi_realloc
func realloc(_, _, _, size uint32) uint32 {
	words := make([]uint64, max(1, (size+7)/8))
	lent = append(lent, words)
	return address(unsafe.Pointer(unsafe.SliceData(words)))
}

//go:wasmexport pointsman:plugin/columns@0.1.0#configure
func configure(text, length uint32) uint32 {
	if exported == nil {
		panic("the program has not called pointsman.Export in an init function")
	}
	config := string(slice[byte](list{text, length}))
	lent = lent[:0]
	made, err := exported([]byte(config))
	if err != nil {
		refusal = err.Error()
		configuredResult = configuredWords{
			isRefusal: 1,
			fields:    address(unsafe.Pointer(unsafe.StringData(refusal))),
			length:    uint32(len(refusal)),
		}
	} else {
		plugin = made
		configuredResult = configuredWords{fields: allFields}
	}
	return address(unsafe.Pointer(&configuredResult))
}

//go:wasmexport pointsman:plugin/columns@0.1.0#process
func process(words uint32) uint32 {
	given := (*batchWords)(pointer(words))
	handed := batch{
		topic:         string(slice[byte](given.topic)),
		partition:     given.partition,
		offsets:       slice[int64](given.offsets),
		timestamps:    slice[int64](given.timestamps),
		attempts:      slice[uint32](given.attempts),
		keyLengths:    slice[uint32](given.keyLengths),
		valueLengths:  slice[uint32](given.valueLengths),
		headerCounts:  slice[uint32](given.headerCounts),
		headerLengths: slice[uint32](given.headerLengths),
		bytes:         slice[byte](given.bytes),
	}
	defer reportPanic()
	judge(plugin, &handed, &answer)
	clear(lent)
	lent = lent[:0]
	verdictsResult = verdictsWords{
		kinds:   wordsOf(answer.kinds),
		lengths: wordsOf(answer.lengths),
		numbers: wordsOf(answer.numbers),
		outputs: wordsOf(answer.outputs),
		bytes:   wordsOf(answer.bytes),
	}
	return address(unsafe.Pointer(&verdictsResult))
}

// The memory of a slice that stays where it is: the collector of this target moves nothing.
func wordsOf[T any](values []T) list {
	if len(values) == 0 {
		return list{address: 8}
	}
	return list{address(unsafe.Pointer(unsafe.SliceData(values))), uint32(len(values))}
}

func slice[T any](words list) []T {
	if words.length == 0 {
		return []T{}
	}
	return unsafe.Slice((*T)(pointer(words.address)), words.length)
}

func address(pointer unsafe.Pointer) uint32 { return uint32(uintptr(pointer)) }

func pointer(address uint32) unsafe.Pointer { return unsafe.Pointer(uintptr(address)) }

//go:wasmimport pointsman:plugin/host@0.1.0 log
func importLog(level int32, message unsafe.Pointer, length uint32)

//go:wasmimport pointsman:plugin/host@0.1.0 count
func importCount(name unsafe.Pointer, length uint32, increment uint64)

//go:wasmimport pointsman:plugin/host@0.1.0 panic
func importPanic(event uint32, message unsafe.Pointer, length uint32)

// reportPanic tells the router of a panic, with its place and the event that it was at. It does not return then. (What can't
// be recovered from, such as the end of memory, ends the program as everywhere.)
func reportPanic() {
	value := recover()
	if value == nil {
		return
	}
	message := "panic: " + textOf(value) + panicPlace()
	importPanic(uint32(len(answer.kinds)), unsafe.Pointer(unsafe.StringData(message)), uint32(len(message)))
}

func textOf(value any) string {
	switch value := value.(type) {
	case error:
		return value.Error()
	case interface{ String() string }:
		return value.String()
	case string:
		return value
	default:
		return "a value that is no text"
	}
}

// panicPlace is the place of the present panic.
func panicPlace() string {
	var callers [16]uintptr
	// Not this function, nor the one that was deferred.
	frames := runtime.CallersFrames(callers[:runtime.Callers(3, callers[:])])
	for {
		frame, more := frames.Next()
		if frame.File != "" && !strings.HasPrefix(frame.Function, "runtime.") {
			return " (" + path.Base(frame.File) + ":" + strconv.Itoa(frame.Line) + ")"
		}
		if !more {
			return ""
		}
	}
}

func hostLog(level Level, message string) {
	importLog(int32(level), unsafe.Pointer(unsafe.StringData(message)), uint32(len(message)))
}

func hostCount(name string, increment uint64) {
	importCount(unsafe.Pointer(unsafe.StringData(name)), uint32(len(name)), increment)
}
