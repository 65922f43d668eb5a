package main

import (
	"reflect"
	"strings"
	"testing"

	"pointsman"
)

func plugin(t *testing.T, config string) pointsman.Plugin {
	t.Helper()
	plugin, err := configure([]byte(config))
	if err != nil {
		t.Fatal(err)
	}
	return plugin
}

const config = `{"times":["created_at","ts"]}`

func TestNamesAndTimesBecomeTheSame(t *testing.T) {
	normalise := plugin(t, config)
	for value, want := range map[string]string{
		`{"orderID": 7, "createdAt": 1767225600}`:                 `{"order_id":7,"created_at":"2026-01-01T00:00:00.000Z"}`,
		`{"ts": 1767225600123, "Items": [{"unitPrice": 1.50}]}`:   `{"ts":"2026-01-01T00:00:00.123Z","items":[{"unit_price":1.50}]}`,
		`{"ts": "2026-01-01T01:00:00.9999+01:00", "a": "<é\n>"}`:  `{"ts":"2026-01-01T00:00:00.999Z","a":"<é\n>"}`,
		`{"ts": [0, null, -1], "n": 123456789012345678901e400}`:   `{"ts":["1970-01-01T00:00:00.000Z",null,"1969-12-31T23:59:59.000Z"],"n":123456789012345678901e400}`,
		`{"a": "\ud83d\udc34", "b": "\\ud83d", "c": "\u00e9"}`:    `{"a":"🐴","b":"\\ud83d","c":"é"}`,
		`{"ts": {"Ts": null}, "ok": true, "no": false, "o": {} }`: `{"ts":{"ts":null},"ok":true,"no":false,"o":{}}`,
	} {
		got := normalise.Process(&pointsman.Event{Value: []byte(value)})
		if want := pointsman.Emit(pointsman.Unchanged().WithValue([]byte(want))); !reflect.DeepEqual(got, want) {
			t.Errorf("%s: got %+v, want %+v", value, got, want)
		}
	}
}

func TestWhatIsNormalAlreadyPasses(t *testing.T) {
	normalise := plugin(t, config)
	for _, value := range [][]byte{nil, []byte(`{"order_id":7,"ts":"2026-01-01T00:00:00.000Z"}`)} {
		if got := normalise.Process(&pointsman.Event{Value: value}); !reflect.DeepEqual(got, pointsman.Pass()) {
			t.Errorf("%s: got %+v", value, got)
		}
	}
}

func TestWhatCannotBeNormalisedIsRejectedWithItsCode(t *testing.T) {
	normalise := plugin(t, config)
	for value, code := range map[string]string{
		"":                                       "bad-json",
		"[]":                                     "bad-json",
		"{":                                      "bad-json",
		`{"a":1}}`:                               "bad-json",
		`{"a" 1}`:                                "bad-json",
		"{\"a\":\"\xff\"}":                       "bad-json",
		`{"a":"\ud83d"}`:                         "bad-json",
		`{"a":"\udc34"}`:                         "bad-json",
		`{"a":"\ud83d\ud83d"}`:                   "bad-json",
		`{"a":"\ud83d\n"}`:                       "bad-json",
		`{"\uDC34\uD83D":1}`:                     "bad-json",
		`{"a":"\\\ud83d"}`:                       "bad-json",
		`{"a":"\ud83d`:                           "bad-json",
		`{"a":"\`:                                "bad-json",
		`{"a":` + strings.Repeat("[", 1_000_000): "bad-json",
		`{"orderId":1,"order_id":2}`:             "name-collision",
		`{"a":1,"a":1}`:                          "name-collision",
		`{"ts":"2026-01-01T00:00:00"}`:           "bad-time",
		`{"ts":"yesterday"}`:                     "bad-time",
		`{"ts":1.5}`:                             "bad-time",
		`{"ts":true}`:                            "bad-time",
		`{"ts":999999999999999999999999}`:        "bad-time",
		`{"ts":999999999999999999}`:              "bad-time",
	} {
		got := normalise.Process(&pointsman.Event{Value: []byte(value)})
		if got.Kind != pointsman.KindReject || got.Code != code {
			t.Errorf("%.80s: got %+v, want %s", value, got, code)
		}
	}
}

func TestNamesAreInSnakeCase(t *testing.T) {
	for name, want := range map[string]string{
		"orderID": "order_id", "OrderId": "order_id", "order-id": "order_id", "order id": "order_id", "HTTPServer": "http_server",
		"line2Text": "line2_text", "_id": "_id", "ÄndertSich": "ändert_sich", "": "", "A": "a", "a.b": "a_b", "ID": "id",
	} {
		if got := snakeCase(name); got != want || snakeCase(got) != want {
			t.Errorf("%q: got %q, want %q", name, got, want)
		}
	}
}

func TestAWrongConfigurationIsRefused(t *testing.T) {
	for _, config := range []string{"", "[]", `{"times":"ts"}`, `{"times":["createdAt"]}`, `{"time":["ts"]}`} {
		if _, err := configure([]byte(config)); err == nil {
			t.Errorf("%s is accepted", config)
		}
	}
	plugin(t, "{}")
}
