// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bufio"
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"net/netip"
	"strconv"
	"time"

	"github.com/fairlead/fairlead/lb"
	"github.com/fairlead/fairlead/lb/forward"
	"github.com/fairlead/fairlead/lb/packet"
)

// replayLine is a packet and what became of it.
type replayLine struct {
	Number int       `json:"number"` // from 1
	Time   time.Time `json:"time"`
	// Without a verdict the packet was cut off by the capture, Captured bytes of Length, or was Made.
	Captured int `json:"captured"`
	Length   int `json:"length"`
	// Made: by the node, of an earlier packet. That one had the verdict.
	Made      bool      `json:"made,omitempty"`
	Direction direction `json:"direction,omitempty"`
	From      string    `json:"from,omitempty"` // the node that sent it in a tunnel
	Protocol  string    `json:"protocol,omitempty"`
	Src       string    `json:"source,omitempty"` // the client's packet, if in a tunnel
	Dst       string    `json:"destination,omitempty"`
	Verdict   string    `json:"verdict,omitempty"`
	Reason    string    `json:"reason,omitempty"`
	Service   string    `json:"service,omitempty"`
	// To is the Pod that gets the packet, or that a reply comes from, or the next node.
	To string `json:"to,omitempty"`

	ipLength int
}

func (l *replayLine) tuple(p *packet.Packet) {
	switch {
	case p.IsICMP() && p.Version == 6:
		l.Protocol = "icmpv6"
	case p.IsICMP():
		l.Protocol = "icmp"
	case p.Proto == packet.ProtoTCP, p.Proto == packet.ProtoUDP:
		l.Protocol = lb.Proto(p.Proto).String()
	default:
		l.Protocol = strconv.Itoa(int(p.Proto))
	}
	l.Src, l.Dst = endpoint(p.Src, p.SrcPort, p.HasPorts()), endpoint(p.Dst, p.DstPort, p.HasPorts())
}

func endpoint(a packet.Addr, port uint16, hasPorts bool) string {
	if !hasPorts {
		return addrOf(a).String()
	}
	return netip.AddrPortFrom(addrOf(a), port).String()
}

// replayTotals are what is told at the end.
type replayTotals struct {
	mtu                      int
	reasons                  [forward.ReasonCount]uint64
	truncated, made, tooLong uint64
}

func newReplayTotals(mtu int) *replayTotals { return &replayTotals{mtu: mtu} }

func (t *replayTotals) count(l replayLine, r forward.Reason) {
	if l.Made {
		t.made++
	} else {
		t.reasons[r]++
	}
	if l.ipLength > t.mtu {
		t.tooLong++
	}
}

// counters are the reasons that there were, in their order.
func (t *replayTotals) counters() []counterReport {
	counters := []counterReport{}
	for r, n := range t.reasons {
		if n > 0 {
			reason := forward.Reason(r)
			counters = append(counters, counterReport{reason.Verdict().String(), reason.String(), n})
		}
	}
	return counters
}

// warnings are about packets that the capture does not have as they were on the wire.
func (t *replayTotals) warnings() []string {
	var all []string
	if t.truncated > 0 {
		all = append(all, fmt.Sprintf("%d packets are cut off and were not decided, nor do later ones know of them: capture whole packets (tcpdump -s 0)", t.truncated))
	}
	if t.tooLong > 0 {
		all = append(all, fmt.Sprintf("%d packets are longer than the MTU of %d: the capturing machine may have merged them (ethtool -K DEVICE gro off)", t.tooLong, t.mtu))
	}
	return all
}

// replayList is where packets are printed to, one by one.
type replayList interface {
	line(replayLine) error
	end(*replayTotals) error
}

func newReplayList(w io.Writer, asJSON bool) replayList {
	out := bufio.NewWriterSize(w, 1<<16)
	if asJSON {
		return &jsonReplay{w: out}
	}
	return &textReplay{w: out}
}

// textReplay has columns of fixed widths: the longest cell of a long capture
// is not known before its end.
type textReplay struct {
	w     *bufio.Writer
	begun bool
}

const replayColumns = "%7v  %-27s  %-3s  %-6s  %-23s  %-23s  %-7s  %-17s  %-24s  %s\n"

func (l *textReplay) begin() {
	if !l.begun {
		l.begun = true
		fmt.Fprintf(l.w, replayColumns, "PACKET", "TIME", "WAY", "PROTO", "SOURCE", "DESTINATION", "VERDICT", "REASON", "SERVICE", "BACKEND OR NODE")
	}
}

func (l *textReplay) line(r replayLine) error {
	l.begin()
	when := r.Time.UTC().Format("2006-01-02T15:04:05.000000Z")
	if r.Verdict == "" && !r.Made {
		_, err := fmt.Fprintf(l.w, "%7d  %-27s  not decided: cut off, %d of %d bytes\n", r.Number, when, r.Captured, r.Length)
		return err
	}
	dash := func(s string) string { return cmp.Or(s, "-") }
	if r.Made {
		r.Reason = "made_here"
	}
	to := dash(r.To)
	if r.From != "" {
		to += " (sent by " + r.From + ")"
	}
	_, err := fmt.Fprintf(l.w, replayColumns, r.Number, when, r.Direction, dash(r.Protocol), dash(r.Src), dash(r.Dst),
		dash(r.Verdict), r.Reason, dash(r.Service), to)
	return err
}

func (l *textReplay) end(t *replayTotals) error {
	l.begin()
	fmt.Fprintln(l.w)
	p := newPrinter(l.w)
	p.row("VERDICT\tREASON\tPACKETS")
	for _, c := range t.counters() {
		p.row("%s\t%s\t%d", c.Verdict, c.Reason, c.Packets)
	}
	for _, undecided := range []struct {
		why     string
		packets uint64
	}{{"made_here", t.made}, {"truncated", t.truncated}} {
		if undecided.packets > 0 {
			p.row("-\t%s\t%d", undecided.why, undecided.packets)
		}
	}
	if err := p.Flush(); err != nil {
		return err
	}
	return l.w.Flush()
}

// jsonReplay prints one object, packet by packet.
type jsonReplay struct {
	w     *bufio.Writer
	begun bool
}

func (l *jsonReplay) separator() string {
	if l.begun {
		return ","
	}
	l.begun = true
	return `{"packets": [`
}

func (l *jsonReplay) line(r replayLine) error {
	text, err := json.Marshal(r)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(l.w, "%s\n  %s", l.separator(), text)
	return err
}

func (l *jsonReplay) end(t *replayTotals) error {
	if !l.begun {
		fmt.Fprint(l.w, l.separator())
	}
	totals, err := json.Marshal(t.counters())
	if err != nil {
		return err
	}
	fmt.Fprintf(l.w, "\n], \"totals\": %s, \"made\": %d, \"truncated\": %d}\n", totals, t.made, t.truncated)
	return l.w.Flush()
}
