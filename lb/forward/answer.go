// SPDX-License-Identifier: Apache-2.0

package forward

import "github.com/fairlead/fairlead/lb/packet"

// The rate of RSTs and ICMP errors; abi.h has the same numbers.
const (
	AnswersPerTick = 64
	AnswersBurst   = 1024
)

// tokens are what answers are paid with; new ones come as ticks go by.
type tokens struct {
	left uint32
	tick uint32
}

func (t *tokens) take(now uint32) bool {
	if now != t.tick {
		left := uint64(t.left) + uint64(now-t.tick)*AnswersPerTick
		t.left, t.tick = uint32(min(left, AnswersBurst)), now
	}
	if t.left == 0 {
		return false
	}
	t.left--
	return true
}

// mayAnswer says that there is an answer to the packet, and pays for it. To a
// RST and to a later fragment nothing is said that no backend is there; RSTs
// and ICMP errors have a rate, echo has none.
func (f *Forwarder) mayAnswer(d *decision, reason Reason) bool {
	switch reason {
	case Echo:
		return true
	case Refused:
		if d.pkt.Flags&packet.RST != 0 || d.pkt.Fragment == packet.LaterFragment {
			return false
		}
	}
	return f.tokens.take(d.now)
}

// answer appends what the VIP itself says.
func (f *Forwarder) answer(d *decision, reason Reason, out []byte) (Reason, []byte) {
	if !f.mayAnswer(d, reason) {
		return Rate, out
	}
	start, p := len(out), d.pkt
	out = append(out, d.frame[macsLen/2:macsLen]...)
	out = append(out, d.frame[:macsLen/2]...)
	out = append(out, d.frame[macsLen:p.L3]...)
	switch {
	case reason == Echo:
		out = append(out, d.frame[p.L3:]...)
		p.Rebase(out[start:], 0)
		p.AnswerEcho()
	case reason == PacketTooBig:
		out = packet.AppendTooBig(out, p, uint16(d.room))
	case p.Proto == packet.ProtoTCP:
		out = packet.AppendRST(out, p)
	default:
		out = packet.AppendPortUnreachable(out, p)
	}
	return reason, out
}
