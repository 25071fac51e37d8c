// SPDX-License-Identifier: Apache-2.0

package pktgen

import (
	"encoding/binary"
	"fmt"
	"slices"

	"github.com/fairlead/fairlead/lb/packet"
)

// template is what the program is told of the frame.
type template struct {
	frame      [MaxFrame]byte
	length     int
	v4, udp    bool
	varyPort   bool
	sourceNet  uint32
	sourceBits int
	ipSum      uint32
	l4Sum      uint32
}

func newTemplate(cfg Config) (*template, error) {
	if len(cfg.Frame) > MaxFrame {
		return nil, fmt.Errorf("frame of %d bytes: want at most %d", len(cfg.Frame), MaxFrame)
	}
	if cfg.SourceBits < 0 || cfg.SourceBits > 32 {
		return nil, fmt.Errorf("%d source bits: want 0 to 32", cfg.SourceBits)
	}
	if cfg.Rate < 0 {
		return nil, fmt.Errorf("rate %d: want 0 or more", cfg.Rate)
	}
	var p packet.Packet
	b := slices.Clone(cfg.Frame)
	if !p.Parse(b) || !p.HasPorts() || p.End != len(b) || p.Version == 4 && p.L4-p.L3 != packet.IPv4Len {
		return nil, fmt.Errorf("frame %x: want TCP or UDP and no IP options", cfg.Frame)
	}
	t := &template{
		length: len(b), v4: p.Version == 4, udp: p.Proto == packet.ProtoUDP,
		varyPort: cfg.VaryPort, sourceBits: cfg.SourceBits,
	}
	source := p.SrcBytes()[len(p.SrcBytes())-4:]
	t.sourceNet = binary.BigEndian.Uint32(source) &^ uint32(1<<cfg.SourceBits-1)
	t.sum(&p, b, source)
	copy(t.frame[:], b)
	return t, nil
}

// sum takes the sums of b without what the program writes. The port stays in b,
// where the program finds it if it does not vary.
func (t *template) sum(p *packet.Packet, b, source []byte) {
	clear(source)
	checkAt := p.L4 + 16
	if t.udp {
		checkAt = p.L4 + 6
	}
	clear(b[checkAt : checkAt+2])
	if t.v4 {
		clear(b[p.L3+10 : p.L3+12])
		t.ipSum = sum(0, b[p.L3:p.L4])
	}
	pseudo := binary.BigEndian.AppendUint32(nil, uint32(p.End-p.L4))
	pseudo = append(pseudo, 0, 0, 0, p.Proto)
	t.l4Sum = sum(sum(sum(sum(0, p.SrcBytes()), p.DstBytes()), pseudo), b[p.L4+2:p.End])
}

// sum adds up words as they lie in memory (RFC 1071: the order of bytes does
// not matter as long as it is always the same).
func sum(n uint32, b []byte) uint32 {
	for len(b) >= 2 {
		n += uint32(binary.NativeEndian.Uint16(b))
		b = b[2:]
	}
	if len(b) == 1 {
		n += uint32(binary.NativeEndian.Uint16([]byte{b[0], 0}))
	}
	return n
}

// constants are the program's variables, by name.
func (t *template) constants() map[string]any {
	bit := func(b bool) uint8 {
		if b {
			return 1
		}
		return 0
	}
	return map[string]any{
		"frame": t.frame, "frame_len": uint32(t.length), "frame_v4": bit(t.v4), "frame_udp": bit(t.udp),
		"vary_port": bit(t.varyPort), "source_net": t.sourceNet, "source_bits": uint32(t.sourceBits),
		"ip_sum": t.ipSum, "l4_sum": t.l4Sum,
	}
}
