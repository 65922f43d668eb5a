// Gives the fields of JSON objects names in snake_case, and times one form:
//
//	config = { times = ["created_at", "ts"] }
//
// `{"orderID": 7, "createdAt": 1767225600}` becomes `{"order_id":7,"created_at":"2026-01-01T00:00:00.000Z"}`. Names are changed
// at every level; `times` has names as they are afterwards, and is about every level, too. A time is a text as RFC 3339 has
// it, with its zone, or a whole number: of seconds since 1970-01-01 UTC, or of milliseconds from 100,000,000,000 on. It becomes
// UTC with milliseconds, and what is finer is cut off; null stays.
//
// Fields keep their order and numbers their digits. What is not a JSON object, is nested deeper than 100 levels, or has half of a
// surrogate pair among its escapes, which is no character, is rejected as `bad-json`; two fields of one object that get the same
// name as `name-collision`; a time in another form as `bad-time`. A tombstone passes.
package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strconv"
	"time"
	"unicode/utf16"
	"unicode/utf8"

	"pointsman"
)

// Levels that a value may be nested.
const mostNesting = 100

// From here on a number is of milliseconds: as seconds it would be in the year 5138.
const firstMilliseconds = 100_000_000_000

type normaliseEvents struct {
	times map[string]bool
}

func configure(config []byte) (pointsman.Plugin, error) {
	var settings struct {
		Times []string `json:"times"`
	}
	decoder := json.NewDecoder(bytes.NewReader(config))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&settings); err != nil {
		return nil, fmt.Errorf("`config` is not valid: %w", err)
	}
	plugin := normaliseEvents{times: map[string]bool{}}
	for _, name := range settings.Times {
		if name != snakeCase(name) {
			return nil, fmt.Errorf("`times` has the name %q; say %q, which is what it becomes", name, snakeCase(name))
		}
		plugin.times[name] = true
	}
	return plugin, nil
}

func (plugin normaliseEvents) Process(event *pointsman.Event) pointsman.Verdict {
	if event.Value == nil {
		return pointsman.Pass()
	}
	value, err := plugin.normalise(event.Value)
	var refused refusal
	switch {
	case errors.As(err, &refused):
		return pointsman.Reject(refused.code, refused.message)
	case err != nil:
		return pointsman.Reject("bad-json", "the value is not the JSON expected: "+err.Error())
	case bytes.Equal(value, event.Value):
		return pointsman.Pass()
	}
	return pointsman.Emit(pointsman.Unchanged().WithValue(value))
}

// refusal is why JSON that can be read can't be normalised.
type refusal struct {
	code, message string
}

func (refusal refusal) Error() string { return refusal.message }

func (plugin normaliseEvents) normalise(value []byte) ([]byte, error) {
	// The package would put other characters in the place of what is none.
	if !utf8.Valid(value) {
		return nil, errors.New("it is not UTF-8")
	}
	if hasHalfPair(value) {
		return nil, errors.New("an escape is half of a surrogate pair")
	}
	out := rewriting{plugin: plugin, decoder: json.NewDecoder(bytes.NewReader(value))}
	out.decoder.UseNumber()
	token, err := out.decoder.Token()
	if err != nil {
		return nil, ended(err)
	}
	if token != json.Delim('{') {
		return nil, errors.New("it is no object")
	}
	if err := out.object(1); err != nil {
		return nil, ended(err)
	}
	if _, err := out.decoder.Token(); err != io.EOF {
		return nil, errors.New("something follows the object")
	}
	return out.written.Bytes(), nil
}

// hasHalfPair is whether a surrogate stands without its other half among the escapes of JSON.
func hasHalfPair(value []byte) bool {
	for {
		at := bytes.IndexByte(value, '\\')
		if at < 0 {
			return false
		}
		value = value[at:]
		first := escapedUnit(value)
		if !utf16.IsSurrogate(first) {
			// Of a longer escape the rest has no backslash.
			value = value[min(2, len(value)):]
			continue
		}
		if utf16.DecodeRune(first, escapedUnit(value[6:])) == utf8.RuneError {
			return true
		}
		value = value[12:]
	}
}

// escapedUnit is the unit of UTF-16 in the escape that a text begins with, such as \ud83d; -1 if that is another, or none.
func escapedUnit(value []byte) rune {
	if len(value) < 6 || value[0] != '\\' || value[1] != 'u' {
		return -1
	}
	unit, err := strconv.ParseUint(string(value[2:6]), 16, 16)
	if err != nil {
		return -1
	}
	return rune(unit)
}

// The end of the text, where there is no end of the JSON.
func ended(err error) error {
	if err == io.EOF {
		return io.ErrUnexpectedEOF
	}
	return err
}

// rewriting goes through JSON token by token, and writes each as it is to be.
type rewriting struct {
	plugin  normaliseEvents
	decoder *json.Decoder
	written bytes.Buffer
}

// object writes an object whose brace was read.
func (out *rewriting) object(nesting int) error {
	names := map[string]bool{}
	out.written.WriteByte('{')
	for out.decoder.More() {
		token, err := out.decoder.Token()
		if err != nil {
			return err
		}
		// The decoder lets nothing else be a name.
		original, _ := token.(string)
		name := snakeCase(original)
		if names[name] {
			return refusal{"name-collision", fmt.Sprintf("two fields of one object become `%s`", name)}
		}
		if len(names) > 0 {
			out.written.WriteByte(',')
		}
		names[name] = true
		if err := out.text(name); err != nil {
			return err
		}
		out.written.WriteByte(':')
		if err := out.value(nesting, name); err != nil {
			return err
		}
	}
	out.written.WriteByte('}')
	_, err := out.decoder.Token()
	return err
}

// list writes a list whose bracket was read.
func (out *rewriting) list(nesting int, name string) error {
	out.written.WriteByte('[')
	for first := true; out.decoder.More(); first = false {
		if !first {
			out.written.WriteByte(',')
		}
		if err := out.value(nesting, name); err != nil {
			return err
		}
	}
	out.written.WriteByte(']')
	_, err := out.decoder.Token()
	return err
}

// value writes the next value, which is in a field of this name: itself, or as an item of a list.
func (out *rewriting) value(nesting int, name string) error {
	if nesting > mostNesting {
		return fmt.Errorf("it is nested deeper than %d levels", mostNesting)
	}
	token, err := out.decoder.Token()
	if err != nil {
		return err
	}
	switch token {
	case json.Delim('{'):
		return out.object(nesting + 1)
	case json.Delim('['):
		return out.list(nesting+1, name)
	case nil:
		out.written.WriteString("null")
		return nil
	}
	if out.plugin.times[name] {
		normal, ok := normalTime(token)
		if !ok {
			return refusal{"bad-time", fmt.Sprintf("`%s` is no time with a zone, and no whole number", name)}
		}
		return out.text(normal)
	}
	switch token := token.(type) {
	case string:
		return out.text(token)
	default:
		// A number, as it is written, or a truth.
		fmt.Fprint(&out.written, token)
		return nil
	}
}

// text writes a text as JSON has it.
func (out *rewriting) text(text string) error {
	encoder := json.NewEncoder(&out.written)
	encoder.SetEscapeHTML(false)
	err := encoder.Encode(text)
	// It ends a line, which is not wanted here.
	out.written.Truncate(len(bytes.TrimRight(out.written.Bytes(), "\n")))
	return err
}

// normalTime gives a time the form that all have.
func normalTime(token json.Token) (string, bool) {
	var at time.Time
	switch token := token.(type) {
	case string:
		parsed, err := time.Parse(time.RFC3339Nano, token)
		if err != nil {
			return "", false
		}
		at = parsed
	case json.Number:
		number, err := token.Int64()
		if err != nil {
			return "", false
		}
		if -firstMilliseconds < number && number < firstMilliseconds {
			at = time.Unix(number, 0)
		} else {
			at = time.UnixMilli(number)
		}
	default:
		return "", false
	}
	at = at.UTC()
	if at.Year() < 0 || at.Year() > 9999 {
		return "", false
	}
	return at.Format("2006-01-02T15:04:05.000Z"), true
}

func init() { pointsman.Export(configure) }

func main() {}
