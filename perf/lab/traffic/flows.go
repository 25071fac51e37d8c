// SPDX-License-Identifier: Apache-2.0

package traffic

import (
	"bufio"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/fairlead/fairlead/perf/lab"
	"github.com/fairlead/fairlead/perf/lab/pod"
)

// Kind is what a flow does while it runs.
type Kind uint8

// Idle says nothing, Active exchanges a line every 50 ms, Download and Upload
// move the pattern in chunks.
const (
	Idle Kind = iota
	Active
	Download
	Upload
)

// Pace of running flows: about 6 MB/s for each transfer, so that a hundred
// flows leave a small machine room.
const (
	paceInterval    = 50 * time.Millisecond
	chunk           = 300_000
	exchangeTimeout = 30 * time.Second
)

// Flow is one long-lived TCP connection.
type Flow struct {
	Kind Kind
	Pod  string // the one that answered first
	// Err is why the flow is broken; nil while it holds. Read it while nothing runs.
	Err error

	conn net.Conn
	r    *bufio.Reader
	sent int
}

// Flows are flows of one client. Their owner closes them.
type Flows struct {
	List []*Flow
	// Pace is the time between two exchanges of a flow; 0: 50 ms.
	Pace time.Duration

	stop    context.CancelFunc
	running sync.WaitGroup
}

// Open adds n flows of one kind to the target and lets each speak once.
func (f *Flows) Open(ctx context.Context, from *lab.Namespace, t Target, kind Kind, n int) error {
	return from.Do(func() error {
		for range n {
			conn, err := lab.DialHere(ctx, "tcp", netip.AddrPortFrom(t.Client, 0), t.Addr)
			if err != nil {
				return fmt.Errorf("open flow: %w", err)
			}
			flow := &Flow{Kind: kind, conn: conn, r: bufio.NewReaderSize(conn, 64<<10)}
			f.List = append(f.List, flow)
			if err := flow.hello(); err != nil {
				return fmt.Errorf("open flow: %w", err)
			}
		}
		return nil
	})
}

// Run lets all flows but the idle ones work until Pause.
func (f *Flows) Run(ctx context.Context) {
	ctx, f.stop = context.WithCancel(ctx)
	for _, flow := range f.List {
		if flow.Kind != Idle && flow.Err == nil {
			f.running.Go(func() { flow.run(ctx, cmp.Or(f.Pace, paceInterval)) })
		}
	}
}

// Pause waits until every running flow has ended its exchange, lets all speak,
// idle ones too, and returns how many have broken since the last Pause.
func (f *Flows) Pause() (broken int) {
	f.stop()
	f.running.Wait()
	for _, flow := range f.List {
		if flow.conn == nil {
			continue // counted before
		}
		if flow.Err == nil {
			flow.Err = flow.hello()
		}
		if flow.Err != nil {
			broken++
			flow.conn.Close()
			flow.conn = nil
		}
	}
	return broken
}

// Close ends all flows; none may be running.
func (f *Flows) Close() {
	if f.stop != nil {
		f.stop()
		f.running.Wait()
	}
	for _, flow := range f.List {
		if flow.conn != nil {
			flow.conn.Close()
			flow.conn = nil
		}
	}
}

// ByPod counts the flows that hold, by Pod.
func (f *Flows) ByPod() map[string]int {
	pods := map[string]int{}
	for _, flow := range f.List {
		if flow.Err == nil {
			pods[flow.Pod]++
		}
	}
	return pods
}

// Forget drops the broken flows from the list and returns why the first of them
// broke, nil when all hold.
func (f *Flows) Forget() error {
	var first error
	f.List = slices.DeleteFunc(f.List, func(flow *Flow) bool {
		if flow.Err != nil && first == nil {
			first = fmt.Errorf("flow to %s: %w", flow.Pod, flow.Err)
		}
		return flow.Err != nil
	})
	return first
}

// run repeats exchanges at the flow's pace, never ending one halfway.
func (fl *Flow) run(ctx context.Context, interval time.Duration) {
	pace := time.NewTicker(interval)
	defer pace.Stop()
	exchange := map[Kind]func() error{Active: fl.hello, Download: fl.download, Upload: fl.upload}[fl.Kind]
	for {
		select {
		case <-ctx.Done():
			return
		case <-pace.C:
		}
		if fl.Err = exchange(); fl.Err != nil {
			return
		}
	}
}

var errOtherPod = errors.New("another pod answered")

// hello exchanges a line and checks that it is still the same Pod that answers.
func (fl *Flow) hello() error {
	fl.conn.SetDeadline(time.Now().Add(exchangeTimeout))
	fl.sent++
	if _, err := fmt.Fprintf(fl.conn, "hello %d\n", fl.sent); err != nil {
		return err
	}
	return fl.answer(fmt.Sprint(fl.sent))
}

// answer reads a line of the Pod that must end so.
func (fl *Flow) answer(rest string) error {
	line, err := fl.r.ReadString('\n')
	if err != nil {
		return err
	}
	a, err := pod.ParseAnswer(line)
	switch {
	case err != nil:
		return err
	case a.Rest != rest:
		return fmt.Errorf("answer %q, want %q", line, rest)
	case fl.Pod == "":
		fl.Pod = a.Pod
	case fl.Pod != a.Pod:
		return fmt.Errorf("%w: %s", errOtherPod, a.Pod)
	}
	return nil
}

func (fl *Flow) download() error {
	fl.conn.SetDeadline(time.Now().Add(exchangeTimeout))
	if _, err := fmt.Fprintf(fl.conn, "bulk %d\n", chunk); err != nil {
		return err
	}
	return pod.Verify(fl.r, chunk)
}

func (fl *Flow) upload() error {
	fl.conn.SetDeadline(time.Now().Add(exchangeTimeout))
	if _, err := fmt.Fprintf(fl.conn, "sink %d\n", chunk); err != nil {
		return err
	}
	if _, err := io.Copy(fl.conn, io.LimitReader(&pod.Pattern{}, chunk)); err != nil {
		return err
	}
	return fl.answer(fmt.Sprintf("sunk %d", chunk))
}
