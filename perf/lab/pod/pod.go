// SPDX-License-Identifier: Apache-2.0

// Package pod is the small server that the lab's Pods run: it tells its name
// and the client's address as it sees it, over TCP and UDP, IPv4 and IPv6.
//
// TCP, one command a line, any number on a connection:
//
//	hello [word]   → NAME CLIENT [word]
//	bulk BYTES     → so many bytes of the pattern
//	sink BYTES     → reads so many bytes of the pattern, then NAME CLIENT sunk BYTES
//
// UDP: every datagram is answered by NAME CLIENT and the first 64 bytes of it.
package pod

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"sync"
)

// maxEcho is how much of a datagram comes back.
const maxEcho = 64

// Server answers on one port. Its maker closes it.
type Server struct {
	name string
	ln   net.Listener
	pc   *net.UDPConn
	wg   sync.WaitGroup

	mu     sync.Mutex
	conns  map[net.Conn]bool
	closed bool
}

// Listen opens the sockets in the namespace of the calling thread and begins to
// answer.
func Listen(name string, port uint16) (*Server, error) {
	addr := net.JoinHostPort("", strconv.Itoa(int(port)))
	var lc net.ListenConfig
	lc.SetMultipathTCP(false)
	ln, err := lc.Listen(context.Background(), "tcp", addr)
	if err != nil {
		return nil, err
	}
	pc, err := lc.ListenPacket(context.Background(), "udp", addr)
	if err != nil {
		ln.Close()
		return nil, err
	}
	s := &Server{name: name, ln: ln, pc: pc.(*net.UDPConn), conns: map[net.Conn]bool{}}
	s.wg.Go(s.acceptAll)
	s.wg.Go(s.answerDatagrams)
	return s, nil
}

// Close ends all connections and waits for their goroutines.
func (s *Server) Close() error {
	s.mu.Lock()
	s.closed = true
	for c := range s.conns {
		c.Close()
	}
	s.mu.Unlock()
	err := errors.Join(s.ln.Close(), s.pc.Close())
	s.wg.Wait()
	return err
}

func (s *Server) acceptAll() {
	for {
		conn, err := s.ln.Accept()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			continue // a connection that its client gave up
		}
		if s.track(conn) {
			s.wg.Go(func() {
				defer s.forget(conn)
				s.answerLines(conn)
			})
		}
	}
}

// track registers a connection for Close; false: too late, it is closed.
func (s *Server) track(c net.Conn) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		c.Close()
		return false
	}
	s.conns[c] = true
	return true
}

func (s *Server) forget(c net.Conn) {
	c.Close()
	s.mu.Lock()
	delete(s.conns, c)
	s.mu.Unlock()
}

// answerLines serves one connection until its client ends it.
func (s *Server) answerLines(conn net.Conn) {
	who := s.name + " " + unmapped(conn.RemoteAddr().(*net.TCPAddr).AddrPort()).String()
	r := bufio.NewReader(conn)
	for {
		line, err := r.ReadString('\n')
		if err != nil {
			return
		}
		if err := s.answer(conn, r, who, strings.TrimSpace(line)); err != nil {
			return
		}
	}
}

// answer does one command. An error ends the connection.
func (s *Server) answer(w io.Writer, r io.Reader, who, line string) error {
	command, arg, _ := strings.Cut(line, " ")
	if command == "hello" {
		_, err := io.WriteString(w, strings.TrimSpace(who+" "+arg)+"\n")
		return err
	}
	n, err := strconv.ParseInt(arg, 10, 64)
	if err != nil || n < 0 || command != "bulk" && command != "sink" {
		_, err := fmt.Fprintf(w, "%s unknown command %q\n", who, line)
		return err
	}
	if command == "bulk" {
		_, err := io.Copy(w, io.LimitReader(&Pattern{}, n))
		return err
	}
	if err := Verify(io.LimitReader(r, n), n); err != nil {
		fmt.Fprintf(w, "%s %v\n", who, err)
		return err
	}
	_, err = fmt.Fprintf(w, "%s sunk %d\n", who, n)
	return err
}

func (s *Server) answerDatagrams() {
	buf := make([]byte, 1<<16)
	for {
		n, client, err := s.pc.ReadFromUDPAddrPort(buf)
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			continue // an ICMP error about an earlier answer
		}
		reply := fmt.Appendf(nil, "%s %s %s", s.name, unmapped(client), buf[:min(n, maxEcho)])
		s.pc.WriteToUDPAddrPort(reply, client)
	}
}

// unmapped turns the IPv4-mapped address of a dual-stack socket into IPv4.
func unmapped(ap netip.AddrPort) netip.AddrPort {
	return netip.AddrPortFrom(ap.Addr().Unmap().WithZone(""), ap.Port())
}
