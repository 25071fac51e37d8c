// SPDX-License-Identifier: Apache-2.0

package agent_test

import (
	"context"
	"net"
	"net/netip"
	"time"

	"github.com/fairlead/fairlead/perf/lab"
	"github.com/fairlead/fairlead/perf/lab/pod"
)

// datagrams go from one port of the client to a VIP.
type datagrams struct {
	*world
	to   netip.AddrPort
	conn net.Conn
}

func (d *datagrams) close() {
	if d.conn != nil {
		d.conn.Close()
	}
}

// answer is the Pod that answers a datagram.
func (d *datagrams) answer() string {
	d.t.Helper()
	name, err := d.ask(patience)
	d.must(err)
	return name
}

// ask sends one datagram and waits so long for the answer.
func (d *datagrams) ask(timeout time.Duration) (string, error) {
	if d.conn == nil {
		err := d.Lab.Client.Do(func() (err error) {
			d.conn, err = lab.DialHere(context.WithoutCancel(d.t.Context()), "udp", netip.AddrPort{}, d.to)
			return err
		})
		if err != nil {
			return "", err
		}
	}
	buffer := make([]byte, 1500)
	if _, err := d.conn.Write([]byte("hello")); err != nil {
		return "", err
	}
	if err := d.conn.SetReadDeadline(time.Now().Add(timeout)); err != nil {
		return "", err
	}
	n, err := d.conn.Read(buffer)
	if err != nil {
		return "", err
	}
	answer, err := pod.ParseAnswer(string(buffer[:n]))
	return answer.Pod, err
}
