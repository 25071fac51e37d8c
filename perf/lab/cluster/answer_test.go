// SPDX-License-Identifier: Apache-2.0

package cluster_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/fairlead/fairlead/perf/lab/cluster"
)

const (
	atOnce  = 2 * time.Second        // for what is to be there
	silence = 150 * time.Millisecond // for what is not to come
)

// testRefused asks a service without backends: the VIP says no, and the client's
// kernel believes it only with the right checksums.
func testRefused(t *testing.T, c *cluster.Cluster) {
	serve(t, c, cluster.NewService("lab/empty", "Cluster", nil, vipList(40)...))
	before := countersOf(t, c)
	for _, target := range targetsOf(vips(40), cluster.ServicePort) {
		// Shorter and longer than what an ICMP error quotes, even and odd.
		for _, size := range []int{1, 8, 31, 1000} {
			err := tryOnce(t.Context(), c, target, strings.Repeat("x", size), atOnce)
			if !errors.Is(err, unix.ECONNREFUSED) {
				t.Errorf("%s, %d bytes: %v, want %v", target.name, size, err, unix.ECONNREFUSED)
			}
		}
	}
	got := countersOf(t, c).since(before)
	got.expectOnly(t, "refused")
	if got["refused"] != 16 {
		t.Errorf("%d packets refused, want 16", got["refused"])
	}
}

// testUnknownPort asks a VIP on a port that it does not have.
func testUnknownPort(t *testing.T, c *cluster.Cluster) {
	before := countersOf(t, c)
	for _, target := range targetsOf(vips(10), cluster.ServicePort+1) {
		err := tryOnce(t.Context(), c, target, "hello\n", silence)
		var timeout net.Error
		if !errors.As(err, &timeout) || !timeout.Timeout() {
			t.Errorf("%s: %v, want a timeout", target.name, err)
		}
	}
	got := countersOf(t, c).since(before)
	got.expectOnly(t, "unknown_port")
	if got["unknown_port"] < 4 {
		t.Errorf("%d packets to an unknown port, want one or more of 4 connections each", got["unknown_port"])
	}
}

// tryOnce connects, sends and waits for an answer.
func tryOnce(ctx context.Context, c *cluster.Cluster, target target, payload string, timeout time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	conn, err := c.Lab.Client.Dial(ctx, target.Network, netip.AddrPortFrom(target.Client, 0), target.Addr)
	if err != nil {
		return err
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(timeout))
	if _, err := fmt.Fprint(conn, payload); err != nil {
		return err
	}
	n, err := conn.Read(make([]byte, 256))
	if err == nil {
		return fmt.Errorf("%d bytes of an answer: %w", n, os.ErrExist)
	}
	return err
}

// testPing asks the VIPs for echoes, empty to nearly full.
func testPing(t *testing.T, c *cluster.Cluster) {
	const pings = 3
	before := countersOf(t, c)
	for _, vip := range vips(10) {
		for _, size := range []string{"0", "56", "1400"} {
			out, err := c.Lab.Client.Output(t.Context(), "ping", "-n", "-i", "0.01", "-W", "2", "-c", fmt.Sprint(pings), "-s", size, vip.String())
			if err != nil || !strings.Contains(out, fmt.Sprintf(" %d received", pings)) {
				t.Errorf("ping %s with %s bytes: %v: %s", vip, size, err, out)
			}
		}
	}
	got := countersOf(t, c).since(before)
	got.expectOnly(t, "echo")
	if got["echo"] != 6*pings {
		t.Errorf("%d echoes, want %d", got["echo"], 6*pings)
	}
}
