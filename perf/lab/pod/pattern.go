// SPDX-License-Identifier: Apache-2.0

package pod

import (
	"bytes"
	"fmt"
	"io"
	"net/netip"
	"strings"
)

// patternPeriod is no multiple of a segment's or a page's size, so that a lost,
// doubled or misplaced piece shows.
const patternPeriod = 65521

// pattern is two periods, so that one is in it whole from any offset.
var pattern = func() []byte {
	b := make([]byte, 2*patternPeriod)
	x := uint32(1)
	for i := range patternPeriod {
		x = x*1664525 + 1013904223
		b[i] = byte(x >> 24)
	}
	copy(b[patternPeriod:], b[:patternPeriod])
	return b
}()

// Pattern is an endless reader of the bytes that bulk sends and sink expects.
type Pattern struct{ off int }

// Read fills p.
func (p *Pattern) Read(b []byte) (int, error) {
	n := copy(b, pattern[p.off:p.off+patternPeriod])
	p.off = (p.off + n) % patternPeriod
	return n, nil
}

// Check says whether b is what the pattern has next, and moves on.
func (p *Pattern) Check(b []byte) bool {
	for len(b) > 0 {
		n := min(len(b), patternPeriod)
		if !bytes.Equal(b[:n], pattern[p.off:p.off+n]) {
			return false
		}
		p.off = (p.off + n) % patternPeriod
		b = b[n:]
	}
	return true
}

// Verify reads n bytes of the pattern from r.
func Verify(r io.Reader, n int64) error {
	var p Pattern
	buf := make([]byte, 64<<10)
	for done := int64(0); done < n; {
		got, err := r.Read(buf[:min(int64(len(buf)), n-done)])
		if !p.Check(buf[:got]) {
			return fmt.Errorf("byte pattern broken after %d bytes", done)
		}
		done += int64(got)
		if err != nil && done < n {
			return fmt.Errorf("read %d of %d bytes: %w", done, n, err)
		}
	}
	return nil
}

// Answer is what a Pod said.
type Answer struct {
	Pod    string
	Client netip.AddrPort // the client's address and port as the Pod saw them
	Rest   string
}

// ParseAnswer reads a line or datagram of a Pod.
func ParseAnswer(line string) (Answer, error) {
	name, rest, _ := strings.Cut(strings.TrimSpace(line), " ")
	client, rest, _ := strings.Cut(rest, " ")
	ap, err := netip.ParseAddrPort(client)
	if err != nil {
		return Answer{}, fmt.Errorf("answer %q: %w", line, err)
	}
	return Answer{Pod: name, Client: ap, Rest: rest}, nil
}
