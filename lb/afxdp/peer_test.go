// SPDX-License-Identifier: Apache-2.0

package afxdp

import (
	"encoding/binary"
	"errors"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/fairlead/fairlead/perf/lab"
)

// peer is a raw socket that sends and receives test frames at a wire's far end.
type peer struct {
	fd  int
	buf [4096]byte
}

func newPeer(t testing.TB, ns *lab.Namespace, index int) *peer {
	t.Helper()
	p := &peer{}
	proto := binary.NativeEndian.Uint16(binary.BigEndian.AppendUint16(nil, testEtherType))
	must(t, ns.Do(func() (err error) {
		if p.fd, err = unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, int(proto)); err != nil {
			return err
		}
		return errors.Join(
			unix.Bind(p.fd, &unix.SockaddrLinklayer{Protocol: proto, Ifindex: index}),
			unix.SetsockoptInt(p.fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, 64<<20),
			unix.SetsockoptTimeval(p.fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Sec: 10}))
	}))
	t.Cleanup(func() { unix.Close(p.fd) })
	return p
}

// testFrame is a frame with a number.
func testFrame(number int) []byte {
	f := make([]byte, frameLen)
	copy(f, "\xff\xff\xff\xff\xff\xff\x02\x00\x00\x00\x00\x01")
	binary.BigEndian.PutUint16(f[12:], testEtherType)
	binary.BigEndian.PutUint32(f[14:], uint32(number))
	return f
}

func numberOf(frame []byte) int { return int(binary.BigEndian.Uint32(frame[14:])) }

// send sends the frames numbered from first to before end. The far end's own
// queue may be full for a moment.
func (p *peer) send(t testing.TB, first, end int) {
	t.Helper()
	for number := first; number < end; number++ {
		p.write(t, testFrame(number))
	}
}

func (p *peer) write(t testing.TB, frame []byte) {
	t.Helper()
	for tries := 0; ; tries++ {
		_, err := unix.Write(p.fd, frame)
		if errors.Is(err, unix.ENOBUFS) && tries < 1_000_000 {
			continue
		}
		must(t, err)
		return
	}
}

// receive waits for one frame. The memory is good until the next.
func (p *peer) receive(t testing.TB) []byte {
	t.Helper()
	n, err := unix.Read(p.fd, p.buf[:])
	for errors.Is(err, unix.EINTR) { // signal(7): of a socket with a timeout, always
		n, err = unix.Read(p.fd, p.buf[:])
	}
	if err != nil {
		t.Fatalf("receive frame from peer: %v", err)
	}
	return p.buf[:n]
}

// expect receives frames with these numbers, in this order.
func (p *peer) expect(t testing.TB, first, end int) {
	t.Helper()
	for number := first; number < end; number++ {
		if f := p.receive(t); numberOf(f) != number {
			t.Fatalf("received frame %d, want %d", numberOf(f), number)
		}
	}
}
