// SPDX-License-Identifier: Apache-2.0

package config

import (
	"strconv"
	"strings"
)

// WellKnown are the values of the communities that have a name of their own
// (RFC 1997, 3765, 7999 and 8326).
var WellKnown = map[string]string{
	"graceful-shutdown":   "65535:0",
	"blackhole":           "65535:666",
	"no-export":           "65535:65281",
	"no-advertise":        "65535:65282",
	"no-export-subconfed": "65535:65283",
	"no-peer":             "65535:65284",
}

// ParseCommunity reads a standard community ("64512:100") as two numbers of 16
// bits and a large one ("large:64512:1:2") as three of 32.
func ParseCommunity(text string) ([]uint32, bool) {
	numbers, large := strings.CutPrefix(text, "large:")
	parts := strings.Split(numbers, ":")
	bits, want := 16, 2
	if large {
		bits, want = 32, 3
	}
	var values []uint32
	for _, part := range parts {
		n, err := strconv.ParseUint(part, 10, bits)
		if err != nil || strings.HasPrefix(part, "+") {
			return nil, false
		}
		values = append(values, uint32(n))
	}
	return values, len(values) == want
}
