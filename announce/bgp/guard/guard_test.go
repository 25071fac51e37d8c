// SPDX-License-Identifier: Apache-2.0

package guard

import (
	"bytes"
	"encoding/binary"
	"errors"
	"net/netip"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

var start = time.Unix(1_000_000, 0)

// testOpen is FRR's, with all that Fairlead reads of one.
func testOpen() *Open {
	return &Open{
		ASN: 4_200_000_001, HoldTime: 90, RouterID: netip.MustParseAddr("192.0.2.1"),
		Families: []Family{IPv4, IPv6}, FourOctet: true, RouteRefresh: true, ExtendedNextHop: true,
		Restart: &Restart{Restarting: true, Time: 120, Families: []RestartFamily{{IPv4, 0x80}, {IPv6, 0}}},
	}
}

// openWith is an OPEN with these optional parameters, of AS 65000.
func openWith(parameters ...byte) []byte {
	body := []byte{4, 0xfd, 0xe8, 0, 90, 192, 0, 2, 1, byte(len(parameters))}
	return AppendMessage(nil, TypeOpen, append(body, parameters...)...)
}

var keepalive = AppendMessage(nil, TypeKeepalive)

// established is a guard whose session is.
func established(t *testing.T) *Guard {
	t.Helper()
	g := &Guard{}
	for _, message := range [][]byte{testOpen().Append(nil), keepalive} {
		if out, _, err := g.Judge(nil, message, start); err != nil || len(out) == 0 {
			t.Fatalf("judge %x: %x, %v", message, out, err)
		}
	}
	if !g.Established() {
		t.Fatal("not established after OPEN and KEEPALIVE")
	}
	return g
}

func TestHeader(t *testing.T) {
	long := AppendMessage(nil, TypeUpdate, make([]byte, MaxLen-HeaderLen)...)
	change := func(at int, value byte) []byte {
		b := bytes.Clone(keepalive)
		b[at] = value
		return b
	}
	for _, tc := range []struct {
		name   string
		header []byte
		length int
		ok     bool
	}{
		{"empty", nil, 0, false},
		{"shortest", keepalive, HeaderLen, true},
		{"longest", long, MaxLen, true},
		{"too long", func() []byte { b := bytes.Clone(long); b[17]++; return b }(), 0, false},
		{"too short", change(17, HeaderLen-1), 0, false},
		{"length 0", change(17, 0), 0, false},
		{"first byte of marker", change(0, 0xfe), 0, false},
		{"last byte of marker", change(15, 0), 0, false},
		{"type 0", change(18, 0), 0, false},
		{"type 6", change(18, 6), 0, false},
		{"cut", keepalive[:HeaderLen-1], 0, false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			length, _, err := ParseHeader(tc.header)
			if (err == nil) != tc.ok || err != nil && !errors.Is(err, ErrMalformed) || length != tc.length {
				t.Errorf("got %d, %v, want %d, ok %v", length, err, tc.length, tc.ok)
			}
		})
	}
}

func TestOpenRoundTrip(t *testing.T) {
	noRestart := testOpen()
	noRestart.Restart = nil
	plain := &Open{ASN: 65000, HoldTime: 0, RouterID: netip.MustParseAddr("192.0.2.9")}
	for _, want := range []*Open{testOpen(), noRestart, plain} {
		got, err := ParseOpen(want.Append(nil))
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, got, cmp.Comparer(func(a, b netip.Addr) bool { return a == b })); diff != "" {
			t.Errorf("-want +got:\n%s", diff)
		}
	}
}

func TestOpenLeavesOut(t *testing.T) {
	// Parameter 1 (deprecated authentication), then two parameters with
	// capabilities: an unknown one, FQDN with inner lengths that lie, IPv4
	// multicast, IPv6 unicast, ADD-PATH, and IPv6 next hops of VPNv4.
	in := openWith(1, 2, 9, 9,
		2, 7, 199, 0, 73, 3, 200, 1, 2,
		2, 26, 1, 4, 0, 1, 0, 2, 1, 4, 0, 2, 0, 1, 69, 4, 0, 1, 1, 3, 5, 6, 0, 1, 0, 128, 0, 2)
	g := &Guard{}
	out, reason, err := g.Judge(nil, in, start)
	if err != nil || reason != ReasonOpen {
		t.Fatalf("got %v, %v", reason, err)
	}
	want := openWith(2, 6, 1, 4, 0, 2, 0, 1)
	if diff := cmp.Diff(want, out); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

func TestBadOpens(t *testing.T) {
	good := openWith()
	change := func(at int, value byte) []byte {
		b := bytes.Clone(good)
		b[HeaderLen+at] = value
		return b
	}
	for _, tc := range []struct {
		name    string
		message []byte
	}{
		{"cut", AppendMessage(nil, TypeOpen, good[HeaderLen:openLen-1]...)},
		{"version 3", change(0, 3)},
		{"hold time 1", change(4, 1)},
		{"hold time 2", change(4, 2)},
		{"parameters longer than message", change(9, 1)},
		{"message longer than parameters", AppendMessage(nil, TypeOpen, append(bytes.Clone(good[HeaderLen:]), 0)...)},
		{"extended length", AppendMessage(nil, TypeOpen, append(bytes.Clone(change(9, 255)[HeaderLen:]), 255, 0, 0)...)},
		{"parameter without length", openWith(2)},
		{"parameter longer than rest", openWith(2, 1)},
		{"capability without length", openWith(2, 1, 1)},
		{"capability longer than parameter", openWith(2, 2, 1, 4, 0, 1, 0, 1)},
		{"multiprotocol of 3", openWith(2, 5, 1, 3, 0, 1, 0)},
		{"route refresh of 1", openWith(2, 3, 2, 1, 0)},
		{"extended next hop of 5", openWith(2, 7, 5, 5, 0, 1, 0, 1, 0)},
		{"four-octet AS of 2", openWith(2, 4, 65, 2, 0, 1)},
		{"restart of 0", openWith(2, 2, 64, 0)},
		{"restart of 4", openWith(2, 6, 64, 4, 0, 0, 0, 1)},
	} {
		t.Run(tc.name, func(t *testing.T) {
			out, reason, err := new(Guard).Judge(nil, tc.message, start)
			if !errors.Is(err, ErrMalformed) || reason != ReasonMalformed || len(out) != 0 {
				t.Errorf("got %x, %v, %v", out, reason, err)
			}
		})
	}
}

func TestOrder(t *testing.T) {
	open := openWith()
	update := AppendMessage(nil, TypeUpdate, 0, 0, 0, 0)
	refresh := AppendMessage(nil, TypeRouteRefresh, 0, 1, 0, 1)
	for _, tc := range []struct {
		name     string
		messages [][]byte
	}{
		{"KEEPALIVE first", [][]byte{keepalive}},
		{"UPDATE first", [][]byte{update}},
		{"ROUTE-REFRESH first", [][]byte{refresh}},
		{"UPDATE before KEEPALIVE", [][]byte{open, update}},
		{"ROUTE-REFRESH before KEEPALIVE", [][]byte{open, refresh}},
		{"second OPEN", [][]byte{open, open}},
		{"OPEN when established", [][]byte{open, keepalive, open}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			g := &Guard{}
			for i, message := range tc.messages {
				out, reason, err := g.Judge(nil, message, start)
				if last := i == len(tc.messages)-1; !last && err != nil {
					t.Fatalf("message %d: %v", i, err)
				} else if last && (reason != ReasonOutOfOrder || !errors.Is(err, ErrMalformed) || len(out) > 0) {
					t.Errorf("got %x, %v, %v", out, reason, err)
				}
			}
		})
	}
}

func TestNotification(t *testing.T) {
	for _, tc := range []struct {
		name string
		body []byte
		want string
	}{
		{"plain", []byte{6, 3}, "router sent NOTIFICATION 6/3 cease: peer de-configured"},
		{"text", []byte{6, 2, 3, 'b', 'y', 'e'}, `router sent NOTIFICATION 6/2 cease: administrative shutdown ("bye")`},
		{"text that is cut", []byte{6, 2, 200, 'b'}, "router sent NOTIFICATION 6/2 cease: administrative shutdown"},
		{"unknown", []byte{99, 98, 1, 2}, "router sent NOTIFICATION 99/98"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			// One may come at any time, and never goes on.
			for _, g := range []*Guard{{}, established(t)} {
				out, reason, err := g.Judge(nil, AppendMessage(nil, TypeNotification, tc.body...), start)
				if len(out) != 0 || reason != ReasonNotification || err == nil || err.Error() != tc.want {
					t.Errorf("got %x, %v, %v, want %q", out, reason, err, tc.want)
				}
			}
		})
	}
	_, reason, err := established(t).Judge(nil, AppendMessage(nil, TypeNotification, 6), start)
	if reason != ReasonMalformed || !errors.Is(err, ErrMalformed) {
		t.Errorf("cut: got %v, %v", reason, err)
	}
}

// routes is an UPDATE that announces 192.0.2.0/24.
var routes = AppendMessage(nil, TypeUpdate, 0, 0, 0, 14, 0x40, 1, 1, 0, 0x40, 2, 0, 0x40, 3, 4, 192, 0, 2, 1, 24, 192, 0, 2)

func TestUpdates(t *testing.T) {
	end4 := AppendMessage(nil, TypeUpdate, 0, 0, 0, 0)
	end6 := AppendMessage(nil, TypeUpdate, 0, 0, 0, 6, 0x80, 15, 3, 0, 2, 1)
	for _, tc := range []struct {
		name string
		in   []byte
		want []byte // nil: dropped
	}{
		{"end of IPv4", end4, end4},
		{"end of IPv6", end6, end6},
		{"end of IPv6, long length", AppendMessage(nil, TypeUpdate, 0, 0, 0, 7, 0x90, 15, 0, 3, 0, 2, 1), end6},
		{"end of VPNv4", AppendMessage(nil, TypeUpdate, 0, 0, 0, 6, 0x80, 15, 3, 0, 1, 128), nil},
		{"routes", routes, nil},
		{"withdrawal", AppendMessage(nil, TypeUpdate, 0, 4, 24, 192, 0, 2, 0, 0), nil},
		{"IPv6 withdrawal", AppendMessage(nil, TypeUpdate, 0, 0, 0, 7, 0x80, 15, 4, 0, 2, 1, 0), nil},
		{"lengths that lie", AppendMessage(nil, TypeUpdate, 0xff, 0xff, 0xff, 0xff), nil},
		{"nothing", AppendMessage(nil, TypeUpdate), nil},
		{"other attribute of that size", AppendMessage(nil, TypeUpdate, 0, 0, 0, 6, 0x80, 14, 3, 0, 2, 1), nil},
		{"zeros of that size", AppendMessage(nil, TypeUpdate, make([]byte, 10)...), nil},
	} {
		t.Run(tc.name, func(t *testing.T) {
			out, reason, err := established(t).Judge(nil, tc.in, start)
			want := ReasonUpdate
			if tc.want != nil {
				want = ReasonEndOfRIB
			}
			if err != nil || reason != want || !bytes.Equal(out, tc.want) {
				t.Errorf("got %x, %v, %v, want %x, %v", out, reason, err, tc.want, want)
			}
		})
	}
}

func TestEndOfRIBOnce(t *testing.T) {
	g := established(t)
	end := AppendMessage(nil, TypeUpdate, 0, 0, 0, 0)
	for i, want := range []Reason{ReasonEndOfRIB, ReasonUpdate} {
		if _, reason, err := g.Judge(nil, end, start); err != nil || reason != want {
			t.Errorf("time %d: got %v, %v, want %v", i, reason, err, want)
		}
	}
}

// TestUpdatesKeepAlive wants dropped UPDATEs to keep the session alive, and a
// flood of them to become no flood of KEEPALIVEs.
func TestUpdatesKeepAlive(t *testing.T) {
	g := established(t)
	kept := 0
	for i := range 10_000 { // one each millisecond
		out, reason, err := g.Judge(nil, routes, start.Add(time.Duration(i)*time.Millisecond))
		if err != nil || reason != ReasonUpdate {
			t.Fatalf("UPDATE %d: %v, %v", i, reason, err)
		}
		if len(out) > 0 && !bytes.Equal(out, keepalive) {
			t.Fatalf("UPDATE %d became %x", i, out)
		}
		kept += len(out) / HeaderLen
	}
	if kept != 9 {
		t.Errorf("10 s of UPDATEs became %d KEEPALIVEs, want 9", kept)
	}
}

func TestKeepaliveRate(t *testing.T) {
	g := established(t)
	for _, tc := range []struct {
		after time.Duration
		pass  bool
	}{{0, false}, {999 * time.Millisecond, false}, {time.Second, true}, {time.Second, false}, {3 * time.Second, true}} {
		out, reason, err := g.Judge(nil, keepalive, start.Add(tc.after))
		if err != nil || reason != ReasonKeepalive || (len(out) > 0) != tc.pass {
			t.Errorf("after %v: got %x, %v, %v, want pass %v", tc.after, out, reason, err, tc.pass)
		}
	}
	_, reason, err := g.Judge(nil, AppendMessage(nil, TypeKeepalive, 0), start)
	if reason != ReasonMalformed || !errors.Is(err, ErrMalformed) {
		t.Errorf("KEEPALIVE with a body: got %v, %v", reason, err)
	}
}

func TestRouteRefresh(t *testing.T) {
	refresh := func(body ...byte) []byte { return AppendMessage(nil, TypeRouteRefresh, body...) }
	for _, tc := range []struct {
		name string
		in   []byte
		want Reason
	}{
		{"IPv4", refresh(0, 1, 0, 1), ReasonRouteRefresh},
		{"IPv6", refresh(0, 2, 0, 1), ReasonRouteRefresh},
		{"VPNv4", refresh(0, 1, 0, 128), ReasonForeignRefresh},
		{"beginning, RFC 7313", refresh(0, 1, 1, 1), ReasonForeignRefresh},
		{"filter, RFC 5291", refresh(0, 1, 0, 1, 1, 64, 0, 0), ReasonForeignRefresh},
		{"cut", refresh(0, 1, 0), ReasonMalformed},
	} {
		t.Run(tc.name, func(t *testing.T) {
			out, reason, err := established(t).Judge(nil, tc.in, start)
			if reason != tc.want || (len(out) > 0) != (tc.want == ReasonRouteRefresh) || (err != nil) != (tc.want == ReasonMalformed) {
				t.Errorf("got %x, %v, %v, want %v", out, reason, err, tc.want)
			}
		})
	}

	g := established(t)
	passed := 0
	for i := range 100_000 { // a hundred seconds
		out, _, err := g.Judge(nil, refresh(0, 1, 0, 1), start.Add(time.Duration(i)*time.Millisecond))
		if err != nil {
			t.Fatal(err)
		}
		if len(out) > 0 {
			passed++
		}
	}
	if passed != refreshBurst+9 {
		t.Errorf("100 s of ROUTE-REFRESH: %d passed, want %d", passed, refreshBurst+9)
	}
}

// FuzzGuard feeds a byte stream as a router would. What goes on is always
// well-formed: messages that the guard itself would let through again.
func FuzzGuard(f *testing.F) {
	open := testOpen().Append(nil)
	stream := func(messages ...[]byte) []byte { return bytes.Join(messages, nil) }
	f.Add(stream(open, keepalive, AppendMessage(nil, TypeUpdate, 0, 0, 0, 0), routes, keepalive))
	f.Add(stream(openWith(2, 6, 1, 4, 0, 2, 0, 1), keepalive, AppendMessage(nil, TypeRouteRefresh, 0, 2, 0, 1)))
	f.Add(stream(openWith(1, 2, 9, 9, 2, 5, 73, 3, 200, 1, 2), AppendMessage(nil, TypeNotification, 6, 2, 1, 'x')))
	f.Fuzz(func(t *testing.T, in []byte) {
		g, again := &Guard{}, &Guard{}
		now := start
		for len(in) >= HeaderLen {
			length, kind, err := ParseHeader(in)
			if err != nil || length > len(in) {
				return
			}
			out, reason, err := g.Judge(nil, in[:length], now)
			if reason >= Reasons || reason.String() == "" {
				t.Fatalf("reason %d", reason)
			}
			if err != nil {
				if len(out) > 0 {
					t.Fatalf("%x ends the session, and %x goes on", in[:length], out)
				}
				return
			}
			checkOut(t, again, kind, out, now)
			in = in[length:]
			now = now.Add(100 * time.Millisecond)
		}
	})
}

func checkOut(t *testing.T, again *Guard, kind Type, out []byte, now time.Time) {
	t.Helper()
	if len(out) == 0 {
		return
	}
	length, outKind, err := ParseHeader(out)
	if err != nil || length != len(out) {
		t.Fatalf("%x goes on: length %d, %v", out, length, err)
	}
	if outKind != kind && (kind != TypeUpdate || outKind != TypeKeepalive) {
		t.Fatalf("type %d became %d", kind, outKind)
	}
	if outKind == TypeUpdate && binary.BigEndian.Uint16(out[HeaderLen:]) != 0 {
		t.Fatalf("an UPDATE that withdraws goes on: %x", out)
	}
	got, _, err := again.Judge(nil, out, now)
	if err != nil || !bytes.Equal(got, out) {
		t.Fatalf("%x is judged %x, %v the second time", out, got, err)
	}
}
