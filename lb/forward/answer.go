// SPDX-License-Identifier: Apache-2.0

package forward

import "github.com/fairlead/fairlead/lb/packet"

// The rate of RSTs and unreachables; abi.h has the same numbers.
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

// answer appends what the VIP itself says. A RST is not answered; RSTs and
// unreachables have a rate, echo has none.
func (f *Forwarder) answer(d *decision, reason Reason, out []byte) (Reason, []byte) {
	tcp := d.pkt.Proto == packet.ProtoTCP
	if reason == Refused && (tcp && d.pkt.Flags&packet.RST != 0 || !f.tokens.take(d.now)) {
		return Rate, out
	}
	start := len(out)
	out = append(out, d.frame[macsLen/2:macsLen]...)
	out = append(out, d.frame[:macsLen/2]...)
	switch {
	case reason == Echo:
		out = append(out, d.frame[macsLen:]...)
		d.pkt.Rebase(out[start:], 0)
		d.pkt.AnswerEcho()
	case tcp:
		out = append(out, d.frame[macsLen:packet.EthernetLen]...)
		out = packet.AppendRST(out, &d.pkt)
	default:
		out = append(out, d.frame[macsLen:packet.EthernetLen]...)
		out = packet.AppendPortUnreachable(out, &d.pkt)
	}
	return reason, out
}
