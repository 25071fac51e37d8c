// SPDX-License-Identifier: Apache-2.0

// Package traffic is the client of a lab: many short requests that are counted
// by the Pod that answered, and long-lived flows that must not break.
package traffic

import (
	"bufio"
	"cmp"
	"context"
	"fmt"
	"math"
	"net"
	"net/netip"
	"strings"
	"sync"
	"time"

	"github.com/fairlead/fairlead/perf/lab"
	"github.com/fairlead/fairlead/perf/lab/pod"
)

// Target is where requests go.
type Target struct {
	Network string // "tcp" or "udp"
	Addr    netip.AddrPort
	// Client is the address from which they come and which the Pods must see.
	Client netip.Addr
	// Timeout is how long one request may take; 0: 3 s, which is beyond the first
	// retransmit of a SYN.
	Timeout time.Duration
}

// Result counts requests. A failed one has no answer or a wrong one.
type Result struct {
	Requests, Failed int
	// WrongClient counts answers that name another client address. The port may
	// differ: a client tuple in use by another service port gets a substitute.
	WrongClient int
	Clients     map[string]int // addresses that Pods saw
	Shares      map[string]int // answers by Pod
	FirstError  error
	// Slowest is how long the slowest answer took.
	Slowest time.Duration
}

// Limits of one request, and how many run at once.
const (
	requestTimeout = 3 * time.Second
	workers        = 8
	giveUpAfter    = 24 // failures
)

// Requests makes n requests, each on a connection of its own, from the
// namespace. It ends early with the context, or where so many fail that the
// path must be broken; the rest counts as failed.
func Requests(ctx context.Context, from *lab.Namespace, t Target, n int) Result {
	r := Result{Requests: n, Clients: map[string]int{}, Shares: map[string]int{}}
	ctx, giveUp := context.WithCancel(ctx)
	defer giveUp()
	var mu sync.Mutex
	var wg sync.WaitGroup
	next := make(chan int, n)
	for i := range n {
		next <- i
	}
	close(next)
	for range min(workers, n) {
		wg.Go(func() {
			err := from.Do(func() error {
				for i := range next {
					begun := time.Now()
					answer, err := request(ctx, t, i)
					took := time.Since(begun)
					mu.Lock()
					if r.count(t, answer, err); r.Failed == giveUpAfter {
						giveUp()
					}
					if err == nil {
						r.Slowest = max(r.Slowest, took)
					}
					mu.Unlock()
				}
				return nil
			})
			if err != nil {
				mu.Lock()
				r.FirstError = err
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	for _, answered := range r.Shares {
		n -= answered
	}
	r.Failed = n
	return r
}

func (r *Result) count(t Target, a pod.Answer, err error) {
	if err != nil {
		r.Failed++
		if r.FirstError == nil {
			r.FirstError = err
		}
		return
	}
	r.Shares[a.Pod]++
	r.Clients[a.Client.Addr().String()]++
	if a.Client.Addr() != t.Client {
		r.WrongClient++
	}
}

// ClientPreserved says whether there were answers and all named the client.
func (r Result) ClientPreserved() bool { return r.WrongClient == 0 && len(r.Shares) > 0 }

// request asks once.
func request(ctx context.Context, t Target, i int) (pod.Answer, error) {
	if err := ctx.Err(); err != nil {
		return pod.Answer{}, err
	}
	ctx, cancel := context.WithTimeout(ctx, cmp.Or(t.Timeout, requestTimeout))
	defer cancel()
	conn, err := lab.DialHere(ctx, t.Network, netip.AddrPortFrom(t.Client, 0), t.Addr)
	if err != nil {
		return pod.Answer{}, err
	}
	defer conn.Close()
	defer endWith(ctx, conn)()
	if _, err := fmt.Fprintf(conn, "hello %d\n", i); err != nil {
		return pod.Answer{}, err
	}
	line, err := bufio.NewReader(conn).ReadString('\n')
	if err != nil {
		return pod.Answer{}, err
	}
	a, err := pod.ParseAnswer(line)
	if err == nil && !strings.HasSuffix(strings.TrimSpace(a.Rest), fmt.Sprint(i)) {
		err = fmt.Errorf("answer %q to request %d", line, i)
	}
	return a, err
}

// endWith makes the connection's reads and writes end with the context.
func endWith(ctx context.Context, conn net.Conn) (stop func() bool) {
	return context.AfterFunc(ctx, func() { conn.SetDeadline(time.Unix(1, 0)) })
}

// Fits says whether n of total answers is what chance allows for this share:
// within five standard deviations, which one run in a million exceeds.
func Fits(n, total int, share float64) bool {
	expected := float64(total) * share
	return math.Abs(float64(n)-expected) <= 5*math.Sqrt(expected*(1-share))+1e-9
}
