package main

import (
	"strings"
	"unicode"
)

// snakeCase gives a name the form that all have: orderID, OrderId, order-id and "order id" become order_id, and HTTPServer
// becomes http_server. Digits stay with what is before them; an underscore at the front or the end stays.
func snakeCase(name string) string {
	var written strings.Builder
	runes := []rune(name)
	for i, this := range runes {
		if this == '-' || this == ' ' || this == '.' {
			this = '_'
		}
		if unicode.IsUpper(this) && i > 0 {
			before := runes[i-1]
			// A word begins behind a small letter or a digit, and with the last capital before a small letter.
			begins := unicode.IsLower(before) || unicode.IsDigit(before)
			begins = begins || unicode.IsUpper(before) && i+1 < len(runes) && unicode.IsLower(runes[i+1])
			if begins {
				written.WriteByte('_')
			}
		}
		written.WriteRune(unicode.ToLower(this))
	}
	return written.String()
}
