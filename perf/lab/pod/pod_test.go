// SPDX-License-Identifier: Apache-2.0

package pod

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"
)

// start runs a server on a free loopback port.
func start(t *testing.T) (*Server, string) {
	t.Helper()
	s, err := Listen("pod1", 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s, fmt.Sprintf("127.0.0.1:%d", s.ln.Addr().(*net.TCPAddr).Port)
}

func TestCommands(t *testing.T) {
	_, addr := start(t)
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(10 * time.Second))
	r := bufio.NewReader(conn)
	me := "pod1 " + conn.LocalAddr().String()
	for _, tc := range []struct{ send, want string }{
		{"hello\n", me},
		{"hello 3\n", me + " 3"},
		{"sink 5\n" + string(pattern[:5]), me + " sunk 5"},
		{"bulk -1\n", me + ` unknown command "bulk -1"`},
		{"what\n", me + ` unknown command "what"`},
		{"bulk 0\nhello 4\n", me + " 4"},
		{"sink 3\nabc", me + " byte pattern broken after 0 bytes"},
	} {
		io.WriteString(conn, tc.send)
		line, err := r.ReadString('\n')
		if err != nil || strings.TrimSpace(line) != tc.want {
			t.Errorf("%q: %q, %v, want %q", tc.send, line, err, tc.want)
		}
	}
}

func TestDatagrams(t *testing.T) {
	s, _ := start(t)
	port := s.pc.LocalAddr().(*net.UDPAddr).AddrPort().Port()
	for _, loopback := range []string{"127.0.0.1", "::1"} {
		remote := netip.AddrPortFrom(netip.MustParseAddr(loopback), port)
		conn, err := net.DialUDP("udp", nil, net.UDPAddrFromAddrPort(remote))
		if err != nil {
			t.Skipf("no %s: %v", loopback, err)
		}
		defer conn.Close()
		conn.SetDeadline(time.Now().Add(10 * time.Second))
		fmt.Fprint(conn, strings.Repeat("x", 100))
		buf := make([]byte, 200)
		n, err := conn.Read(buf)
		if err != nil {
			t.Fatal(err)
		}
		got, err := ParseAnswer(string(buf[:n]))
		want := Answer{Pod: "pod1", Client: netip.MustParseAddrPort(conn.LocalAddr().String()), Rest: strings.Repeat("x", 64)}
		if err != nil || got != want {
			t.Errorf("answer over %s: %+v, %v, want %+v", loopback, got, err, want)
		}
	}
}

func TestPattern(t *testing.T) {
	b, _ := io.ReadAll(io.LimitReader(&Pattern{}, 200_000))
	for _, tc := range []struct {
		name string
		edit func([]byte) []byte
		want bool
	}{
		{"whole", func(b []byte) []byte { return b }, true},
		{"flipped bit", func(b []byte) []byte { b[150_000] ^= 1; return b }, false},
		{"lost segment", func(b []byte) []byte { return append(b[:1448], b[2896:]...) }, false},
		{"doubled page", func(b []byte) []byte { copy(b[4096:], b[:4096]); return b }, false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			edited := tc.edit(append([]byte(nil), b...))
			if got := (&Pattern{}).Check(edited); got != tc.want {
				t.Errorf("check: %v, want %v", got, tc.want)
			}
		})
	}
	if err := Verify(strings.NewReader(string(b[:10])), 11); err == nil {
		t.Error("verify of a short stream succeeded")
	}
}

func TestParseAnswer(t *testing.T) {
	for _, tc := range []struct {
		in   string
		want Answer
		fail bool
	}{
		{in: "p [2001:db8::1]:5 hello 1\n", want: Answer{"p", netip.MustParseAddrPort("[2001:db8::1]:5"), "hello 1"}},
		{in: "p 192.0.2.1:5", want: Answer{"p", netip.MustParseAddrPort("192.0.2.1:5"), ""}},
		{in: "", fail: true},
		{in: "p 192.0.2.1", fail: true},
	} {
		got, err := ParseAnswer(tc.in)
		if got != tc.want || (err != nil) != tc.fail {
			t.Errorf("%q: %+v, %v", tc.in, got, err)
		}
	}
}
