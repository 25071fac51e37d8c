// SPDX-License-Identifier: Apache-2.0

package forwardtest

import (
	"encoding/binary"
	"slices"

	"github.com/fairlead/fairlead/lb"
	"github.com/fairlead/fairlead/lb/forward"
)

// All are all vectors. Names are unique.
func All() []Vector {
	return slices.Concat(
		handVectors(), passVectors(), leftVectors(), adoptVectors(), vipVectors(), truncatedVectors(),
		ingressVectors(), encapVectors(), brokenVectors(),
		tunnelVectors(), forgedVectors(), positionVectors(), redirectVectors(),
		flowVectors(), handshakeVectors(), fullVectors(), substituteVectors(),
		changeVectors(), affinityVectors(),
		answerVectors(), rateVectors(), replyVectors(), clampVectors(),
		tagVectors(), headerVectors(), fragmentVectors(), relatedVectors(), oversizedVectors(), pathVectors(), martianVectors(), ecnVectors(), masqueradedVectors(),
	)
}

// framer is anything that packettest builds.
type framer interface{ Bytes() []byte }

type raw []byte

func (r raw) Bytes() []byte { return r }

// in is a packet that comes in, at tick start. What it becomes is left out for
// pass and drop, and more than one frame for a packet that is cut.
func in(p framer, reason forward.Reason, want ...[]byte) Step {
	s := Step{Tick: start, Packet: p.Bytes(), Reason: reason}
	if len(want) > 0 {
		s.Want, s.More = want[0], want[1:]
	}
	return s
}

// out is a packet that leaves.
func out(p framer, reason forward.Reason, want ...[]byte) Step {
	s := in(p, reason, want...)
	s.Way = Out
	return s
}

// after moves a step to so many ticks after start.
func (s Step) after(ticks uint32) Step {
	s.Tick = start + ticks
	return s
}

// syncing changes the node's table before the step.
func (s Step) syncing(services ...lb.Service) Step {
	s.Table = table(services...)
	return s
}

// patch is a frame with some bytes changed.
func patch(f framer, offset int, bytes ...byte) raw {
	b := slices.Clone(f.Bytes())
	copy(b[offset:], bytes)
	return b
}

// cutInside is a tunnel frame over IPv4 of so many bytes whose outer lengths
// agree with that.
func cutInside(f framer, n int) raw {
	b := slices.Clone(f.Bytes()[:n])
	binary.BigEndian.PutUint16(b[16:], uint16(n-14))
	binary.BigEndian.PutUint16(b[38:], uint16(n-34))
	return b
}

// vector is one with node a's ordinary settings.
func vector(name string, tables []*lb.Table, steps ...Step) Vector {
	return Vector{Name: name, Settings: settings(), Tables: tables, Steps: steps}
}
